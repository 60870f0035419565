//! What goes of a log, and when.

use log::LogConfig;

use crate::broker::{Broker, NOW_MS, batch, locked, offsets};

/// Each batch fills a segment.
fn one_batch_a_segment() -> LogConfig {
    LogConfig {
        segment_bytes: batch(1, b"value", NOW_MS).len() as u32,
        file_delete_delay_ms: 1000,
        ..LogConfig::default()
    }
}

fn fill(broker: &Broker, batches: i64) {
    let shared = broker.log();
    let mut log = locked(&shared);
    for step in 0..batches {
        log.append_as_leader(&mut batch(1, b"value", NOW_MS + step), 0, NOW_MS)
            .unwrap();
    }
}

fn deleted_files(broker: &Broker) -> Vec<String> {
    let files = broker.files().into_iter();
    files.filter(|name| name.ends_with(".deleted")).collect()
}

#[test]
fn files_of_segments_that_go_are_renamed_at_once_and_unlinked_after_their_delay() {
    let broker = Broker::start(one_batch_a_segment());
    fill(&broker, 4);
    let shared = broker.log();
    let range = {
        let log = locked(&shared);
        log.read(2, 1 << 20, 4, true).unwrap().range.unwrap()
    };
    locked(&shared).truncate_to(2, NOW_MS).unwrap();
    assert_eq!(
        deleted_files(&broker),
        [
            "00000000000000000002.index.deleted",
            "00000000000000000002.log.deleted",
            "00000000000000000002.snapshot.deleted",
            "00000000000000000002.timeindex.deleted",
            "00000000000000000003.index.deleted",
            "00000000000000000003.log.deleted",
            "00000000000000000003.timeindex.deleted",
        ]
    );
    assert_eq!(broker.manager.delete_due(NOW_MS + 999).unwrap(), 0);
    assert_eq!(broker.manager.delete_due(NOW_MS + 1000).unwrap(), 7);
    assert_eq!(deleted_files(&broker), [""; 0]);
    let mut byte = [0];
    assert_eq!(
        range.file.read_at(&mut byte, range.position).unwrap(),
        1,
        "who holds a file keeps it"
    );
    assert_eq!(offsets(&locked(&shared)), [0, 1]);
}

#[test]
fn files_that_were_to_be_unlinked_go_at_the_next_start() {
    let broker = Broker::start(one_batch_a_segment());
    fill(&broker, 4);
    locked(&broker.log()).truncate_to(1, NOW_MS).unwrap();
    assert!(!deleted_files(&broker).is_empty());
    let broker = broker.kill_and_start();
    assert_eq!(deleted_files(&broker), [""; 0]);
    assert_eq!(offsets(&locked(&broker.log())), [0]);
}
