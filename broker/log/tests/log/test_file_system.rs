//! A disk that fails as disks do: it runs full, it returns errors, and when the power is cut it forgets what was not
//! synced, all of it or any part.
//!
//! The files are real ones in a temporary directory, so that they can be mapped. Beside them is kept what would be left:
//! of each file the content when it was last synced, and of each directory the names when that was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Debug, Formatter};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use log::{DirectoryEntry, FileSystem, LogFile, Space, StdFileSystem};
use memmap2::MmapMut;

/// A file, by whatever name.
type Inode = u64;

/// Power cuts decide for pieces of this size what of them is left.
const BLOCK_BYTES: usize = 64;

#[derive(Debug, Default)]
struct State {
    next_inode: Inode,
    names: BTreeMap<PathBuf, Inode>,
    synced_names: BTreeMap<PathBuf, Inode>,
    synced_content: HashMap<Inode, Vec<u8>>,
    /// Of files that have lost their last name.
    unlinked_content: HashMap<Inode, Vec<u8>>,
    /// How many more writes and syncs succeed.
    operations_left: Option<u64>,
    /// If only those in one directory are counted, and fail.
    operations_in: Option<PathBuf>,
    /// How many more bytes fit.
    bytes_left: Option<u64>,
    /// How many more files can be opened.
    opens_left: Option<u64>,
    /// Nothing in it can be read or written.
    broken_directory: Option<PathBuf>,
    on_sync: Option<SyncHook>,
}

/// What is called when something is synced whose path contains that.
struct SyncHook(&'static str, Box<dyn FnOnce() + Send>);

impl Debug for SyncHook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncHook").field(&self.0).finish()
    }
}

impl State {
    fn inode(&mut self, path: &Path) -> Inode {
        if let Some(inode) = self.names.get(path) {
            return *inode;
        }
        self.next_inode += 1;
        self.names.insert(path.to_owned(), self.next_inode);
        self.next_inode
    }

    /// Counts one operation that changes the disk.
    fn operate(&mut self, path: &Path) -> io::Result<()> {
        let counted = self.operations_in.as_deref();
        if !counted.is_none_or(|directory| path.starts_with(directory)) {
            return Ok(());
        }
        match &mut self.operations_left {
            Some(0) => Err(io::Error::other("the disk is broken")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts one file that is opened.
    fn open(&mut self) -> io::Result<()> {
        match &mut self.opens_left {
            Some(0) => Err(rustix::io::Errno::MFILE.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Fails where the path lies in the directory that is broken.
    fn reach(&self, path: &Path) -> io::Result<()> {
        match &self.broken_directory {
            Some(broken) if path.starts_with(broken) => Err(io::Error::other("the disk is gone")),
            _ => Ok(()),
        }
    }

    fn forget_name(&mut self, path: &Path) {
        if let Some(inode) = self.names.remove(path) {
            self.unlinked_content
                .insert(inode, std::fs::read(path).unwrap_or_default());
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestFileSystem(Arc<Mutex<State>>);

impl TestFileSystem {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// After so many more changes every further one fails.
    pub(crate) fn break_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    /// After so many more changes in that directory every further one there fails.
    pub(crate) fn break_directory_after(&self, path: &Path, operations: u64) {
        let mut state = self.state();
        (state.operations_in, state.operations_left) = (Some(path.to_owned()), Some(operations));
    }

    /// Calls `hook` when a file or directory whose path contains that is synced for the first time.
    pub(crate) fn on_sync(&self, part: &'static str, hook: impl FnOnce() + Send + 'static) {
        self.state().on_sync = Some(SyncHook(part, Box::new(hook)));
    }

    fn syncs(&self, path: &Path) {
        let hook = self
            .state()
            .on_sync
            .take_if(|SyncHook(part, _)| path.to_str().unwrap().contains(*part));
        if let Some(SyncHook(_, hook)) = hook {
            hook();
        }
    }

    /// From now on nothing in that directory can be read or written.
    pub(crate) fn break_directory(&self, path: &Path) {
        self.state().broken_directory = Some(path.to_owned());
    }

    /// After so many more files no other can be opened, until the disk works again.
    pub(crate) fn run_out_of_files_after(&self, opens: u64) {
        self.state().opens_left = Some(opens);
    }

    /// So many more bytes fit.
    pub(crate) fn fill_up_to(&self, bytes: u64) {
        self.state().bytes_left = Some(bytes);
    }

    /// The disk works again.
    pub(crate) fn repair(&self) {
        let mut state = self.state();
        (state.operations_left, state.bytes_left) = (None, None);
        state.operations_in = None;
        state.broken_directory = None;
        state.opens_left = None;
    }

    /// Cuts the power: the files become one of the many things that they might be. Everything that holds one must have
    /// been dropped. `random` decides, below its argument.
    pub(crate) fn cut_power(&self, mut random: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        let live: BTreeMap<Inode, Vec<u8>> = state
            .names
            .iter()
            .map(|(path, inode)| (*inode, std::fs::read(path).unwrap_or_default()))
            .collect();
        let directories: BTreeSet<PathBuf> = state
            .names
            .keys()
            .chain(state.synced_names.keys())
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect();
        let mut names = BTreeMap::new();
        for directory in directories {
            // The names of one directory are journalled together.
            let kept = if random(2) == 0 {
                &state.names
            } else {
                &state.synced_names
            };
            names.extend(
                kept.iter()
                    .filter(|(path, _)| path.parent() == Some(&directory))
                    .map(|(p, i)| (p.clone(), *i)),
            );
        }
        for path in state.names.keys() {
            let _ = std::fs::remove_file(path);
        }
        let mut content = HashMap::new();
        for (path, inode) in &names {
            let live = live
                .get(inode)
                .or_else(|| state.unlinked_content.get(inode))
                .cloned()
                .unwrap_or_default();
            let synced = state.synced_content.get(inode).cloned().unwrap_or_default();
            let left = mixture(&live, &synced, &mut random);
            std::fs::write(path, &left).unwrap();
            content.insert(*inode, left);
        }
        state.synced_names = names.clone();
        state.names = names;
        state.synced_content = content;
        state.unlinked_content.clear();
    }
}

/// What may be left of a file that held `synced` when it was last synced, and `live` when the power went.
fn mixture(live: &[u8], synced: &[u8], random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let (short, long) = (live.len().min(synced.len()), live.len().max(synced.len()));
    let len = match random(3) {
        0 => live.len(),
        1 => synced.len(),
        _ => short + random(long - short + 1),
    };
    let mut left = vec![0; len];
    let torn = random(2) == 0;
    for (index, block) in left.chunks_mut(BLOCK_BYTES).enumerate() {
        let start = index * BLOCK_BYTES;
        // What was synced and not written since is there in either case.
        let source = match random(3) {
            _ if !torn => live,
            0 => synced,
            1 => live,
            _ if start >= synced.len() => &[],
            _ => live,
        };
        let source = source.get(start..).unwrap_or_default();
        let count = block.len().min(source.len());
        block[..count].copy_from_slice(&source[..count]);
    }
    left
}

impl FileSystem for TestFileSystem {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.state().reach(path)?;
        self.state().open()?;
        let file = StdFileSystem.open(path)?;
        let inode = self.state().inode(path);
        Ok(Arc::new(TestFile {
            file,
            path: path.to_owned(),
            inode,
            fs: self.clone(),
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.state();
        state.reach(path)?;
        state.open()?;
        state.operate(path)?;
        let file = StdFileSystem.create(path)?;
        let inode = state.inode(path);
        Ok(Arc::new(TestFile {
            file,
            path: path.to_owned(),
            inode,
            fs: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.reach(from)?;
        state.operate(from)?;
        if from.is_file() {
            state.forget_name(to);
            let inode = state.inode(from);
            state.names.remove(from);
            state.names.insert(to.to_owned(), inode);
        }
        StdFileSystem.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.reach(path)?;
        state.operate(path)?;
        state.forget_name(path);
        StdFileSystem.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.state().reach(path)?;
        self.state().operate(path)?;
        StdFileSystem.remove_directory(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.state().reach(path)?;
        self.state().operate(path)?;
        StdFileSystem.create_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.state().reach(path)?;
        StdFileSystem.list(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.syncs(path);
        let mut state = self.state();
        state.reach(path)?;
        state.operate(path)?;
        state
            .synced_names
            .retain(|name, _| name.parent() != Some(path));
        let here: Vec<_> = state
            .names
            .iter()
            .filter(|(name, _)| name.parent() == Some(path))
            .map(|(name, inode)| (name.clone(), *inode))
            .collect();
        state.synced_names.extend(here);
        Ok(())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.state().reach(path)?;
        StdFileSystem.space(path)
    }
}

#[derive(Debug)]
struct TestFile {
    file: Arc<dyn LogFile>,
    path: PathBuf,
    inode: Inode,
    fs: TestFileSystem,
}

impl AsFd for TestFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl LogFile for TestFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.fs.state().reach(&self.path)?;
        self.file.read_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.reach(&self.path)?;
        if let Err(error) = state.operate(&self.path) {
            self.file
                .write_all_at(&bytes[..bytes.len() / 2], position)?;
            return Err(error);
        }
        if let Some(left) = state.bytes_left {
            let fitting = left.min(bytes.len() as u64);
            state.bytes_left = Some(left - fitting);
            self.file
                .write_all_at(&bytes[..fitting as usize], position)?;
            if fitting < bytes.len() as u64 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            return Ok(());
        }
        self.file.write_all_at(bytes, position)
    }

    fn size(&self) -> io::Result<u64> {
        self.fs.state().reach(&self.path)?;
        self.file.size()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        self.file.set_modified_ms(modified_ms)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.fs.state().reach(&self.path)?;
        self.fs.state().operate(&self.path)?;
        self.file.set_size(size)
    }

    fn allocate(&self, position: u64, size: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.reach(&self.path)?;
        state.operate(&self.path)?;
        if let Some(left) = state.bytes_left {
            state.bytes_left = Some(left.checked_sub(size).ok_or(io::ErrorKind::StorageFull)?);
        }
        self.file.allocate(position, size)
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.syncs(&self.path);
        let mut state = self.fs.state();
        state.reach(&self.path)?;
        state.operate(&self.path)?;
        let mut content = vec![0; self.file.size()? as usize];
        self.file.read_at(&mut content, 0)?;
        state.synced_content.insert(self.inode, content);
        Ok(())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        let mut state = self.fs.state();
        state.reach(&self.path)?;
        state.operate(&self.path)?;
        let State {
            names,
            synced_names,
            synced_content,
            ..
        } = &mut *state;
        synced_names.clone_from(names);
        for (path, inode) in names {
            synced_content.insert(*inode, std::fs::read(path)?);
        }
        Ok(())
    }

    fn map(&self, size: usize) -> io::Result<MmapMut> {
        self.file.map(size)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
