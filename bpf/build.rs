//! Compiles `vtep.bpf.c` to BPF byte code with clang.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=vtep.bpf.c");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    // bpf/*.h as libbpf-sys vendors them; <asm/types.h> is elsewhere on multiarch systems such as Debian.
    let mut args = vec!["-Wall".to_owned(), "-Werror".to_owned()];
    if let Some(vendored) = std::env::var_os("DEP_BPF_INCLUDE") {
        args.push(format!("-I{}", Path::new(&vendored).display()));
    }
    let multiarch = format!("/usr/include/{arch}-linux-gnu");
    if Path::new(&multiarch).is_dir() {
        args.push(format!("-I{multiarch}"));
    }
    libbpf_cargo::SkeletonBuilder::new()
        .source("vtep.bpf.c")
        .obj(out.join("vtep.bpf.o"))
        .clang_args(args)
        .build()
        .expect("clang (14 or later) must compile bpf/vtep.bpf.c");
}
