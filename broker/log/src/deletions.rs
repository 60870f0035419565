//! What was renamed to be deleted, until its time comes.
//!
//! Whoever looked a file up a moment ago still finds it under the name that it holds open; what takes long, giving the
//! blocks of a large file back, is done by whoever asks for what is due and holds no lock meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::file_names::DELETED;
use crate::file_system::{Attempt, FileSystem, StorageError, remove_if_there};

/// What is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A segment's file.
    File,
    /// A partition's directory.
    Directory,
}

#[derive(Debug)]
struct Deletion {
    path: PathBuf,
    kind: Kind,
    due_ms: i64,
}

/// The files and directories that are to go, in any order.
#[derive(Debug, Default)]
pub(crate) struct Deletions(Mutex<Vec<Deletion>>);

impl Deletions {
    fn locked(&self) -> MutexGuard<'_, Vec<Deletion>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, path: PathBuf, kind: Kind, due_ms: i64) {
        self.locked().push(Deletion { path, kind, due_ms });
    }

    /// A file goes at `due_ms`; from now on its name ends in `.deleted`, so that a broker which starts in between knows
    /// what is to become of it. One that is not there needs no deletion.
    pub(crate) fn rename_file(
        &self,
        fs: &dyn FileSystem,
        path: &Path,
        due_ms: i64,
    ) -> Result<(), StorageError> {
        let mut renamed = path.as_os_str().to_owned();
        renamed.push(DELETED);
        let renamed = PathBuf::from(renamed);
        match fs.rename(path, &renamed) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            done => done.attempt("rename", path)?,
        }
        self.add(renamed, Kind::File, due_ms);
        Ok(())
    }

    /// A directory goes at `due_ms`.
    pub(crate) fn add_directory(&self, path: PathBuf, due_ms: i64) {
        self.add(path, Kind::Directory, due_ms);
    }

    /// Removes all that is due, once the names beside it are on the disk: what took its place has to be there after a power
    /// cut, however the file system orders its changes. The number removed. What cannot be removed is not tried again before the next start, and the
    /// first error is returned; a file that is gone already went with its directory.
    pub(crate) fn run_due(&self, fs: &dyn FileSystem, now_ms: i64) -> Result<usize, StorageError> {
        let due: Vec<Deletion> = self
            .locked()
            .extract_if(.., |deletion| deletion.due_ms <= now_ms)
            .collect();
        let count = due.len();
        let parents: BTreeSet<&Path> = due.iter().filter_map(|due| due.path.parent()).collect();
        for parent in parents {
            match fs.sync_directory(parent) {
                // The partition's directory was deleted, or has another name and will be.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.attempt("sync", parent)?,
            }
        }
        let mut result = Ok(count);
        for Deletion { path, kind, .. } in due {
            let removed = match kind {
                Kind::File => remove_if_there(fs, &path),
                Kind::Directory => fs.remove_directory(&path).attempt("remove", &path),
            };
            if let Err(error) = removed {
                result = result.and(Err(error));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    #[test]
    fn each_goes_in_its_time_and_one_that_cannot_holds_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let fs = &StdFileSystem;
        for name in ["early", "late", "gone"] {
            std::fs::write(path(name), "").unwrap();
        }
        std::fs::create_dir_all(path("partition").join("nested")).unwrap();
        let deletions = Deletions::default();
        deletions.add_directory(path("not there"), 10);
        for (name, due_ms) in [
            ("gone", 10),
            ("never there", 10),
            ("late", 11),
            ("early", 10),
        ] {
            deletions.rename_file(fs, &path(name), due_ms).unwrap();
            assert!(!path(name).exists());
        }
        std::fs::remove_file(path("gone.deleted")).unwrap();
        deletions.add_directory(path("partition"), 10);
        assert_eq!(deletions.run_due(fs, 9).unwrap(), 0);
        assert!(deletions.run_due(fs, 10).is_err());
        let there = ["early.deleted", "late.deleted", "partition"].map(|name| path(name).exists());
        assert_eq!(there, [false, true, false]);
        assert_eq!(deletions.run_due(fs, 11).unwrap(), 1);
        assert!(!path("late.deleted").exists());
    }

    #[test]
    fn what_went_with_its_directory_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let partition = directory.path().join("partition");
        let fs = &StdFileSystem;
        std::fs::create_dir(&partition).unwrap();
        std::fs::write(partition.join("file"), "").unwrap();
        let deletions = Deletions::default();
        deletions
            .rename_file(fs, &partition.join("file"), 10)
            .unwrap();
        std::fs::remove_dir_all(&partition).unwrap();
        assert_eq!(deletions.run_due(fs, 10).unwrap(), 1);
    }
}
