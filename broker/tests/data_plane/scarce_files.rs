//! A file system of which a directory may run out of open files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use log::{DirectoryEntry, FileSystem, LogFile, Space, StdFileSystem};

/// The operating system's, but that in one directory no file may be opened for a while.
#[derive(Debug, Default)]
pub(crate) struct ScarceFiles(Mutex<Option<PathBuf>>);

impl ScarceFiles {
    /// From now on no file in that directory can be opened.
    pub(crate) fn run_out_in(&self, directory: PathBuf) {
        *self.0.lock().unwrap() = Some(directory);
    }

    /// Files can be opened again.
    pub(crate) fn recover(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn check(&self, path: &Path) -> io::Result<()> {
        match &*self.0.lock().unwrap() {
            Some(directory) if path.starts_with(directory) => Err(rustix::io::Errno::MFILE.into()),
            _ => Ok(()),
        }
    }
}

impl FileSystem for ScarceFiles {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.check(path)?;
        StdFileSystem.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.check(path)?;
        StdFileSystem.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        StdFileSystem.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        StdFileSystem.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        StdFileSystem.remove_directory(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        StdFileSystem.create_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        StdFileSystem.list(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        StdFileSystem.sync_directory(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        StdFileSystem.space(path)
    }
}
