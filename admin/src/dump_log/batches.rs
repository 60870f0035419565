//! `.log` files: batches, and the records in them.

use std::io::Write;
use std::path::Path;

use kafka_wire::record_batch::{
    BATCH_HEADER_SIZE, Batch, BatchHeader, EndTransactionMarker, NO_SEQUENCE, Record,
};
use log::MAX_DECOMPRESSED_BYTES;
use log::inspect::{InspectError, LogFileReader};

use super::decoder::Decoders;
use super::output::{Finding, Findings, Line, Output, Value};

/// What is wanted of a `.log` file.
#[derive(Debug)]
pub(crate) struct BatchDump {
    /// Records, too.
    pub(crate) deep: bool,
    /// Their keys and values, too.
    pub(crate) print_data: bool,
    /// And of records only those.
    pub(crate) skip_metadata: bool,
    /// No more of the file is read.
    pub(crate) max_bytes: u64,
    /// What keys and values stand for.
    pub(crate) decoders: Decoders,
}

pub(crate) fn dump_batches(
    file: &Path,
    base_offset: i64,
    dump: &BatchDump,
    output: &mut Output<impl Write>,
    findings: &mut Findings,
) -> Result<(), InspectError> {
    output.line(
        Line::new("log")
            .sentence(format!("Log starting offset: {base_offset}"))
            .number("startingOffset", base_offset),
    );
    let log = LogFileReader::open(file)?;
    let end = log.size().min(dump.max_bytes);
    let mut position = 0;
    let mut last_offset = None;
    let mut bytes = Vec::new();
    let mut damage = None;
    while position < end {
        let (header, intact) = match read_batch(&log, position, end, &mut bytes)? {
            Ok(read) => read,
            Err(cause) => {
                damage = Some(cause);
                break;
            }
        };
        output.line(batch_line(&header, position, intact));
        position += bytes.len() as u64;
        if dump.deep
            && let Err(cause) = dump_records(&header, &bytes, dump, output, |offset| {
                if let Some(last) = last_offset.replace(offset)
                    && offset != last + 1
                {
                    findings.add(Finding::NonConsecutive, file, (last, offset));
                }
            })
        {
            output.flush();
            let first = header.base_offset;
            eprintln!("The records of the batch at offset {first} cannot be read: {cause}");
        }
    }
    let invalid = end - position;
    // Where only a part was asked for, it may end within a batch.
    if invalid > 0 && dump.max_bytes == i32::MAX as u64 {
        let name = file.file_name().unwrap_or_default().display();
        output.line(
            Line::new("invalidBytes")
                .sentence(format!(
                    "Found {invalid} invalid bytes at the end of {name}"
                ))
                .number("bytes", invalid as i64),
        );
        if let Some(cause) = damage {
            output.flush();
            eprintln!("{}: {cause}, at position {position}", file.display());
        }
    }
    Ok(())
}

/// The batch at `position`, and whether its checksum is right; in words, why there is none.
fn read_batch(
    log: &LogFileReader,
    position: u64,
    end: u64,
    bytes: &mut Vec<u8>,
) -> Result<Result<(BatchHeader, bool), String>, InspectError> {
    let left = end - position;
    log.read(position, bytes, left.min(BATCH_HEADER_SIZE as u64) as usize)?;
    let header = match BatchHeader::parse(bytes) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let needed = header.size();
    if needed as u64 > left {
        return Ok(Err(format!(
            "the record batch is cut off: it has {needed} bytes, {left} are left"
        )));
    }
    log.read(position, bytes, needed)?;
    let intact = kafka_wire::record_batch::verify_crc(bytes).is_ok();
    Ok(Ok((header, intact)))
}

fn batch_line(header: &BatchHeader, position: u64, intact: bool) -> Line {
    let attributes = header.attributes;
    let horizon = attributes
        .has_delete_horizon()
        .then_some(header.base_timestamp);
    let codec = match attributes.compression() {
        Ok(codec) => codec.to_string(),
        Err(error) => error.to_string(),
    };
    Line::new("batch")
        .number("baseOffset", header.base_offset)
        .number("lastOffset", header.last_offset())
        .number("count", header.record_count)
        .number("baseSequence", header.base_sequence)
        .number("lastSequence", header.last_sequence())
        .number("producerId", header.producer_id)
        .number("producerEpoch", header.producer_epoch)
        .number("partitionLeaderEpoch", header.partition_leader_epoch)
        .is("isTransactional", attributes.is_transactional())
        .is("isControl", attributes.is_control())
        .field("deleteHorizonMs", Value::Optional(horizon))
        .number("position", position as i64)
        .number(timestamp_type(header), header.max_timestamp)
        .number("size", header.size() as i64)
        .number("magic", 2)
        .string("compresscodec", codec)
        .number("crc", header.crc)
        .is("isvalid", intact)
}

fn timestamp_type(header: &BatchHeader) -> &'static str {
    match header.attributes.timestamp_type() {
        kafka_wire::record_batch::TimestampType::CreateTime => "CreateTime",
        kafka_wire::record_batch::TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn dump_records(
    header: &BatchHeader,
    bytes: &[u8],
    dump: &BatchDump,
    output: &mut Output<impl Write>,
    mut seen: impl FnMut(i64),
) -> Result<(), kafka_wire::record_batch::RecordError> {
    let batch = Batch {
        header: header.clone(),
        bytes,
    };
    let marker = EndTransactionMarker::read(&batch);
    for record in &batch.records(MAX_DECOMPRESSED_BYTES)? {
        let record = record?;
        seen(record.offset);
        let mut line = Line::new("record").prefix("| ");
        if !dump.skip_metadata {
            line = metadata(line, header, &record);
            if let Some(marker) = marker {
                let kind = if marker.committed { "COMMIT" } else { "ABORT" };
                line = line
                    .string("endTxnMarker", kind)
                    .number("coordinatorEpoch", marker.coordinator_epoch);
            }
        }
        if dump.print_data && !header.attributes.is_control() {
            let (key, payload) = dump.decoders.decode(&record);
            if let Some(key) = key {
                line = line.field("key", key);
            }
            if let Some(payload) = payload {
                line = line.field("payload", payload);
            }
        }
        output.line(line);
    }
    Ok(())
}

fn metadata(line: Line, header: &BatchHeader, record: &Record<'_>) -> Line {
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    let sequence = match header.base_sequence {
        NO_SEQUENCE => NO_SEQUENCE,
        base => {
            let delta = record.offset - header.base_offset;
            ((i64::from(base) + delta) % (i64::from(i32::MAX) + 1)) as i32
        }
    };
    let headers = record.headers.iter();
    let keys = headers.map(|header| String::from_utf8_lossy(header.key).into_owned());
    line.number("offset", record.offset)
        .number(timestamp_type(header), record.timestamp)
        .number("keySize", size(record.key))
        .number("valueSize", size(record.value))
        .number("sequence", sequence)
        .field("headerKeys", Value::List(keys.collect()))
}
