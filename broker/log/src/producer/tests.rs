use super::*;

fn batch(epoch: i16, first_sequence: i32, count: i32, first_offset: i64) -> ProducerBatch {
    ProducerBatch {
        producer_id: 9,
        epoch,
        first_sequence,
        first_offset,
        offset_delta: count - 1,
        timestamp: 1000,
        transactional: false,
    }
}

fn state(batches: &[ProducerBatch]) -> ProducerState {
    let mut state = ProducerState::default();
    for batch in batches {
        state.update(batch);
    }
    state
}

fn out_of_order(sequence: i32, expected: i32) -> Result<(), ProducerError> {
    Err(ProducerError::OutOfOrder {
        producer_id: 9,
        sequence,
        expected,
    })
}

#[test]
fn the_next_sequence_is_the_last_plus_one() {
    let state = state(&[batch(0, 0, 3, 100)]);
    assert_eq!(state.check(&batch(0, 3, 1, 103)), Ok(()));
    assert_eq!(state.check(&batch(0, 4, 1, 103)), out_of_order(4, 3));
    assert_eq!(state.check(&batch(0, 1, 1, 103)), out_of_order(1, 3));
}

#[test]
fn a_producer_that_is_not_known_may_begin_anywhere() {
    assert_eq!(ProducerState::default().check(&batch(3, 77, 1, 0)), Ok(()));
}

#[test]
fn a_new_epoch_begins_at_zero_and_an_old_one_is_refused() {
    let state = state(&[batch(4, 0, 3, 100)]);
    assert_eq!(state.check(&batch(5, 0, 1, 103)), Ok(()));
    assert_eq!(state.check(&batch(5, 3, 1, 103)), out_of_order(3, 0));
    let stale = ProducerError::StaleEpoch {
        producer_id: 9,
        epoch: 3,
        current: 4,
    };
    assert_eq!(state.check(&batch(3, 3, 1, 103)), Err(stale));
}

#[test]
fn bug_kafka_7692_sequence_numbers_wrap_to_zero() {
    let over = batch(0, i32::MAX - 1, 4, 100);
    assert_eq!(over.last_sequence(), 1);
    let state = state(&[over]);
    assert_eq!(state.find_duplicate(&over).unwrap().first_offset(), 100);
    assert_eq!(state.check(&batch(0, 2, 1, 104)), Ok(()));
    let at_the_edge = batch(0, i32::MAX, 1, 0);
    assert_eq!(
        self::state(&[at_the_edge]).check(&batch(0, 0, 1, 1)),
        Ok(())
    );
}

#[test]
fn the_last_five_batches_are_known_again() {
    let batches: Vec<_> = (0..6)
        .map(|step| batch(0, step * 2, 2, 100 + i64::from(step) * 2))
        .collect();
    let state = state(&batches);
    assert_eq!(
        state.find_duplicate(&batches[0]),
        None,
        "the sixth pushed it out"
    );
    for sent in &batches[1..] {
        assert_eq!(
            state.find_duplicate(sent).unwrap().first_offset(),
            sent.first_offset
        );
    }
    assert_eq!(
        state.find_duplicate(&batch(0, 2, 1, 0)),
        None,
        "not the same records"
    );
    assert_eq!(
        state.find_duplicate(&batch(1, 2, 2, 0)),
        None,
        "not the same epoch"
    );
}

#[test]
fn a_new_epoch_forgets_the_batches_of_the_old() {
    let state = state(&[batch(0, 0, 2, 100), batch(1, 0, 1, 102)]);
    assert_eq!(state.find_duplicate(&batch(0, 0, 2, 0)), None);
    assert_eq!(
        state
            .find_duplicate(&batch(1, 0, 1, 0))
            .unwrap()
            .first_offset(),
        102
    );
}

fn transactional(producer_id: i64, first_sequence: i32, first_offset: i64) -> ProducerBatch {
    ProducerBatch {
        producer_id,
        transactional: true,
        ..batch(0, first_sequence, 1, first_offset)
    }
}

fn marker(producer_id: i64, offset: i64, committed: bool) -> ProducerMarker {
    ProducerMarker {
        producer_id,
        epoch: 0,
        offset,
        timestamp: 1000,
        marker: EndTransactionMarker {
            committed,
            coordinator_epoch: 5,
        },
    }
}

#[test]
fn a_marker_ends_the_transaction() {
    let mut state = state(&[transactional(9, 0, 100)]);
    assert_eq!(state.first_unstable_offset(), Some(100));
    state.remove_expired(i64::MAX, 1);
    assert_eq!(
        state.first_unstable_offset(),
        Some(100),
        "an open transaction is not forgotten"
    );
    assert_eq!(
        state.check(&batch(0, 1, 1, 101)),
        Err(ProducerError::OutsideTransaction { producer_id: 9 })
    );
    assert_eq!(state.check(&transactional(9, 1, 101)), Ok(()));
    state.end_transaction(&marker(9, 101, true));
    assert_eq!(
        state.check(&batch(0, 1, 1, 102)),
        Ok(()),
        "a marker has no sequence"
    );
    assert_eq!(state.producers[&9].coordinator_epoch, 5);
}

#[test]
fn what_ended_is_unstable_until_the_high_watermark_passes_its_marker() {
    let mut state = state(&[
        transactional(1, 0, 100),
        transactional(2, 0, 101),
        transactional(3, 0, 102),
    ]);
    state.end_transaction(&marker(2, 103, true));
    state.end_transaction(&marker(1, 104, true));
    assert_eq!(state.first_unstable_offset(), Some(100));
    state.high_watermark_advanced(104);
    assert_eq!(
        state.first_unstable_offset(),
        Some(100),
        "its marker is not below"
    );
    state.high_watermark_advanced(105);
    assert_eq!(state.first_unstable_offset(), Some(102), "still open");
    state.end_transaction(&marker(3, 105, false));
    assert_eq!(state.first_unstable_offset(), Some(102));
    state.high_watermark_advanced(106);
    assert_eq!(state.first_unstable_offset(), None);
}

#[test]
fn an_aborted_transaction_tells_what_is_open_beside_it() {
    let mut state = state(&[transactional(1, 0, 100), transactional(2, 0, 101)]);
    assert_eq!(state.aborted_by(&marker(2, 103, true)), None, "committed");
    assert_eq!(
        state.aborted_by(&marker(3, 103, false)),
        None,
        "nothing of it here"
    );
    let aborted = |producer_id, first_offset, last_offset, last_stable_offset| {
        Some(AbortedTransaction {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        })
    };
    assert_eq!(
        state.aborted_by(&marker(2, 103, false)),
        aborted(2, 101, 103, 100)
    );
    state.end_transaction(&marker(2, 103, false));
    assert_eq!(
        state.aborted_by(&marker(1, 104, false)),
        aborted(1, 100, 104, 105)
    );
    state.end_transaction(&marker(1, 104, false));
    assert_eq!(
        state.aborted_by(&marker(1, 105, false)),
        None,
        "it has ended"
    );
}

#[test]
fn markers_of_an_old_epoch_or_coordinator_are_refused() {
    let mut state = state(&[transactional(9, 0, 100)]);
    state.end_transaction(&marker(9, 101, true));
    let old_coordinator = EndTransactionMarker {
        committed: true,
        coordinator_epoch: 4,
    };
    let stale = ProducerMarker {
        marker: old_coordinator,
        ..marker(9, 102, true)
    };
    assert_eq!(
        state.check_marker(&stale),
        Err(ProducerError::StaleCoordinator {
            producer_id: 9,
            epoch: 4,
            current: 5
        })
    );
    assert_eq!(state.check_marker(&marker(9, 102, true)), Ok(()));
    let bumped = ProducerMarker {
        epoch: 1,
        ..marker(9, 102, false)
    };
    state.end_transaction(&bumped);
    assert!(matches!(
        state.check_marker(&marker(9, 103, true)),
        Err(ProducerError::StaleEpoch {
            epoch: 0,
            current: 1,
            ..
        })
    ));
    assert_eq!(
        state.check(&batch(1, 3, 1, 103)),
        out_of_order(3, 0),
        "a new epoch begins at 0"
    );
}

#[test]
fn a_coordinators_batch_has_no_sequence() {
    let without = ProducerBatch {
        first_sequence: NO_SEQUENCE,
        ..transactional(9, 0, 100)
    };
    let wide = ProducerBatch {
        offset_delta: 4,
        ..without
    };
    assert_eq!(wide.last_sequence(), NO_SEQUENCE);
    let state = state(&[wide]);
    assert_eq!(state.first_unstable_offset(), Some(100));
}

#[test]
fn a_silent_producer_is_forgotten() {
    let mut state = state(&[batch(0, 0, 1, 100)]);
    state.remove_expired(1999, 1000);
    assert_eq!(state.entries().len(), 1);
    state.remove_expired(2000, 1000);
    assert_eq!(state.entries().len(), 0);
}
