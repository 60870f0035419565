//! A segment's file, which is open only where somebody needs it.
//!
//! A broker has far more segments than are read or written at any time. So a file is held open from the first write to it
//! until what was written is synced, for an error of the disk is told to those who had the file open; otherwise by those
//! who read it, and whoever comes while they do shares it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::file_system::{Attempt, FileSystem, LogFile, StorageError};

/// The file of a segment.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    /// Since the first write that was not synced.
    held: Option<Arc<dyn LogFile>>,
    /// By whoever opened it last.
    shared: Mutex<Option<Weak<dyn LogFile>>>,
}

impl SegmentFile {
    /// A file that is there.
    pub(crate) fn new(fs: Arc<dyn FileSystem>, path: PathBuf) -> Self {
        Self {
            fs,
            path,
            held: None,
            shared: Mutex::default(),
        }
    }

    /// Makes the file, to be written to.
    pub(crate) fn create(fs: Arc<dyn FileSystem>, path: PathBuf) -> Result<Self, StorageError> {
        let file = fs.create(&path).attempt("create", &path)?;
        Ok(Self {
            held: Some(file),
            ..Self::new(fs, path)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn shared(&self) -> MutexGuard<'_, Option<Weak<dyn LogFile>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, to read it. The same for all, as long as anybody has it.
    pub(crate) fn get(&self) -> Result<Arc<dyn LogFile>, StorageError> {
        if let Some(held) = &self.held {
            return Ok(held.clone());
        }
        let mut shared = self.shared();
        if let Some(file) = shared.as_ref().and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = self.fs.open(&self.path).attempt("open", &self.path)?;
        *shared = Some(Arc::downgrade(&file));
        Ok(file)
    }

    /// The file, if something was written to it that is not synced.
    pub(crate) fn held(&self) -> Option<&Arc<dyn LogFile>> {
        self.held.as_ref()
    }

    /// The file, to write to it. It stays open until [`SegmentFile::synced`].
    pub(crate) fn hold(&mut self) -> Result<&Arc<dyn LogFile>, StorageError> {
        let held = match self.held.take() {
            Some(held) => held,
            None => self.get()?,
        };
        Ok(self.held.insert(held))
    }

    /// All that was written is synced, and nothing will be written soon: those who read it keep it open, or nobody.
    pub(crate) fn synced(&mut self) {
        if let Some(held) = self.held.take() {
            *self.shared() = Some(Arc::downgrade(&held));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    #[test]
    fn it_is_open_while_it_is_read_or_holds_what_was_not_synced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut file = SegmentFile::create(Arc::new(StdFileSystem), path.clone()).unwrap();
        let written = Arc::downgrade(file.hold().unwrap());
        assert!(
            written.upgrade().is_some(),
            "what was written is not synced"
        );
        let reader = file.get().unwrap();
        file.synced();
        assert!(
            Arc::ptr_eq(&reader, &file.get().unwrap()),
            "shared with who reads"
        );
        drop(reader);
        assert!(written.upgrade().is_none(), "nobody needs it");
        let reader = file.get().unwrap();
        assert!(Arc::ptr_eq(&reader, file.hold().unwrap()));
        std::fs::remove_file(&path).unwrap();
        file.synced();
        drop(reader);
        assert!(file.get().is_err());
    }
}
