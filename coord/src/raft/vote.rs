//! The vote on disk: `vote := magic frame(term:u64 node:u64 voted:u8 committed:u8)`. It is durable before anybody hears
//! of it, or this member could vote twice in one term.

use std::io::{self, IoSlice};
use std::path::Path;

use bytes::Buf;
use coord_core::{NodeId, Zxid};

use super::disk::Disk;
use super::types::Vote;
use super::{files, frames};

const MAGIC: [u8; 8] = *b"GRGVOT01";
const NAME: &str = "vote";
const UNFINISHED: &str = "vote.unfinished";
const VOTE_LEN: usize = 18;

/// Why the vote cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// The disk does not give it.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system says.
        cause: io::Error,
    },
    /// It is no vote.
    #[error(
        "{path} is damaged; restore it from a copy, for without it this server could vote twice in one term"
    )]
    Damaged {
        /// The file.
        path: String,
    },
}

/// Makes `vote` the one that a restart finds.
pub(super) async fn save(disk: &dyn Disk, dir: &Path, vote: &Vote) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    frames::write(&mut bytes, |out| encode(vote, out));
    let unfinished = dir.join(UNFINISHED);
    let mut file = disk.create(&unfinished)?;
    file.append(&mut [IoSlice::new(&bytes)])?;
    file.sync().await?;
    disk.rename(&unfinished, &dir.join(NAME))?;
    disk.sync_directory(dir).await
}

/// The vote that was saved last, if there is one.
pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Vote>, VoteError> {
    let path = dir.join(NAME);
    let bytes = files::read_whole(disk, &path).map_err(|cause| VoteError::Io {
        path: path.display().to_string(),
        cause,
    })?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let body = bytes
        .starts_with(&MAGIC)
        .then(|| frames::read(&bytes.slice(MAGIC.len()..)))
        .flatten();
    match body.and_then(|body| decode(&body)) {
        Some(vote) => Ok(Some(vote)),
        None => Err(VoteError::Damaged {
            path: path.display().to_string(),
        }),
    }
}

/// The vote as bytes, on disk and before a snapshot that is sent.
pub(super) fn encode(vote: &Vote, out: &mut Vec<u8>) {
    let voted_for = vote.leader_id.voted_for;
    out.extend(vote.leader_id.term.to_le_bytes());
    out.extend(voted_for.unwrap_or_default().0.to_le_bytes());
    out.push(voted_for.is_some().into());
    out.push(vote.committed.into());
}

/// What [`encode`] wrote; none if it did not.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vote> {
    if bytes.len() != VOTE_LEN {
        return None;
    }
    let mut vote = Vote::new(bytes.get_u64_le(), NodeId(bytes.get_u64_le()));
    if bytes.get_u8() == 0 {
        vote.leader_id.voted_for = None;
    }
    vote.committed = bytes.get_u8() != 0;
    (vote.leader_id.term <= u64::from(Zxid::MAX_TERM)).then_some(vote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::disk::StdDisk;

    #[tokio::test]
    async fn a_vote_is_read_back_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(&StdDisk, dir.path()).unwrap(), None);
        for vote in [
            Vote::default(),
            Vote::new(3, NodeId(2)),
            Vote::new_committed(4, NodeId(1)),
        ] {
            save(&StdDisk, dir.path(), &vote).await.unwrap();
            assert_eq!(load(&StdDisk, dir.path()).unwrap(), Some(vote));
        }
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(load(&StdDisk, dir.path()).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(load(&StdDisk, dir.path()).is_err(), "cut at {at}");
        }
    }
}
