//! Compiles the programs to BPF byte code with clang.

use std::path::{Path, PathBuf};

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    // bpf/*.h as libbpf-sys vendors them; <asm/types.h> is elsewhere on multiarch systems such as
    // Debian.
    let mut args = vec!["-Wall".to_owned(), "-Werror".to_owned()];
    if let Some(vendored) = std::env::var_os("DEP_BPF_INCLUDE") {
        args.push(format!("-I{}", Path::new(&vendored).display()));
    }
    let multiarch = format!("/usr/include/{arch}-linux-gnu");
    if Path::new(&multiarch).is_dir() {
        args.push(format!("-I{multiarch}"));
    }
    println!("cargo:rerun-if-changed=vxlan.h");
    for name in ["vtep", "packet", "underlay", "generate"] {
        let source = format!("{name}.bpf.c");
        println!("cargo:rerun-if-changed={source}");
        libbpf_cargo::SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{name}.bpf.o")))
            .clang_args(&args)
            .build()
            .unwrap_or_else(|why| panic!("clang (14 or later) must compile bpf/{source}: {why}"));
    }
}
