//! `.index` and `.timeindex` files, compared with the log that they belong to.

use std::io::Write;
use std::path::Path;

use kafka_wire::record_batch::{BATCH_HEADER_SIZE, Batch, BatchHeader};
use log::inspect::{self, InspectError, LogFileReader};
use log::{MAX_DECOMPRESSED_BYTES, OffsetPosition};

use super::output::{Finding, Findings, Line, Output};

/// What is wanted of an index.
#[derive(Debug)]
pub(crate) struct IndexChecks {
    /// Nothing but whether a broker would use it.
    pub(crate) sanity_only: bool,
    /// Only what does not fit.
    pub(crate) verify_only: bool,
    /// A batch that an entry leads to is no larger, in bytes.
    pub(crate) max_message_size: usize,
}

pub(crate) fn dump_offset_index(
    file: &Path,
    base_offset: i64,
    checks: &IndexChecks,
    output: &mut Output<impl Write>,
    findings: &mut Findings,
) -> Result<(), InspectError> {
    let entries = inspect::offset_index(file, base_offset)?;
    let log = LogFileReader::open(&file.with_extension("log"))?;
    if entries.is_empty() {
        output.line(Line::new("empty").sentence(format!("{} is empty.", file.display())));
        return Ok(());
    }
    if checks.sanity_only {
        return sanity(file, has_whole_entries(file, 8)?, output);
    }
    for (number, entry) in entries.iter().enumerate() {
        // The index of an active segment is preallocated: zeros follow its entries.
        if entry.offset == base_offset && number > 0 {
            break;
        }
        let found = match batch_at(&log, u64::from(entry.position), checks.max_message_size)? {
            Some(header) => header.last_offset(),
            None => -1,
        };
        if found != entry.offset {
            findings.add(Finding::Mismatch, file, (entry.offset, found));
        }
        if !checks.verify_only {
            output.line(
                Line::new("offsetIndexEntry")
                    .number("offset", entry.offset)
                    .number("position", entry.position),
            );
        }
    }
    Ok(())
}

pub(crate) fn dump_time_index(
    file: &Path,
    base_offset: i64,
    checks: &IndexChecks,
    output: &mut Output<impl Write>,
    findings: &mut Findings,
) -> Result<(), InspectError> {
    let entries = inspect::time_index(file, base_offset)?;
    if checks.sanity_only {
        let sound = match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => {
                last.timestamp >= first.timestamp && last.offset >= base_offset
            }
            _ => true,
        };
        return sanity(file, sound && has_whole_entries(file, 12)?, output);
    }
    let log = LogFileReader::open(&file.with_extension("log"))?;
    let offsets = inspect::offset_index(&file.with_extension("index"), base_offset)?;
    // Behind the first entry of zeros nothing is true.
    let used = offsets
        .iter()
        .skip(1)
        .position(|entry| entry.offset == base_offset);
    let offsets = &offsets[..used.map_or(offsets.len(), |used| used + 1)];
    let mut previous = -1;
    for (number, entry) in entries.iter().enumerate() {
        if entry.offset == base_offset && number > 0 {
            break;
        }
        match batch_with(&log, offsets, entry.offset)? {
            Some((last_offset, timestamp)) if last_offset == entry.offset => {
                if timestamp != entry.timestamp {
                    let pair = (entry.timestamp, timestamp);
                    findings.add(Finding::TimestampMismatch, file, pair);
                }
                if previous >= entry.timestamp {
                    findings.add(Finding::OutOfOrder, file, (entry.timestamp, previous));
                }
            }
            found => {
                let last_offset = found.map_or(-1, |(last_offset, _)| last_offset);
                findings.add(Finding::OffsetNotFound, file, (entry.offset, last_offset));
            }
        }
        if !checks.verify_only {
            output.line(
                Line::new("timeIndexEntry")
                    .number("timestamp", entry.timestamp)
                    .number("offset", entry.offset),
            );
        }
        previous = entry.timestamp;
    }
    Ok(())
}

fn sanity(file: &Path, sound: bool, output: &mut Output<impl Write>) -> Result<(), InspectError> {
    if !sound {
        return Err(InspectError::Damaged {
            path: file.to_owned(),
            reason: "no sound index: a broker would build it anew".to_owned(),
        });
    }
    let sentence = format!("{} passed sanity check.", file.display());
    output.line(
        Line::new("sanityCheck")
            .sentence(sentence)
            .is("passed", true),
    );
    Ok(())
}

fn has_whole_entries(file: &Path, entry_bytes: u64) -> Result<bool, InspectError> {
    Ok(LogFileReader::open(file)?
        .size()
        .is_multiple_of(entry_bytes))
}

/// The header of the batch at `position`, if one of at most `max_size` bytes begins there.
fn batch_at(
    log: &LogFileReader,
    position: u64,
    max_size: usize,
) -> Result<Option<BatchHeader>, InspectError> {
    let mut bytes = Vec::new();
    log.read(position, &mut bytes, BATCH_HEADER_SIZE)?;
    let header = BatchHeader::parse(&bytes).ok();
    Ok(header.filter(|header| {
        header.size() <= max_size && position + header.size() as u64 <= log.size()
    }))
}

/// The first batch that does not end before `offset`: its last offset, and the largest timestamp of its records.
fn batch_with(
    log: &LogFileReader,
    index: &[OffsetPosition],
    offset: i64,
) -> Result<Option<(i64, i64)>, InspectError> {
    let later = index.partition_point(|entry| entry.offset <= offset);
    let before = later.checked_sub(1).map(|number| index[number].position);
    let mut position = u64::from(before.unwrap_or(0));
    while let Some(header) = batch_at(log, position, usize::MAX)? {
        if header.last_offset() >= offset {
            let mut bytes = Vec::new();
            log.read(position, &mut bytes, header.size())?;
            return Ok(Some((header.last_offset(), max_timestamp(header, &bytes))));
        }
        position += header.size() as u64;
    }
    Ok(None)
}

/// Of records that cannot be read, what their batch says.
fn max_timestamp(header: BatchHeader, bytes: &[u8]) -> i64 {
    let stated = header.max_timestamp;
    let batch = Batch { header, bytes };
    let Ok(records) = batch.records(MAX_DECOMPRESSED_BYTES) else {
        return stated;
    };
    let timestamps = records.iter().map(|record| record.map(|it| it.timestamp));
    timestamps
        .collect::<Result<Vec<_>, _>>()
        .map_or(stated, |timestamps| {
            timestamps.into_iter().max().unwrap_or(-1)
        })
}
