//! Replaces a file so that a crash leaves the old or the new text, never a mix or nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use super::regular_file::check_regular;

/// The mode of a file that did not exist: its owner writes, its group reads.
const NEW_FILE: u32 = 0o640;

/// Writes `text` to a temporary file next to `path`, syncs it, renames it, and syncs the
/// directory. Mode, owner and group stay those of the file that is replaced; of a symbolic link
/// the target is replaced.
///
/// # Errors
/// Those of the file system; `path` is something else than a regular file, which could block and
/// keeps no text. Then `path` is unchanged.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        // A link whose target is missing stays as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            path.to_owned()
        }
        found => found?,
    };
    let old = fs::metadata(&target).ok();
    old.as_ref().map_or(Ok(()), check_regular)?;
    let mut temporary = OsString::from(&target);
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let written =
        write(temporary, text, old.as_ref()).and_then(|()| fs::rename(temporary, &target));
    if written.is_err() {
        // What the failed attempt has left; the error that is reported is the first one.
        let _ = fs::remove_file(temporary);
        return written;
    }
    let directory = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn write(path: &Path, text: &str, like: Option<&fs::Metadata>) -> io::Result<()> {
    // A link that someone has put there is removed, not followed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    match like {
        Some(old) => {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(old.permissions())?;
        }
        None => file.set_permissions(PermissionsExt::from_mode(NEW_FILE))?,
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    /// Finding O9.
    #[test]
    fn mode_owner_and_links_stay() {
        let dir = std::env::temp_dir().join(format!("replace-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, link) = (dir.join("real.toml"), dir.join("vtepd.toml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        // Only root may give files away; anyone may keep what is theirs.
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&file, Some(65534), Some(65533)).unwrap();
        }
        let owner = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
        let before = owner(&file);
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        // A link in the place of the temporary file is not followed.
        let bait = dir.join("bait");
        fs::write(&bait, "bait").unwrap();
        std::os::unix::fs::symlink(&bait, dir.join("real.toml.new")).unwrap();
        replace_file(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_to_string(&bait).unwrap(), "bait");
        assert_eq!((mode(&file), owner(&file)), (0o640, before));
        let fresh = dir.join("fresh.toml");
        replace_file(&fresh, "x").unwrap();
        assert_eq!(mode(&fresh), NEW_FILE);
        let names = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert!(
            names
                .into_iter()
                .all(|name| !name.to_string_lossy().ends_with(".new"))
        );
        assert!(replace_file(&dir.join("none/x"), "x").is_err());
        let dangling = dir.join("dangling");
        std::os::unix::fs::symlink(dir.join("none/x"), &dangling).unwrap();
        assert!(replace_file(&dangling, "x").is_err());
        assert!(dangling.is_symlink());
        let directory = dir.join("directory");
        fs::create_dir(&directory).unwrap();
        assert!(replace_file(&directory, "x").is_err());
        assert!(directory.is_dir());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn neither_pipes_nor_devices_are_written() {
        let dir = std::env::temp_dir().join(format!("replace-special-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (pipe, link) = (dir.join("pipe"), dir.join("link"));
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for special in [&*pipe, &*link, Path::new("/dev/null")] {
            let error = replace_file(special, "x").unwrap_err().to_string();
            assert_eq!(error, "must be a regular file", "{}", special.display());
            assert!(!fs::metadata(special).unwrap().is_file());
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
