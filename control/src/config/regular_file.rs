//! Opens files that an operator names. A pipe could block the control thread, a device has no end:
//! regular files only, and no more of them than can be used.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Bytes of a configuration file, at most: more than the entries of full tables take.
pub(super) const LONGEST_CONFIGURATION: u64 = 512 << 20;

/// Opens a regular file for reading.
///
/// # Errors
/// Those of the file system; `path` is something else than a regular file.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    // Before it is opened as well: opening alone starts some devices.
    check_regular(&fs::metadata(path)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file; `None` if it is longer than `longest` bytes.
///
/// # Errors
/// As [`open_regular`]; the file is not UTF-8.
pub fn read_regular(path: &Path, longest: u64) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    let mut file = open_regular(path)?.take(longest.saturating_add(1));
    file.read_to_end(&mut text)?;
    if text.len() as u64 > longest {
        return Ok(None);
    }
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "must be UTF-8");
    String::from_utf8(text).map(Some).map_err(invalid)
}

/// # Errors
/// It is something else than a regular file.
pub(super) fn check_regular(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let message = "must be a regular file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn neither_pipes_nor_devices_nor_long_files_are_read() {
        let dir = std::env::temp_dir().join(format!("regular-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, pipe) = (dir.join("file"), dir.join("pipe"));
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        for special in [&*pipe, &*dir, Path::new("/dev/zero")] {
            let error = read_regular(special, 5).unwrap_err().to_string();
            assert_eq!(error, "must be a regular file", "{}", special.display());
        }
        fs::write(&file, "12345").unwrap();
        assert_eq!(read_regular(&file, 5).unwrap().as_deref(), Some("12345"));
        assert_eq!(read_regular(&file, 4).unwrap(), None);
        fs::write(&file, [0xff]).unwrap();
        assert_eq!(
            read_regular(&file, 5).unwrap_err().to_string(),
            "must be UTF-8"
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}
