//! Snapshots on disk: `snapshot.<index of the last entry in it, 16 hex digits> := magic frame(term) { frame(chunk) }`.
//!
//! One is written next to the old ones under another name, made durable, then renamed, so a name with a number is
//! always whole unless the disk has damaged it. Two are kept, and the log behind the older one, so that one damaged
//! snapshot costs nothing.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use bytes::Bytes;
use coord_core::State;
use coord_core::snapshot::{self, Loader, SnapshotError};

use crate::{data_dir, frames, raft_log};

const MAGIC: [u8; 8] = *b"GRGSNP01";
const PREFIX: &str = "snapshot";
const UNFINISHED: &str = "snapshot.unfinished";
const KEPT: usize = 2;

/// A state and where in the log it is.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The last entry that the state holds.
    pub(crate) index: u64,
    /// The term of that entry.
    pub(crate) term: u32,
    /// The state.
    pub(crate) state: State,
}

/// Why a file is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("a checksum does not hold")]
    Checksum,
    #[error(transparent)]
    Content(#[from] SnapshotError),
}

/// Writes one, then removes what is not needed any more.
pub(crate) fn save(dir: &Path, snapshot: &Snapshot) -> std::io::Result<()> {
    let unfinished = dir.join(UNFINISHED);
    let mut file = BufWriter::new(File::create(&unfinished)?);
    file.write_all(&MAGIC)?;
    let mut frame = Vec::new();
    frames::write(&mut frame, |out| out.extend(snapshot.term.to_le_bytes()));
    file.write_all(&frame)?;
    snapshot::encode(&snapshot.state, |chunk| {
        frame.clear();
        frames::write(&mut frame, |out| out.extend(chunk));
        file.write_all(&frame)
    })?;
    file.into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    std::fs::rename(
        &unfinished,
        dir.join(format!("{PREFIX}.{:016x}", snapshot.index)),
    )?;
    data_dir::sync(dir)?;
    purge(dir)
}

/// Removes all but the newest snapshots, and the log before the older of them.
fn purge(dir: &Path) -> std::io::Result<()> {
    let snapshots = data_dir::numbered(dir, PREFIX)?;
    let Some(oldest_kept) = snapshots.len().checked_sub(KEPT) else {
        return Ok(());
    };
    for (_, path) in &snapshots[..oldest_kept] {
        std::fs::remove_file(path)?;
    }
    raft_log::purge(dir, snapshots[oldest_kept].0)
}

/// The newest snapshot that is whole, if there is one; damaged ones are named.
pub(crate) fn load_newest(dir: &Path) -> std::io::Result<Option<Snapshot>> {
    for (index, path) in data_dir::numbered(dir, PREFIX)?.into_iter().rev() {
        match load(index, &path) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => tracing::warn!(
                "{} is damaged: {error}; going back to an older one",
                path.display()
            ),
        }
    }
    Ok(None)
}

/// Whether there is any snapshot, whole or damaged.
pub(crate) fn any(dir: &Path) -> std::io::Result<bool> {
    Ok(!data_dir::numbered(dir, PREFIX)?.is_empty())
}

fn load(index: u64, path: &Path) -> Result<Snapshot, LoadError> {
    let file = File::open(path)?;
    let mut left = file.metadata()?.len();
    let mut file = BufReader::with_capacity(256 * 1024, file);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(LoadError::Checksum);
    }
    left -= magic.len() as u64;
    let term = read_frame(&mut file, &mut left)?.ok_or(LoadError::Checksum)?;
    let term = u32::from_le_bytes(term.as_ref().try_into().map_err(|_| LoadError::Checksum)?);
    let mut loader = Loader::default();
    while let Some(chunk) = read_frame(&mut file, &mut left)? {
        loader.load(chunk)?;
    }
    Ok(Snapshot {
        index,
        term,
        state: loader.finish()?,
    })
}

/// The next frame, never larger than the `left` bytes of the file; `None` at its end.
fn read_frame(file: &mut impl Read, left: &mut u64) -> Result<Option<Bytes>, LoadError> {
    if *left == 0 {
        return Ok(None);
    }
    let mut frame = vec![0; frames::HEADER_LEN];
    file.read_exact(&mut frame)?;
    *left -= frames::HEADER_LEN as u64;
    let len = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
    *left = left.checked_sub(len.into()).ok_or(LoadError::Checksum)?;
    frame.resize(frames::HEADER_LEN + len as usize, 0);
    file.read_exact(&mut frame[frames::HEADER_LEN..])?;
    frames::read(&Bytes::from(frame))
        .map(Some)
        .ok_or(LoadError::Checksum)
}
