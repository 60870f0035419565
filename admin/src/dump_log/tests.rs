//! Files are made here byte by byte, and what is printed is what Apache's kafka-dump-log 3.9.1 prints of the same bytes; `integration/apache-kafka/log-both-ways.sh` compares the two on whole
//! directories.

use std::path::PathBuf;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{
    EndTransactionMarker, RecordBatchBuilder, RecordHeader, set_base_offset,
    set_partition_leader_epoch,
};

use super::*;
use crate::options::tests::options;

/// A directory of one segment at offset 0.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// What is printed of a file, without its directory's name, and what is found.
    fn dump(&self, line: &[&str], name: &str) -> (String, Vec<String>, bool) {
        let path = self.path(name).display().to_string();
        let options = options(&TOOL, &[line, &["--files", &path]].concat());
        let request = Request::of(&options).map_err(|error| error.0).unwrap();
        let mut printed = Vec::new();
        let (findings, all) = request.dump_all(&mut Output::to(&mut printed, request.format));
        let directory = format!("{}/", self.0.path().display());
        let text = String::from_utf8(printed).unwrap().replace(&directory, "");
        let findings = findings.lines().into_iter();
        (
            text,
            findings.map(|line| line.replace(&directory, "")).collect(),
            all,
        )
    }
}

fn batch(builder: RecordBatchBuilder, base_offset: i64) -> Vec<u8> {
    let mut bytes = builder.build().unwrap().to_vec();
    set_base_offset(&mut bytes, base_offset);
    set_partition_leader_epoch(&mut bytes, 4);
    bytes
}

/// Two records, and one of an idempotent producer, compressed.
fn segment() -> Vec<u8> {
    let mut one = RecordBatchBuilder::new(Compression::None);
    one.append(1000, None, Some(b"first"), &[]).unwrap();
    let header = |key, value| RecordHeader { key, value };
    let headers = [header(&b"h"[..], None), header(b"i", Some(&b"x"[..]))];
    one.append(900, Some(b"k"), None, &headers).unwrap();
    let mut two = RecordBatchBuilder::new(Compression::Gzip).producer(7, 1, 5);
    two.append(1100, Some(b"k"), Some(b"v"), &[]).unwrap();
    [batch(one, 0), batch(two, 2)].concat()
}

#[test]
fn batches_and_records_are_printed_as_kafka_does() {
    let files = Files::new();
    let name = "00000000000000000000.log";
    files.write(name, &segment());
    let (shallow, findings, all) = files.dump(&[], name);
    let crc = |text: &str, line: usize| {
        let line = text.lines().nth(line).unwrap();
        line.split("crc: ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let size = segment().len() - 89;
    let batches = [
        format!(
            "baseOffset: 0 lastOffset: 1 count: 2 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 4 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1000 size: 89 magic: 2 compresscodec: none crc: {} isvalid: true",
            crc(&shallow, 2)
        ),
        format!(
            "baseOffset: 2 lastOffset: 2 count: 1 baseSequence: 5 lastSequence: 5 producerId: 7 producerEpoch: 1 partitionLeaderEpoch: 4 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 89 CreateTime: 1100 size: {size} magic: 2 compresscodec: gzip crc: {} isvalid: true",
            crc(&shallow, 3)
        ),
    ];
    let head = format!("Dumping {name}\nLog starting offset: 0\n");
    assert_eq!(shallow, format!("{head}{}\n{}\n", batches[0], batches[1]));
    assert!(findings.is_empty() && all);

    let (deep, ..) = files.dump(&["--print-data-log"], name);
    let records = [
        "| offset: 0 CreateTime: 1000 keySize: -1 valueSize: 5 sequence: -1 headerKeys: [] payload: first",
        "| offset: 1 CreateTime: 900 keySize: 1 valueSize: -1 sequence: -1 headerKeys: [h,i] key: k",
        "| offset: 2 CreateTime: 1100 keySize: 1 valueSize: 1 sequence: 5 headerKeys: [] key: k payload: v",
    ];
    let expected = [&batches[0], records[0], records[1], &batches[1], records[2]];
    assert_eq!(deep, format!("{head}{}\n", expected.join("\n")));

    let (data, ..) = files.dump(&["--print-data-log", "--skip-record-metadata"], name);
    assert!(data.contains("\n| payload: first\n| key: k\n"), "{data}");
}

#[test]
fn markers_of_transactions_are_told() {
    let files = Files::new();
    let name = "00000000000000000000.log";
    let marker = EndTransactionMarker {
        committed: false,
        coordinator_epoch: 9,
    };
    files.write(name, &batch(marker.batch(7, 1, 1000).unwrap(), 0));
    let (text, ..) = files.dump(&["--print-data-log"], name);
    let record = text.lines().nth(3).unwrap();
    assert_eq!(
        record,
        "| offset: 0 CreateTime: 1000 keySize: 4 valueSize: 6 sequence: -1 headerKeys: [] endTxnMarker: ABORT coordinatorEpoch: 9"
    );
}

#[test]
fn what_is_no_batch_is_counted_and_what_is_damaged_is_marked() {
    let files = Files::new();
    let name = "00000000000000000000.log";
    let mut bytes = segment();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bytes.extend_from_slice(&[0; 100]);
    files.write(name, &bytes);
    let (text, ..) = files.dump(&[], name);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[2].ends_with("isvalid: true") && lines[3].ends_with("isvalid: false"));
    assert_eq!(
        lines[4],
        format!("Found 100 invalid bytes at the end of {name}")
    );
    let (text, ..) = files.dump(&["--max-bytes", "100"], name);
    assert_eq!(
        text.lines().count(),
        3,
        "one batch fits, and no more is said: {text}"
    );
}

#[test]
fn no_byte_of_a_log_makes_it_fail() {
    let files = Files::new();
    let name = "00000000000000000000.log";
    let good = segment();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x88;
        files.write(name, &bad);
        let (text, _, all) = files.dump(&["--print-data-log"], name);
        assert!(all && text.starts_with("Dumping"), "byte {at}");
        files.write(name, &good[..at]);
        let (_, _, all) = files.dump(&["--print-data-log"], name);
        assert!(all, "cut at {at}");
    }
}

#[test]
fn indexes_are_compared_with_their_log() {
    let files = Files::new();
    let name = "00000000000000000000.index";
    files.write("00000000000000000000.log", &segment());
    let entry =
        |offset: u32, position: u32| [offset.to_be_bytes(), position.to_be_bytes()].concat();
    files.write(name, &[entry(2, 89), vec![0; 16]].concat());
    let (text, findings, _) = files.dump(&[], name);
    assert_eq!(text, format!("Dumping {name}\noffset: 2 position: 89\n"));
    assert!(findings.is_empty());
    let (text, ..) = files.dump(&["--verify-index-only"], name);
    assert_eq!(text, format!("Dumping {name}\n"));
    let (text, ..) = files.dump(&["--index-sanity-check"], name);
    assert_eq!(
        text,
        format!("Dumping {name}\n{name} passed sanity check.\n")
    );

    files.write(name, &[entry(1, 89), entry(2, 4_000_000_000)].concat());
    let (_, findings, _) = files.dump(&["--verify-index-only"], name);
    let expected = [
        format!("Mismatches in :{name}"),
        "  Index offset: 2, log offset: -1".to_owned(),
        "  Index offset: 1, log offset: 2".to_owned(),
    ];
    assert_eq!(findings, expected);
    files.write(name, &[1; 9]);
    assert!(!files.dump(&["--index-sanity-check"], name).2);
    files.write(name, &[]);
    let (text, ..) = files.dump(&[], name);
    assert_eq!(text, format!("Dumping {name}\n{name} is empty.\n"));
}

#[test]
fn time_indexes_are_compared_with_their_log() {
    let files = Files::new();
    let name = "00000000000000000000.timeindex";
    files.write("00000000000000000000.log", &segment());
    files.write("00000000000000000000.index", &[]);
    let entry = |timestamp: u64, offset: u32| {
        [&timestamp.to_be_bytes()[..], &offset.to_be_bytes()].concat()
    };
    files.write(name, &[entry(1000, 1), entry(1100, 2)].concat());
    let (text, findings, _) = files.dump(&[], name);
    assert_eq!(
        text,
        format!("Dumping {name}\ntimestamp: 1000 offset: 1\ntimestamp: 1100 offset: 2\n")
    );
    assert!(findings.is_empty(), "{findings:?}");
    let entries = [
        entry(1001, 1),
        entry(1000, 2),
        entry(1200, 3),
        entry(1300, 0),
    ];
    files.write(name, &entries.concat());
    let (_, findings, _) = files.dump(&["--verify-index-only"], name);
    let expected = [
        format!("Found timestamp mismatch in :{name}"),
        "  Index timestamp: 1001, log timestamp: 1000".to_owned(),
        "  Index timestamp: 1000, log timestamp: 1100".to_owned(),
        format!("Found out of order timestamp in :{name}"),
        "  Index timestamp: 1000, Previously indexed timestamp: 1001".to_owned(),
        "The following indexed offsets are not found in the log.".to_owned(),
        "Indexed offset: 3, found log offset: -1".to_owned(),
    ];
    assert_eq!(findings, expected);
}

#[test]
fn checkpoints_and_transactions_are_printed() {
    let files = Files::new();
    let name = "recovery-point-offset-checkpoint";
    files.write(name, b"0\n2\norders 0 15\norders 1 7\n");
    let (text, ..) = files.dump(&[], name);
    assert_eq!(
        text,
        format!(
            "Dumping {name}\ntopic: orders partition: 0 offset: 15\ntopic: orders partition: 1 offset: 7\n"
        )
    );
    let (text, ..) = files.dump(&["-o", "json"], "leader-epoch-checkpoint");
    assert_eq!(text, "", "what is missing is said on standard error");
    files.write("leader-epoch-checkpoint", b"0\n1\n3 40\n");
    let (text, ..) = files.dump(&["-o", "json"], "leader-epoch-checkpoint");
    assert_eq!(
        text,
        "{\"file\":\"leader-epoch-checkpoint\",\"kind\":\"leaderEpoch\",\"epoch\":3,\"startOffset\":40}\n"
    );
    let name = "00000000000000000000.txnindex";
    let entry = [7i64, 1, 5, 3].map(i64::to_be_bytes).concat();
    files.write(name, &[&[0, 0][..], &entry].concat());
    let (text, ..) = files.dump(&[], name);
    assert_eq!(
        text,
        format!(
            "Dumping {name}\nversion: 0 producerId: 7 firstOffset: 1 lastOffset: 5 lastStableOffset: 3\n"
        )
    );
    files.write(name, &[9; 34]);
    assert!(!files.dump(&[], name).2);
}

#[test]
fn what_coordinators_write_is_understood() {
    let string = |text: &str| {
        let length = text.len() as i16;
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    };
    let mut builder = RecordBatchBuilder::new(Compression::None);
    let key = [
        &[0, 1][..],
        &string("readers"),
        &string("orders"),
        &[0, 0, 0, 3],
    ]
    .concat();
    let commit = [
        &[0, 3][..],
        &750i64.to_be_bytes(),
        &2i32.to_be_bytes(),
        &string("m"),
        &1000i64.to_be_bytes(),
    ]
    .concat();
    builder.append(1, Some(&key), Some(&commit), &[]).unwrap();
    builder.append(1, Some(&key), None, &[]).unwrap();
    let group = [&[0, 2][..], &string("readers")].concat();
    builder
        .append(1, Some(&group), Some(&[0, 3, 0]), &[])
        .unwrap();
    builder.append(1, Some(&[0, 9]), Some(b""), &[]).unwrap();
    let files = Files::new();
    let name = "00000000000000000000.log";
    files.write(name, &batch(builder, 0));
    let (text, ..) = files.dump(&["--offsets-decoder", "--skip-record-metadata"], name);
    let records: Vec<_> = text.lines().skip(3).collect();
    let key = r#"{"type":"1","data":{"group":"readers","topic":"orders","partition":3}}"#;
    assert_eq!(
        records[0],
        format!(
            r#"| key: {key} payload: {{"version":"3","data":{{"offset":750,"leaderEpoch":2,"metadata":"m","commitTimestamp":1000}}}}"#
        )
    );
    assert_eq!(records[1], format!("| key: {key} payload: <DELETE>"));
    assert!(
        records[2].starts_with("| key: Error at offset 2, skipping."),
        "{}",
        records[2]
    );
    assert_eq!(
        records[3],
        "| key: Unknown record type 9 at offset 3, skipping."
    );

    let mut builder = RecordBatchBuilder::new(Compression::None);
    let key = [&[0, 0][..], &string("writer")].concat();
    let ongoing = [
        &[0, 0][..],
        &5i64.to_be_bytes(),
        &1i16.to_be_bytes(),
        &60_000i32.to_be_bytes(),
        &[1],
        &1i32.to_be_bytes(),
        &string("orders"),
        &2i32.to_be_bytes(),
        &0i32.to_be_bytes(),
        &3i32.to_be_bytes(),
        &1000i64.to_be_bytes(),
        &900i64.to_be_bytes(),
    ]
    .concat();
    builder.append(1, Some(&key), Some(&ongoing), &[]).unwrap();
    files.write(name, &batch(builder, 0));
    let line = ["--transaction-log-decoder", "--skip-record-metadata"];
    let (text, ..) = files.dump(&line, name);
    assert_eq!(
        text.lines().nth(3).unwrap(),
        "| key: transaction_metadata::transactionalId=writer payload: producerId:5,producerEpoch:1,state=Ongoing,partitions=[orders-0,orders-3],txnLastUpdateTimestamp=1000,txnTimeoutMs=60000"
    );
}
