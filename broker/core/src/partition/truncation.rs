//! Where two logs part, told by leader epochs (KIP-101, KIP-279, KIP-595).

/// A leader epoch and the offset after its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch.
    pub leader_epoch: i32,
    /// The first offset that is not of this epoch or an older one.
    pub end_offset: i64,
}

/// Where a follower cuts its log of end `log_end_offset` when its leader ends an epoch at `leader_end`.
///
/// `local_end` is the follower's own largest epoch that is not above `leader_end`'s, and its end;
/// `None` if its log knows no such epoch.
pub(super) fn truncation(
    leader_end: EpochEndOffset,
    local_end: Option<EpochEndOffset>,
    log_end_offset: i64,
) -> i64 {
    let offset = match local_end {
        // KIP-279: the follower lacks the leader's epoch. All above its own smaller one is foreign to
        // the leader; whether the logs agree below it, the next fetch asks.
        Some(local) if local.leader_epoch != leader_end.leader_epoch => local.end_offset,
        Some(local) => local.end_offset.min(leader_end.end_offset),
        None => leader_end.end_offset,
    };
    offset.min(log_end_offset)
}

/// What a leader answers to a follower whose log parts from its own below `fetch_offset`; `None` if the
/// follower may fetch on (KIP-595).
///
/// `leader_end` is the leader's largest epoch that is not above `last_fetched_epoch`, and its end.
pub fn diverging_epoch(
    last_fetched_epoch: i32,
    fetch_offset: i64,
    leader_end: EpochEndOffset,
) -> Option<EpochEndOffset> {
    let diverges =
        leader_end.leader_epoch < last_fetched_epoch || leader_end.end_offset < fetch_offset;
    diverges.then_some(leader_end)
}
