//! Each test quotes the rule that it checks.

use super::*;

const LAG_MS: i64 = 30_000;

fn brokers(ids: &[i32]) -> Arc<LiveBrokers> {
    Arc::new(ids.iter().map(|&id| (id, 100 + i64::from(id))).collect())
}

fn replica(log_end_offset: i64, high_watermark: i64) -> Partition {
    Partition::new(PartitionSettings {
        local_id: 1,
        replica_lag_time_max_ms: LAG_MS,
        min_insync_replicas: 1,
        live_brokers: brokers(&[1, 2, 3]),
        log_start_offset: 0,
        log_end_offset,
        high_watermark,
    })
}

fn state(leader: i32, leader_epoch: i32, isr: &[i32]) -> LeaderAndIsr {
    LeaderAndIsr {
        leader: Some(leader),
        leader_epoch,
        isr: isr.to_vec(),
        partition_epoch: leader_epoch,
        replicas: vec![1, 2, 3],
    }
}

/// A leader at epoch 1 whose log ends at `end`, at time 0.
fn leader(end: i64, isr: &[i32]) -> Partition {
    let mut partition = replica(end, 0);
    partition.handle(0, Event::BecomeLeader(state(1, 1, isr)));
    partition
}

fn follower(leader_epoch: i32, end: i64, high_watermark: i64) -> Partition {
    let mut partition = replica(end, high_watermark);
    partition.handle(
        0,
        Event::BecomeFollower {
            state: state(2, leader_epoch, &[1, 2, 3]),
            latest_epoch: Some(0),
        },
    );
    partition
}

fn fetched(replica_id: i32, fetch_offset: i64) -> Event {
    Event::FollowerFetched {
        replica_id,
        replica_epoch: None,
        fetch_offset,
        log_start_offset: 0,
    }
}

fn appended(log_end_offset: i64) -> Event {
    Event::Appended { log_end_offset }
}

/// The answer to a request of leader epoch 1 to replace that version.
fn answered(partition_epoch: i32, outcome: AlterPartitionOutcome) -> Event {
    Event::AlterPartitionAnswered {
        leader_epoch: 1,
        partition_epoch,
        outcome,
    }
}

/// The request to replace the version before this one is written.
fn committed(isr: &[i32], partition_epoch: i32) -> Event {
    let outcome = AlterPartitionOutcome::Committed {
        isr: isr.to_vec(),
        partition_epoch,
    };
    answered(partition_epoch - 1, outcome)
}

fn alter(partition_epoch: i32, new_isr: &[i32]) -> Action {
    Action::RequestAlterPartition {
        leader_epoch: 1,
        partition_epoch,
        new_isr: new_isr.to_vec(),
    }
}

fn hw(high_watermark: i64) -> Action {
    Action::HighWatermarkAdvanced { high_watermark }
}

#[test]
fn high_watermark_is_the_least_log_end_offset_of_the_isr() {
    let mut p = leader(10, &[1, 2, 3]);
    assert_eq!(p.handle(1, fetched(2, 10)), [], "replica 3 is unknown yet");
    assert_eq!(p.handle(2, fetched(3, 7)), [hw(7)]);
    assert_eq!(p.handle(3, fetched(3, 10)), [hw(10)]);
    assert_eq!(p.handle(4, appended(12)), []);
}

#[test]
fn high_watermark_never_goes_back_under_an_epoch() {
    let mut p = leader(10, &[1, 2]);
    p.handle(1, fetched(2, 10));
    p.handle(2, appended(20));
    assert_eq!(p.handle(3, fetched(2, 4)), []);
    assert_eq!(p.high_watermark(), 10);
}

#[test]
fn alone_in_the_isr_an_append_is_committed_at_once() {
    let mut p = replica(0, 0);
    p.handle(
        0,
        Event::BecomeLeader(LeaderAndIsr {
            replicas: vec![1],
            ..state(1, 1, &[1])
        }),
    );
    assert_eq!(p.handle(0, appended(3)), [hw(3)]);
}

#[test]
fn high_watermark_waits_for_the_maximal_isr() {
    let mut p = leader(10, &[1]);
    assert_eq!(p.high_watermark(), 10);
    assert_eq!(p.handle(1, fetched(2, 10)), [alter(1, &[1, 2])]);
    assert_eq!(
        p.handle(LAG_MS * 2, appended(11)),
        [],
        "2 is about to join, so it counts already"
    );
    assert_eq!(p.handle(LAG_MS * 2, fetched(2, 11)), [hw(11)]);
}

#[test]
fn high_watermark_waits_for_a_live_replica_that_is_caught_up_though_not_in_the_isr() {
    let mut p = leader(10, &[1]);
    p.handle(1, fetched(2, 10));
    p.handle(1, answered(1, AlterPartitionOutcome::Refused));
    assert_eq!(p.handle(2, appended(11)), []);
    assert_eq!(
        p.handle(3, Event::LiveBrokersChanged(brokers(&[1, 3]))),
        [hw(11)],
        "dead: not waited for"
    );
}

#[test]
fn bug_kafka_15583_under_min_isr_the_high_watermark_stays() {
    let mut p = replica(10, 0);
    p.handle(0, Event::MinInsyncReplicasChanged(2));
    p.handle(0, Event::BecomeLeader(state(1, 1, &[1])));
    assert_eq!(p.high_watermark(), 0);
    assert_eq!(
        p.check_enough_replicas(),
        Err(NotEnoughReplicas {
            isr: 1,
            required: 2
        })
    );
    assert_eq!(p.handle(1, fetched(2, 10)), [alter(1, &[1, 2])]);
    assert_eq!(
        p.check_enough_replicas_after_append(),
        Ok(()),
        "the maximal ISR counts after an append"
    );
    assert_eq!(p.handle(2, committed(&[1, 2], 2)), [hw(10)]);
}

#[test]
fn min_isr_is_never_more_than_the_replicas() {
    let mut p = replica(10, 0);
    p.handle(0, Event::MinInsyncReplicasChanged(5));
    p.handle(
        0,
        Event::BecomeLeader(LeaderAndIsr {
            replicas: vec![1],
            ..state(1, 1, &[1])
        }),
    );
    assert_eq!(p.check_enough_replicas(), Ok(()));
    assert_eq!(p.high_watermark(), 10);
}

#[test]
fn bug_kafka_7415_a_new_leader_persists_where_its_epoch_starts() {
    let mut p = replica(10, 4);
    let actions = p.handle(0, Event::BecomeLeader(state(1, 3, &[1, 2])));
    assert_eq!(
        actions,
        [Action::AssignEpoch {
            leader_epoch: 3,
            start_offset: 10
        }]
    );
    assert_eq!(p.leader_epoch_start_offset(), Some(10));
}

#[test]
fn a_new_leader_knows_nothing_of_the_others_but_gives_isr_members_the_lag_time() {
    let mut p = leader(10, &[1, 2]);
    p.handle(1, fetched(2, 10));
    p.handle(
        2,
        Event::BecomeFollower {
            state: state(2, 2, &[1, 2]),
            latest_epoch: Some(1),
        },
    );
    p.handle(
        3,
        Event::LogMoved {
            log_start_offset: 0,
            log_end_offset: 12,
        },
    );
    p.handle(100, Event::BecomeLeader(state(1, 3, &[1, 2])));
    assert_eq!(
        p.high_watermark(),
        10,
        "what 2 told the older leadership is forgotten"
    );
    assert_eq!(p.handle(100 + LAG_MS, Event::CheckIsr), []);
    let shrink = Action::RequestAlterPartition {
        leader_epoch: 3,
        partition_epoch: 3,
        new_isr: vec![1],
    };
    assert_eq!(p.handle(101 + LAG_MS, Event::CheckIsr), [shrink]);
}

#[test]
fn a_leader_that_missed_an_epoch_forgets_what_its_followers_held() {
    let mut p = leader(105, &[1, 2, 3]);
    p.handle(1, fetched(2, 103));
    p.handle(1, fetched(3, 105));
    // Under epoch 2, of which 1 never heard, 2 led, 3 truncated to 103, and 2 died.
    let actions = p.handle(2, Event::BecomeLeader(state(1, 3, &[1, 3])));
    let assign = Action::AssignEpoch {
        leader_epoch: 3,
        start_offset: 105,
    };
    assert_eq!(actions, [assign], "3 holds no more than 103");
    assert_eq!(p.handle(3, fetched(3, 103)), []);
    assert_eq!(p.handle(4, fetched(3, 105)), [hw(105)]);
}

#[test]
fn a_follower_that_stops_leaves_the_isr_after_the_lag_time() {
    let mut p = leader(10, &[1, 2, 3]);
    p.handle(1000, fetched(2, 10));
    p.handle(1000, fetched(3, 10));
    p.handle(1001, appended(11));
    p.handle(20_000, fetched(3, 11));
    assert_eq!(p.handle(1000 + LAG_MS, Event::CheckIsr), []);
    assert_eq!(
        p.handle(1001 + LAG_MS, Event::CheckIsr),
        [alter(1, &[1, 3])]
    );
}

#[test]
fn an_idle_follower_at_the_log_end_stays_in_the_isr() {
    let mut p = leader(10, &[1, 2]);
    p.handle(0, fetched(2, 10));
    assert_eq!(p.handle(LAG_MS * 10, Event::CheckIsr), []);
}

#[test]
fn caught_up_is_also_who_reaches_the_end_of_the_fetch_before() {
    let mut p = leader(10, &[1, 2]);
    p.handle(1000, fetched(2, 5));
    p.handle(1001, appended(20));
    p.handle(LAG_MS, fetched(2, 10));
    p.handle(LAG_MS, appended(30));
    assert_eq!(
        p.handle(1000 + LAG_MS, Event::CheckIsr),
        [],
        "it was caught up at 1000"
    );
    assert_eq!(p.handle(1001 + LAG_MS, Event::CheckIsr), [alter(1, &[1])]);
}

#[test]
fn bug_kafka_13091_a_shrink_counts_when_the_controller_has_written_it() {
    let mut p = leader(10, &[1, 2]);
    assert_eq!(p.handle(LAG_MS + 1, Event::CheckIsr), [alter(1, &[1])]);
    assert_eq!(p.high_watermark(), 0, "2 could still be elected");
    assert_eq!(p.handle(LAG_MS + 2, committed(&[1], 2)), [hw(10)]);
    assert_eq!(p.isr(), [1]);
}

#[test]
fn one_alter_partition_is_in_flight() {
    let mut p = leader(10, &[1]);
    assert_eq!(p.handle(1, fetched(2, 10)), [alter(1, &[1, 2])]);
    assert_eq!(p.handle(2, fetched(3, 10)), []);
    assert_eq!(p.handle(2, Event::CheckIsr), []);
    p.handle(3, committed(&[1, 2], 2));
    assert_eq!(p.handle(4, fetched(3, 10)), [alter(2, &[1, 2, 3])]);
}

#[test]
fn a_refused_request_is_forgotten_and_may_be_made_again() {
    let mut p = leader(10, &[1]);
    p.handle(1, fetched(2, 10));
    p.handle(2, answered(1, AlterPartitionOutcome::Refused));
    assert_eq!(p.handle(3, fetched(2, 10)), [alter(1, &[1, 2])]);
}

#[test]
fn a_superseded_request_holds_until_the_newer_state_comes() {
    let mut p = leader(10, &[1]);
    p.handle(1, fetched(2, 10));
    p.handle(2, answered(1, AlterPartitionOutcome::Superseded));
    assert_eq!(p.handle(3, fetched(2, 10)), []);
    let published = |partition_epoch| Event::StatePublished {
        leader_epoch: 1,
        partition_epoch,
        isr: vec![1, 2],
    };
    p.handle(4, published(1));
    assert_eq!(p.isr(), [1], "not newer");
    p.handle(4, published(5));
    assert_eq!((p.isr(), p.partition_epoch()), (&[1, 2][..], 5));
}

#[test]
fn an_answer_to_an_older_epoch_changes_nothing() {
    let mut p = leader(10, &[1]);
    p.handle(1, fetched(2, 10));
    p.handle(2, Event::BecomeLeader(state(1, 2, &[1, 3])));
    p.handle(3, committed(&[1, 2], 9));
    assert_eq!(p.isr(), [1, 3]);
}

#[test]
fn a_late_answer_does_not_pass_for_one_to_the_request_that_is_pending_now() {
    let late = [
        committed(&[1, 2], 2),
        answered(1, AlterPartitionOutcome::Refused),
    ];
    for late in late {
        let mut p = leader(10, &[1]);
        assert_eq!(p.handle(1, fetched(2, 10)), [alter(1, &[1, 2])]);
        // UpdateMetadata overtakes the answer, and the next request is made.
        p.handle(
            2,
            Event::StatePublished {
                leader_epoch: 1,
                partition_epoch: 2,
                isr: vec![1, 2],
            },
        );
        assert_eq!(p.handle(3, fetched(3, 10)), [alter(2, &[1, 2, 3])]);
        p.handle(4, late);
        p.handle(LAG_MS * 2, appended(11));
        assert_eq!(
            p.handle(LAG_MS * 2, fetched(2, 11)),
            [],
            "3 is about to join, so it counts already"
        );
        assert_eq!(p.handle(LAG_MS * 2, fetched(3, 11)), [hw(11)]);
    }
}

#[test]
fn a_replica_joins_at_the_high_watermark() {
    let mut p = leader(10, &[1, 2]);
    p.handle(1, fetched(2, 10));
    p.handle(2, appended(15));
    assert_eq!(p.handle(3, fetched(3, 9)), []);
    assert_eq!(p.handle(4, fetched(3, 10)), [alter(1, &[1, 2, 3])]);
}

#[test]
fn bug_kafka_7128_a_replica_below_the_start_of_the_epoch_does_not_join() {
    let mut p = leader(10, &[1, 2]);
    assert_eq!(p.high_watermark(), 0);
    assert_eq!(
        p.handle(1, fetched(3, 9)),
        [],
        "at the high watermark, but short of the epoch's start"
    );
    assert_eq!(p.handle(2, fetched(3, 10)), [alter(1, &[1, 2, 3])]);
}

#[test]
fn bug_kafka_14140_a_broker_that_is_gone_does_not_join() {
    let mut p = leader(10, &[1]);
    p.handle(0, Event::LiveBrokersChanged(brokers(&[1, 3])));
    assert_eq!(p.handle(1, fetched(2, 10)), []);
}

#[test]
fn kip_903_another_life_of_a_broker_does_not_join() {
    let mut p = leader(10, &[1]);
    let fetch = |epoch| Event::FollowerFetched {
        replica_id: 2,
        replica_epoch: Some(epoch),
        fetch_offset: 10,
        log_start_offset: 0,
    };
    assert_eq!(p.handle(1, fetch(101)), []);
    assert_eq!(p.handle(1, fetch(102)), [alter(1, &[1, 2])]);
}

#[test]
fn kip_320_the_leader_epoch_of_a_request_is_compared_both_ways() {
    let p = leader(10, &[1]);
    assert_eq!(
        p.check_leader(Some(0)),
        Err(LeadershipError::FencedLeaderEpoch)
    );
    assert_eq!(
        p.check_leader(Some(2)),
        Err(LeadershipError::UnknownLeaderEpoch)
    );
    assert_eq!(p.check_leader(Some(1)), Ok(()));
    assert_eq!(p.check_leader(None), Ok(()));
    let p = follower(4, 10, 10);
    assert_eq!(p.check_leader(Some(4)), Err(LeadershipError::NotLeader));
    assert_eq!(
        p.check_leader(Some(3)),
        Err(LeadershipError::FencedLeaderEpoch)
    );
}

#[test]
fn a_decision_that_is_not_newer_is_ignored() {
    let mut p = leader(10, &[1]);
    assert!(!p.accepts(1) && p.accepts(2));
    assert_eq!(
        p.handle(
            1,
            Event::BecomeFollower {
                state: state(2, 1, &[2]),
                latest_epoch: Some(1)
            }
        ),
        []
    );
    assert!(p.is_leader());
}

#[test]
fn who_loses_leadership_tells_who_waits_and_then_follows() {
    let mut p = leader(10, &[1, 2]);
    let actions = p.handle(
        1,
        Event::BecomeFollower {
            state: state(2, 2, &[2]),
            latest_epoch: Some(1),
        },
    );
    assert_eq!(
        actions,
        [
            Action::LeadershipLost,
            Action::StartFetching {
                leader: 2,
                leader_epoch: 2
            }
        ]
    );
    assert!(p.isr().is_empty());
    let actions = p.handle(1, Event::BecomeLeader(state(1, 3, &[1])));
    assert_eq!(actions[0], Action::StopFetching);
}

#[test]
fn without_a_leader_nothing_is_fetched() {
    let mut p = replica(10, 10);
    let state = LeaderAndIsr {
        leader: None,
        ..state(2, 5, &[2])
    };
    assert_eq!(
        p.handle(
            0,
            Event::BecomeFollower {
                state,
                latest_epoch: Some(1)
            }
        ),
        []
    );
    assert_eq!(p.leader(), None);
}

#[test]
fn kip_101_a_follower_truncates_to_its_high_watermark_only_without_epochs() {
    let mut p = replica(10, 4);
    let event = |epoch, latest_epoch| Event::BecomeFollower {
        state: state(2, epoch, &[2]),
        latest_epoch,
    };
    let start = |leader_epoch| Action::StartFetching {
        leader: 2,
        leader_epoch,
    };
    assert_eq!(p.handle(0, event(1, Some(0))), [start(1)]);
    assert_eq!(
        p.handle(0, event(2, None)),
        [
            Action::StopFetching,
            Action::Truncate { offset: 4 },
            start(2)
        ]
    );
}

fn replica_fetched(
    log_end_offset: i64,
    leader_high_watermark: i64,
    leader_log_start_offset: i64,
) -> Event {
    Event::ReplicaFetched {
        leader_epoch: 1,
        log_end_offset,
        leader_high_watermark,
        leader_log_start_offset,
    }
}

#[test]
fn a_followers_high_watermark_is_the_leaders_but_within_its_log() {
    let mut p = follower(1, 10, 4);
    assert_eq!(p.handle(0, replica_fetched(12, 20, 0)), [hw(12)]);
    assert_eq!(p.handle(0, replica_fetched(15, 13, 0)), [hw(13)]);
    assert_eq!(p.handle(0, replica_fetched(15, 12, 0)), [], "never back");
}

#[test]
fn a_follower_raises_its_log_start_to_the_leaders() {
    let mut p = follower(1, 10, 10);
    assert_eq!(
        p.handle(0, replica_fetched(10, 10, 6)),
        [Action::RaiseLogStartOffset { offset: 6 }]
    );
}

#[test]
fn the_low_watermark_is_the_least_start_of_the_live_replicas() {
    assert_eq!(follower(1, 10, 10).low_watermark(), None);
    let mut p = leader(10, &[1, 2, 3]);
    p.handle(0, Event::LiveBrokersChanged(brokers(&[1, 2, 3])));
    let fetched = |replica_id, log_start_offset| Event::FollowerFetched {
        replica_id,
        replica_epoch: None,
        fetch_offset: 10,
        log_start_offset,
    };
    p.handle(0, fetched(2, 0));
    assert_eq!(p.low_watermark(), Some(-1), "one has not told");
    p.handle(0, fetched(3, 0));
    let moved = |log_start_offset| Event::LogMoved {
        log_start_offset,
        log_end_offset: 10,
    };
    p.handle(0, moved(7));
    assert_eq!(p.low_watermark(), Some(0));
    p.handle(0, fetched(2, 7));
    assert_eq!(p.low_watermark(), Some(0));
    p.handle(0, Event::LiveBrokersChanged(brokers(&[1, 2])));
    assert_eq!(
        p.low_watermark(),
        Some(7),
        "who is not alive is not waited for"
    );
}

#[test]
fn an_answer_of_an_older_leader_is_dropped() {
    let mut p = follower(2, 10, 4);
    assert_eq!(p.handle(0, replica_fetched(10, 10, 0)), []);
    let leader_end = EpochEndOffset {
        leader_epoch: 0,
        end_offset: 2,
    };
    assert_eq!(
        p.handle(
            0,
            Event::Diverged {
                leader_epoch: 1,
                leader_end,
                local_end: None
            }
        ),
        []
    );
    assert_eq!(p.high_watermark(), 4);
}

fn diverged(leader_end: (i32, i64), local_end: Option<(i32, i64)>) -> Vec<Action> {
    let end = |(leader_epoch, end_offset)| EpochEndOffset {
        leader_epoch,
        end_offset,
    };
    let event = Event::Diverged {
        leader_epoch: 1,
        leader_end: end(leader_end),
        local_end: local_end.map(end),
    };
    follower(1, 10, 4).handle(0, event)
}

#[test]
fn kip_279_truncation_goes_to_the_least_of_both_ends_of_the_epoch() {
    assert_eq!(
        diverged((1, 6), Some((1, 8))),
        [Action::Truncate { offset: 6 }]
    );
    assert_eq!(
        diverged((1, 9), Some((1, 8))),
        [Action::Truncate { offset: 8 }]
    );
    assert_eq!(
        diverged((1, 30), Some((1, 20))),
        [Action::Truncate { offset: 10 }],
        "never above the log end"
    );
}

#[test]
fn kip_279_a_follower_without_the_leaders_epoch_cuts_to_the_end_of_its_own_smaller_one() {
    assert_eq!(
        diverged((5, 9), Some((3, 7))),
        [Action::Truncate { offset: 7 }]
    );
}

#[test]
fn a_follower_that_knows_no_such_epoch_cuts_to_the_leaders_end() {
    assert_eq!(diverged((1, 6), None), [Action::Truncate { offset: 6 }]);
}

#[test]
fn bug_kafka_14704_divergence_truncates_before_any_high_watermark_counts() {
    let mut p = follower(1, 10, 8);
    let leader_end = EpochEndOffset {
        leader_epoch: 0,
        end_offset: 5,
    };
    let actions = p.handle(
        0,
        Event::Diverged {
            leader_epoch: 1,
            leader_end,
            local_end: Some(leader_end),
        },
    );
    assert_eq!(actions, [Action::Truncate { offset: 5 }]);
    p.handle(
        0,
        Event::LogMoved {
            log_start_offset: 0,
            log_end_offset: 5,
        },
    );
    assert_eq!(p.high_watermark(), 5, "never above the log");
}

#[test]
fn kip_595_divergence_is_a_smaller_epoch_or_an_earlier_end() {
    let end = |leader_epoch, end_offset| EpochEndOffset {
        leader_epoch,
        end_offset,
    };
    assert_eq!(diverging_epoch(3, 10, end(3, 10)), None);
    assert_eq!(diverging_epoch(3, 10, end(3, 9)), Some(end(3, 9)));
    assert_eq!(diverging_epoch(3, 10, end(2, 10)), Some(end(2, 10)));
}

fn out_of_range(end: i64, leader_bounds: (i64, i64)) -> Vec<Action> {
    follower(1, end, 0).handle(
        0,
        Event::OffsetOutOfRange {
            leader_epoch: 1,
            leader_log_start_offset: leader_bounds.0,
            leader_log_end_offset: leader_bounds.1,
        },
    )
}

#[test]
fn bug_kafka_9491_out_of_range_cuts_above_the_leaders_end_and_starts_anew_below_its_start() {
    assert_eq!(out_of_range(10, (0, 7)), [Action::Truncate { offset: 7 }]);
    assert_eq!(
        out_of_range(10, (20, 30)),
        [Action::TruncateFully { offset: 20 }]
    );
    assert_eq!(out_of_range(10, (5, 30)), [], "inside by now: fetch again");
}

#[test]
fn bug_kafka_9491_a_log_that_starts_anew_has_its_high_watermark_there() {
    let mut p = follower(1, 10, 4);
    p.handle(
        0,
        Event::LogMoved {
            log_start_offset: 20,
            log_end_offset: 20,
        },
    );
    assert_eq!(p.high_watermark(), 20);
}

#[test]
fn a_checkpointed_high_watermark_is_held_within_the_log() {
    assert_eq!(replica(10, 50).high_watermark(), 10);
}
