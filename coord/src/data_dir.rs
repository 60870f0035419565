//! The data directory belongs to one process.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Why the directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("dataDir {dir} is in use by process {pid}: stop it, or name another directory")]
    InUse { dir: String, pid: String },
    #[error("dataDir {dir} cannot be used: {cause}")]
    Io { dir: String, cause: std::io::Error },
}

/// Creates the directory if need be and locks it for as long as the file is kept open; the file names the holder.
pub(crate) fn lock(dir: &Path) -> Result<File, LockError> {
    let io = |cause| LockError::Io {
        dir: dir.display().to_string(),
        cause,
    };
    std::fs::create_dir_all(dir).map_err(io)?;
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(".lock"))
        .map_err(io)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(LockError::InUse {
            dir: dir.display().to_string(),
            pid: pid.trim().to_owned(),
        });
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

/// Makes the names in a directory durable: files that were created, renamed or removed.
pub(crate) fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The files `prefix.<sixteen hex digits>` of a directory, by number.
pub(crate) fn numbered(
    dir: &Path,
    prefix: &str,
) -> std::io::Result<Vec<(u64, std::path::PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(prefix)?.strip_prefix('.'))
            .filter(|digits| digits.len() == 16)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        files.extend(number.map(|number| (number, path)));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(held);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn only_numbered_files_of_the_prefix_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "log.000000000000000a",
            "log.0000000000000002",
            "log.2",
            "log.tmp",
            "snapshot.0000000000000001",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let numbers: Vec<u64> = numbered(dir.path(), "log")
            .unwrap()
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(numbers, [2, 10]);
    }
}
