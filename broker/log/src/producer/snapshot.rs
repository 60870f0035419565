//! The file that holds the producers as they were at one offset: `<offset>.snapshot`.
//!
//! Big endian: version 1 (two bytes), CRC-32C of everything after it (four), number of producers (four), and for each:
//! producer id (8), epoch (2), last sequence (4), last offset (8), offset delta (4), timestamp (8), coordinator epoch (4),
//! first offset of the open transaction or -1 (8). Of the batches only the last one is in it.

use std::collections::VecDeque;
use std::path::Path;

use bytes::{Buf, BufMut};
use kafka_wire::record_batch::NO_SEQUENCE;

use super::{ProducerEntry, ProducerState, StoredBatch};
use crate::file_system::{Attempt, FileSystem, Found, StorageError, read_small};

const VERSION: i16 = 1;
const HEADER_BYTES: usize = 10;
const CRC_COVERS_FROM: usize = 6;
const ENTRY_BYTES: usize = 46;
/// Five million producers.
const MAX_BYTES: u64 = 256 << 20;

/// Writes a snapshot. It is not synced: the checksum tells a torn one, and flushing the log syncs it.
pub(crate) fn write(
    fs: &dyn FileSystem,
    path: &Path,
    state: &ProducerState,
) -> Result<(), StorageError> {
    let content = encode(state);
    let file = fs.create(path).attempt("create", path)?;
    file.set_size(0).attempt("empty", path)?;
    file.write_all_at(&content, 0).attempt("write", path)
}

/// Reads a snapshot; `None` if it is missing, damaged or too large to be read whole: the log says the same.
pub(crate) fn read(
    fs: &dyn FileSystem,
    path: &Path,
) -> Result<Option<ProducerState>, StorageError> {
    Ok(match read_small(fs, path, MAX_BYTES)? {
        Found::Intact(content) => decode(&content),
        Found::Missing | Found::Rubbish(_) => None,
    })
}

fn encode(state: &ProducerState) -> Vec<u8> {
    let entries = state.entries();
    let mut content = Vec::with_capacity(HEADER_BYTES + entries.len() * ENTRY_BYTES);
    content.put_i16(VERSION);
    content.put_u32(0);
    content.put_i32(entries.len() as i32);
    for (producer_id, entry) in entries {
        let none = StoredBatch {
            last_sequence: NO_SEQUENCE,
            last_offset: -1,
            offset_delta: 0,
            timestamp: -1,
        };
        let last = entry.batches.back().copied().unwrap_or(none);
        content.put_i64(producer_id);
        content.put_i16(entry.epoch);
        content.put_i32(last.last_sequence);
        content.put_i64(last.last_offset);
        content.put_i32(last.offset_delta);
        content.put_i64(entry.last_timestamp);
        content.put_i32(entry.coordinator_epoch);
        content.put_i64(entry.current_transaction_first_offset.unwrap_or(-1));
    }
    let crc = crc_fast::crc32_iscsi(&content[CRC_COVERS_FROM..]);
    content[2..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
    content
}

fn decode(content: &[u8]) -> Option<ProducerState> {
    let mut state = ProducerState::default();
    for (producer_id, entry) in entries(content)? {
        state.insert(producer_id, entry);
    }
    Some(state)
}

/// The producers in the bytes of a snapshot, in the order in which they stand there; `None` if it is none.
pub(crate) fn entries(content: &[u8]) -> Option<Vec<(i64, ProducerEntry)>> {
    let covered = content.get(CRC_COVERS_FROM..)?;
    let mut reader = content;
    if reader.len() < HEADER_BYTES
        || reader.get_i16() != VERSION
        || reader.get_u32() != crc_fast::crc32_iscsi(covered)
    {
        return None;
    }
    let count = usize::try_from(reader.get_i32()).ok()?;
    if reader.len() != count.checked_mul(ENTRY_BYTES)? {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let producer_id = reader.get_i64();
        let epoch = reader.get_i16();
        let (last_sequence, last_offset, offset_delta) =
            (reader.get_i32(), reader.get_i64(), reader.get_i32());
        let last_timestamp = reader.get_i64();
        let coordinator_epoch = reader.get_i32();
        let current_transaction_first_offset = Some(reader.get_i64()).filter(|offset| *offset >= 0);
        let last = StoredBatch {
            last_sequence,
            last_offset,
            offset_delta,
            timestamp: last_timestamp,
        };
        let batches = Some(last).filter(|last| last.last_offset >= 0);
        let entry = ProducerEntry {
            epoch,
            coordinator_epoch,
            last_timestamp,
            current_transaction_first_offset,
            batches: VecDeque::from_iter(batches),
        };
        entries.push((producer_id, entry));
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    fn state() -> ProducerState {
        let mut state = ProducerState::default();
        let last = StoredBatch {
            last_sequence: 14,
            last_offset: 99,
            offset_delta: 4,
            timestamp: 1234,
        };
        state.insert(
            7,
            ProducerEntry {
                epoch: 3,
                coordinator_epoch: 8,
                last_timestamp: 1234,
                current_transaction_first_offset: Some(90),
                batches: VecDeque::from([last]),
            },
        );
        state
    }

    #[test]
    fn the_format_is_kafkas() {
        let content = encode(&state());
        assert_eq!(content.len(), 56);
        assert_eq!(content[..2], [0, 1]);
        assert_eq!(
            content[2..6],
            crc_fast::crc32_iscsi(&content[6..]).to_be_bytes()
        );
        assert_eq!(content[6..10], [0, 0, 0, 1]);
        assert_eq!(content[10..18], 7i64.to_be_bytes());
        assert_eq!(content[18..20], [0, 3]);
        assert_eq!(content[20..24], [0, 0, 0, 14]);
        assert_eq!(content[24..32], 99i64.to_be_bytes());
        assert_eq!(content[32..36], [0, 0, 0, 4]);
        assert_eq!(content[36..44], 1234i64.to_be_bytes());
        assert_eq!(content[44..48], [0, 0, 0, 8]);
        assert_eq!(content[48..56], 90i64.to_be_bytes());
    }

    #[test]
    fn a_snapshot_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("00000000000000000100.snapshot");
        assert_eq!(read(&StdFileSystem, &path).unwrap(), None, "missing");
        write(&StdFileSystem, &path, &state()).unwrap();
        assert_eq!(read(&StdFileSystem, &path).unwrap(), Some(state()));
        write(&StdFileSystem, &path, &ProducerState::default()).unwrap();
        assert_eq!(
            read(&StdFileSystem, &path).unwrap(),
            Some(ProducerState::default())
        );
    }

    #[test]
    fn a_snapshot_that_is_too_large_is_no_reason_not_to_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("00000000000000000100.snapshot");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&StdFileSystem, &path).unwrap(), None);
    }

    #[test]
    fn damage_at_any_byte_is_found() {
        let good = encode(&state());
        for index in 0..good.len() {
            assert_eq!(decode(&good[..index]), None, "cut at {index}");
            let mut flipped = good.clone();
            flipped[index] ^= 0x10;
            assert_eq!(decode(&flipped), None, "flipped at {index}");
        }
        let mut longer = good;
        longer.push(0);
        assert_eq!(decode(&longer), None);
    }
}
