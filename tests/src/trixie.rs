//! The routing daemons of Debian 13, FRR 10.3 among them, in a root directory that
//! scripts/make-peers creates.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The root directory. The first call on a machine creates it, which takes half a minute and a
/// Debian mirror.
///
/// # Panics
/// If it can't be created; the message has the output of scripts/make-peers.
#[must_use]
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/make-peers");
        let made = Command::new("timeout")
            .args(["600", script])
            .stdin(Stdio::null())
            .output()
            .expect("timeout (coreutils) is installed: run scripts/setup");
        let (out, err) = (
            String::from_utf8_lossy(&made.stdout),
            String::from_utf8_lossy(&made.stderr),
        );
        assert!(
            made.status.success(),
            "this test needs FRR 10.3, and scripts/make-peers could not create a root directory of \
             Debian 13 ({}):\n{err}",
            made.status
        );
        PathBuf::from(out.trim_end())
    })
}
