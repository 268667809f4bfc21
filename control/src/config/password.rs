//! The TCP-MD5 key of a BGP session (RFC 2385), read from a file.

use std::fmt;
use std::path::{Path, PathBuf};

use super::regular_file::open_regular;
use super::value::Read as ReadValue;

/// Where a password comes from: its file, or for requests what has been read from that file before.
pub(super) type PasswordSource<'a> = &'a dyn Fn(&Path) -> ReadValue<Password>;

/// A TCP-MD5 key and the file that it was read from. The key is never shown: `Debug` and the
/// saved configuration name the file only.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    file: PathBuf,
    key: Box<[u8]>,
}

impl Password {
    /// `TCP_MD5SIG_MAXKEYLEN` in Linux include/uapi/linux/tcp.h.
    pub const LONGEST: usize = 80;

    /// Reads a key: the whole file except for one line end at its end.
    ///
    /// # Errors
    /// The file can't be read, all users may read it, or it holds no key of 1 to 80 bytes on one
    /// line.
    pub fn read(file: &Path) -> Result<Self, String> {
        use std::io::Read;
        use std::os::unix::fs::MetadataExt;
        let shown = file.display();
        if !file.is_absolute() {
            return Err(format!(
                "invalid path {shown}: must be absolute, such as \"/etc/vtepd/bgp.key\""
            ));
        }
        let unread = |error: std::io::Error| format!("{shown}: can't be read: {error}");
        let open = open_regular(file).map_err(unread)?;
        let mode = open.metadata().map_err(unread)?.mode();
        if mode & 0o007 != 0 {
            return Err(format!(
                "{shown}: accessible to all users (mode {:04o}); chmod 600 {shown}",
                mode & 0o7777
            ));
        }
        let mut text = Vec::new();
        open.take(Self::LONGEST as u64 + 3)
            .read_to_end(&mut text)
            .map_err(unread)?;
        let key = text.strip_suffix(b"\n").unwrap_or(&text);
        let key = key.strip_suffix(b"\r").unwrap_or(key);
        if key.is_empty() || key.len() > Self::LONGEST || key.contains(&b'\n') {
            let longest = Self::LONGEST;
            return Err(format!(
                "invalid password in {shown}: must be 1 to {longest} bytes on one line"
            ));
        }
        Ok(Self {
            file: file.to_owned(),
            key: key.into(),
        })
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The key, for the kernel.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_one_line_that_not_all_may_read() {
        let dir = std::env::temp_dir().join(format!("vtepd-password-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("key");
        let read = |text: &[u8], mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Password::read(&file)
        };
        let good = read(b"s3cret word\r\n", 0o640).unwrap();
        assert_eq!((good.key(), good.file()), (&b"s3cret word"[..], &*file));
        assert!(!format!("{good:?}").contains("s3cret"));
        assert_eq!(read(&[b'x'; 80], 0o600).unwrap().key().len(), 80);
        for (text, mode, wrong) in [
            (&b"s3cret\n"[..], 0o644, "(mode 0644); chmod 600"),
            (b"\n", 0o600, "invalid password in"),
            (b"s3cret\ntwo\n", 0o600, "must be 1 to 80 bytes on one line"),
            (&[b'x'; 81], 0o600, "must be 1 to 80 bytes on one line"),
        ] {
            let error = read(text, mode).unwrap_err();
            assert!(
                error.contains(wrong) && !error.contains("s3cret"),
                "{error}"
            );
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(
            Password::read(&file)
                .unwrap_err()
                .contains("can't be read: No such file")
        );
        assert!(
            Password::read(Path::new("/dev/zero"))
                .unwrap_err()
                .contains("must be a regular file")
        );
        assert!(
            Password::read(Path::new("key"))
                .unwrap_err()
                .contains("must be absolute")
        );
    }
}
