//! What a compaction reads: closed segments, without their log's lock.

use std::path::PathBuf;
use std::sync::Arc;

use kafka_wire::record_batch::{BATCH_HEADER_SIZE, BatchError, BatchHeader};

use crate::error::LogError;
use crate::file_system::{Attempt, FileSystem, LogFile, StorageError};

/// A segment that is no longer appended to. A log may have thousands, so that each is open only while it is read.
#[derive(Debug, Clone)]
pub(crate) struct ClosedSegment {
    pub(crate) base_offset: i64,
    pub(crate) path: PathBuf,
    /// The same as that of the log's segment, unless that is another one by now.
    pub(crate) identity: Arc<()>,
    pub(crate) bytes: u64,
    pub(crate) offset_index_bytes: u64,
    pub(crate) time_index_bytes: u64,
}

impl ClosedSegment {
    pub(crate) fn damaged(&self, position: u64, cause: impl ToString) -> LogError {
        LogError::Damaged {
            path: self.path.clone(),
            position,
            cause: cause.to_string(),
        }
    }
}

/// A segment, piece by piece: as many whole batches at a time as the buffer holds.
#[derive(Debug)]
pub(crate) struct SegmentReader<'a> {
    segment: &'a ClosedSegment,
    file: Arc<dyn LogFile>,
    position: u64,
}

impl<'a> SegmentReader<'a> {
    /// From `position`, where a batch begins.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        segment: &'a ClosedSegment,
        position: u64,
    ) -> Result<Self, StorageError> {
        let file = fs.open(&segment.path).attempt("open", &segment.path)?;
        Ok(Self {
            segment,
            file,
            position,
        })
    }

    /// When the segment was written to, in milliseconds since the epoch.
    pub(crate) fn modified_ms(&self) -> Result<i64, StorageError> {
        let modified_ms = self.file.modified_ms();
        modified_ms.attempt("read the time of", &self.segment.path)
    }

    /// Where the next piece begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next whole batches; `None` at the end. The buffer grows where one batch alone is larger, and never beyond what is
    /// left of the segment.
    pub(crate) fn next_piece<'b>(
        &mut self,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>, LogError> {
        let left = self.segment.bytes.saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        let mut whole = self.read_batches(buffer, left)?;
        if let Err(needed) = whole {
            if needed as u64 > left {
                let cause = format!("{needed} bytes announced, {left} there");
                return Err(self.segment.damaged(self.position, cause));
            }
            buffer.resize(needed, 0);
            whole = self.read_batches(buffer, left)?;
        }
        let Ok(whole) = whole else {
            return Err(self.segment.damaged(self.position, "a batch that changes"));
        };
        self.position += whole as u64;
        Ok(Some(&buffer[..whole]))
    }

    /// Fills the buffer. The bytes of whole batches in it, or how many bytes it would take to hold one.
    fn read_batches(&self, buffer: &mut [u8], left: u64) -> Result<Result<usize, usize>, LogError> {
        let wanted = left.min(buffer.len() as u64) as usize;
        let read = self
            .file
            .read_at(&mut buffer[..wanted], self.position)
            .attempt("read", &self.segment.path)?;
        let read = &buffer[..read];
        let mut whole = 0;
        loop {
            let rest = &read[whole..];
            if rest.is_empty() && whole > 0 {
                return Ok(Ok(whole));
            }
            match BatchHeader::parse(rest) {
                Ok(header) if header.size() <= rest.len() => whole += header.size(),
                Ok(_) | Err(_) if whole > 0 => return Ok(Ok(whole)),
                Ok(header) => return Ok(Err(header.size())),
                Err(BatchError::Incomplete { needed, .. }) => return Ok(Err(needed)),
                Err(error) => return Err(self.segment.damaged(self.position, error)),
            }
        }
    }
}

/// The smallest buffer that a segment can be read with.
pub(crate) const MIN_BUFFER_BYTES: usize = BATCH_HEADER_SIZE;

#[cfg(test)]
mod tests {
    use kafka_wire::compression::Compression;
    use kafka_wire::record_batch::{RecordBatchBuilder, batches};

    use super::*;
    use crate::file_system::StdFileSystem;

    fn batch(offset: i64, value: usize) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(Compression::None).base_offset(offset);
        builder
            .append(1, Some(b"k"), Some(&vec![7; value]), &[])
            .unwrap();
        builder.build().unwrap().to_vec()
    }

    fn segment(directory: &tempfile::TempDir, content: &[u8]) -> ClosedSegment {
        let path = directory.path().join("0.log");
        std::fs::write(&path, content).unwrap();
        ClosedSegment {
            base_offset: 0,
            path,
            identity: Arc::default(),
            bytes: content.len() as u64,
            offset_index_bytes: 0,
            time_index_bytes: 0,
        }
    }

    fn offsets(segment: &ClosedSegment, buffer: usize) -> Result<Vec<i64>, LogError> {
        let mut buffer = vec![0; buffer];
        let mut reader = SegmentReader::open(&StdFileSystem, segment, 0)?;
        let mut offsets = Vec::new();
        while let Some(piece) = reader.next_piece(&mut buffer)? {
            offsets.extend(batches(piece).map(|batch| batch.unwrap().header.base_offset));
        }
        Ok(offsets)
    }

    #[test]
    fn every_batch_is_read_whatever_the_buffer() {
        let directory = tempfile::tempdir().unwrap();
        let content = [batch(0, 1), batch(1, 500), batch(2, 1), batch(3, 100)].concat();
        let segment = segment(&directory, &content);
        for buffer in MIN_BUFFER_BYTES..content.len() + 10 {
            assert_eq!(offsets(&segment, buffer).unwrap(), [0, 1, 2, 3], "{buffer}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_batch_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let content = [batch(0, 1), batch(1, 500)].concat();
        for cut in [1, 100, 500, 560] {
            let segment = segment(&directory, &content[..content.len() - cut]);
            let error = offsets(&segment, 100).unwrap_err();
            assert!(matches!(error, LogError::Damaged { .. }), "{error}");
        }
        let mut old = content.clone();
        let second = batch(0, 1).len();
        old[second + 16] = 1;
        let error = offsets(&segment(&directory, &old), 4096).unwrap_err();
        assert!(error.to_string().contains("batches of format 1"), "{error}");
        // A length that no file has is not taken at its word.
        let mut huge = content;
        huge[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
        let error = offsets(&segment(&directory, &huge), 100).unwrap_err();
        assert!(error.to_string().contains("announced"), "{error}");
    }
}
