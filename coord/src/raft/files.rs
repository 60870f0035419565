//! Files by name, number and content, over any [`Disk`].

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::disk::{Disk, DiskFile};

/// The file `prefix.<number as sixteen hex digits>`.
pub(super) fn numbered_path(dir: &Path, prefix: &str, number: u64) -> PathBuf {
    dir.join(format!("{prefix}.{number:016x}"))
}

/// The files `prefix.<sixteen hex digits>` of a directory, by number.
pub(super) fn numbered(
    disk: &dyn Disk,
    dir: &Path,
    prefix: &str,
) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for name in disk.list(dir)? {
        let number = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('.'))
            .filter(|digits| digits.len() == 16)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        files.extend(number.map(|number| (number, dir.join(&name))));
    }
    files.sort();
    Ok(files)
}

/// The bytes of a file from `position` on, `len` of them or fewer at its end.
pub(super) fn read(file: &dyn DiskFile, position: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; len];
    let count = file.read_at(&mut bytes, position)?;
    bytes.truncate(count);
    Ok(bytes.into())
}

/// A whole file; none if it is not there.
pub(super) fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Option<Bytes>> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.size()?;
    read(&*file, 0, len as usize).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::disk::StdDisk;

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
        let numbers: Vec<u64> = numbered(&StdDisk, dir.path(), "log")
            .unwrap()
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(numbers, [2, 10]);
    }
}
