//! Record batches and message sets as the Java client of Apache Kafka 3.9.1 writes them, byte for byte.

use kafka_wire::compression::Compression;
use kafka_wire::message_set;
use kafka_wire::record_batch::{
    Batch, EndTransactionMarker, RecordBatchBuilder, RecordHeader, batches,
};

const WRITTEN: &str = include_str!("java_client.txt");
const TIMESTAMP: i64 = 1_700_000_000_000;

/// What was written, by its two names.
fn written() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let lines = WRITTEN.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let mut words = line.split(' ');
        let (first, second, hex) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap(),
        );
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (first, second, (0..hex.len()).step_by(2).map(byte).collect())
    });
    parsed.collect()
}

fn only_batch(bytes: &[u8]) -> Batch<'_> {
    let mut all = batches(bytes);
    let batch = all.next().unwrap().unwrap();
    assert!(all.next().is_none());
    batch.verify_crc().unwrap();
    batch
}

/// Checks the three records that each set holds.
fn check(batch: &Batch<'_>, format: &str, name: &str) {
    let records = batch.records(10_000).unwrap();
    let records: Vec<_> = records.iter().map(|record| record.unwrap()).collect();
    assert_eq!(records.len(), 3, "{format} {name}");
    for (index, record) in records.iter().enumerate() {
        let (key, value) = (
            format!("k{index}"),
            format!("value value value value {index}"),
        );
        assert_eq!(record.offset, index as i64);
        let timestamp = if format == "0" {
            -1
        } else {
            TIMESTAMP + index as i64
        };
        assert_eq!(record.timestamp, timestamp, "{format} {name}");
        assert_eq!(record.key, (index != 1).then_some(key.as_bytes()));
        assert_eq!(record.value, Some(value.as_bytes()));
        let headers = if format == "2" && index == 2 { 2 } else { 0 };
        assert_eq!(record.headers.len(), headers);
    }
    let mut seen = 0;
    batch
        .scan(10_000, |record| {
            assert_eq!((record.index, record.offset_delta), (seen, seen));
            assert_eq!(record.has_key, seen != 1);
            seen += 1;
        })
        .unwrap();
    assert_eq!(seen, 3);
}

#[test]
fn what_the_java_client_writes_is_read() {
    let mut formats = 0;
    for (format, name, bytes) in written() {
        let Ok(codec) = name.parse::<Compression>() else {
            continue;
        };
        formats += 1;
        if format == "2" {
            let batch = only_batch(&bytes);
            assert_eq!(batch.header.attributes.compression(), Ok(codec));
            check(&batch, format, name);
            continue;
        }
        // The LZ4 frame of format 0 has a checksum that no decoder takes.
        let builder = message_set::to_record_batch(&bytes, 10_000, None);
        let converted = builder
            .unwrap_or_else(|error| panic!("{format} {name}: {error}"))
            .build()
            .unwrap();
        let batch = only_batch(&converted);
        assert_eq!(batch.header.attributes.compression(), Ok(codec));
        check(&batch, format, name);
    }
    assert_eq!(formats, 13);
}

#[test]
fn what_is_not_compressed_is_written_as_the_java_client_does() {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    let headers = [("h", Some(&b"x"[..])), ("n", None)].map(|(key, value)| RecordHeader {
        key: key.as_bytes(),
        value,
    });
    for index in 0..3 {
        let (key, value) = (
            format!("k{index}"),
            format!("value value value value {index}"),
        );
        let headers = if index == 2 { &headers[..] } else { &[] };
        let key = (index != 1).then_some(key.as_bytes());
        builder
            .append(TIMESTAMP + index, key, Some(value.as_bytes()), headers)
            .unwrap();
    }
    let java = written()
        .into_iter()
        .find(|(format, name, _)| (*format, *name) == ("2", "none"));
    assert_eq!(builder.build().unwrap(), java.unwrap().2);
}

#[test]
fn markers_are_written_and_read_as_the_java_client_does() {
    for (name, committed) in [("abort", false), ("commit", true)] {
        let java = written()
            .into_iter()
            .find(|(kind, found, _)| (*kind, *found) == ("marker", name));
        let java = java.unwrap().2;
        let marker = EndTransactionMarker {
            committed,
            coordinator_epoch: 12,
        };
        assert_eq!(EndTransactionMarker::read(&only_batch(&java)), Some(marker));
        let ours = marker.batch(9, 3, TIMESTAMP).unwrap().build().unwrap();
        assert_eq!(ours, java, "{name}");
    }
}
