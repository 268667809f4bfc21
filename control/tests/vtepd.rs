//! The program `vtepd`, as far as it needs no host.

use std::fs::File;
use std::process::{Command, Stdio};

/// Output that can't be written is a failure of its own, not a panic.
#[test]
fn a_check_whose_output_can_not_be_written_fails() {
    let file = std::env::temp_dir().join(format!("vtepd-check-{}.toml", std::process::id()));
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let check = |text: &str, stdout: Stdio, stderr: Stdio| {
        std::fs::write(&file, text).unwrap();
        let mut vtepd = Command::new(env!("CARGO_BIN_EXE_vtepd"));
        vtepd.args(["--check", "--offline", "--config"]).arg(&file);
        let status = vtepd.stdout(stdout).stderr(stderr).status().unwrap();
        status.code()
    };
    let valid = "[vtep]\naddress = \"203.0.113.2\"\nunderlay = [\"eth0\"]\n";
    assert_eq!(check(valid, Stdio::null(), Stdio::null()), Some(0));
    assert_eq!(check(valid, full(), Stdio::null()), Some(1));
    assert_eq!(check("wrong", Stdio::null(), full()), Some(1));
    std::fs::remove_file(&file).unwrap();
    let mut vtepd = Command::new(env!("CARGO_BIN_EXE_vtepd"));
    vtepd.args(["--log", "=,="]).stderr(full());
    assert_eq!(vtepd.status().unwrap().code(), Some(2));
    let mut vtepctl = Command::new(env!("CARGO_BIN_EXE_vtepctl"));
    vtepctl.args(["--socket", "/nonexistent", "show", "status"]);
    assert_eq!(vtepctl.stderr(full()).status().unwrap().code(), Some(1));
}
