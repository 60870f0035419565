//! Where a new topic's replicas go: Kafka's round robin, rack by rack where every broker has one.

use std::collections::{BTreeMap, BTreeSet};

/// A broker that may hold replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub broker_id: i32,
    /// Its rack; racks count only where every candidate has one.
    pub rack: Option<String>,
}

/// What is to be placed, and where the round begins. Kafka draws `start` and `shift` at random for
/// a new topic, so that the first partitions of many topics do not gather on one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The first partition's index: 0 for a new topic, the current count when extending one.
    pub first_partition: i32,
    /// How many partitions to place.
    pub num_partitions: i32,
    /// How many replicas each gets.
    pub replication_factor: i16,
    /// The candidate (by index) that leads partition 0.
    pub start: usize,
    /// How far the second replica lies behind the first.
    pub shift: usize,
}

/// Why replicas cannot be placed. The texts are the ones that Kafka's tools print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// No partitions were asked for.
    #[error("Number of partitions must be larger than 0.")]
    NoPartitions,
    /// No replicas were asked for.
    #[error("Replication factor must be larger than 0.")]
    NoReplicas,
    /// More replicas than brokers.
    #[error("Replication factor: {replication_factor} larger than available brokers: {brokers}.")]
    TooFewBrokers {
        /// What was asked for.
        replication_factor: i16,
        /// How many brokers there are.
        brokers: usize,
    },
}

/// The replicas of each partition, in the order of preference.
///
/// Partition p is led by candidate f = (p + start) mod n, and its replica j ≥ 1 is
/// (f + 1 + (shift + j − 1) mod (n − 1)) mod n, where the shift grows by one each time that the
/// round is complete: so followers of one broker's partitions spread over all the others.
pub fn assign(
    candidates: &[Candidate],
    placement: Placement,
) -> Result<BTreeMap<i32, Vec<i32>>, AssignmentError> {
    let Placement {
        first_partition,
        num_partitions,
        replication_factor,
        start,
        mut shift,
    } = placement;
    if num_partitions <= 0 {
        return Err(AssignmentError::NoPartitions);
    }
    if replication_factor <= 0 {
        return Err(AssignmentError::NoReplicas);
    }
    let n = candidates.len();
    let per_partition = usize::try_from(replication_factor).unwrap_or(usize::MAX);
    if per_partition > n {
        return Err(AssignmentError::TooFewBrokers {
            replication_factor,
            brokers: n,
        });
    }
    let order = alternate_racks(candidates);
    let racks: BTreeSet<_> = order
        .iter()
        .filter_map(|candidate| candidate.rack.as_deref())
        .collect();
    let racks = if order.iter().all(|candidate| candidate.rack.is_some()) {
        racks.len()
    } else {
        0
    };
    let mut assignment = BTreeMap::new();
    for partition in first_partition..first_partition.saturating_add(num_partitions) {
        let index = usize::try_from(partition).unwrap_or(0);
        if index > 0 && index % n == 0 {
            shift += 1;
        }
        let first = (index + start) % n;
        assignment.insert(partition, place(&order, racks, first, shift, per_partition));
    }
    Ok(assignment)
}

fn place(order: &[&Candidate], racks: usize, first: usize, shift: usize, count: usize) -> Vec<i32> {
    let n = order.len();
    let follower = |j: usize, shift: usize| order[(first + 1 + (shift + j) % (n - 1)) % n];
    let mut replicas = vec![order[first].broker_id];
    if racks == 0 {
        replicas.extend((0..count - 1).map(|j| follower(j, shift).broker_id));
        return replicas;
    }
    // One round over the others finds the racks that have none yet; further rounds fill up.
    let mut used_racks = BTreeSet::from([&order[first].rack]);
    let mut j = 0;
    while replicas.len() < count {
        let candidate = follower(j, shift * racks);
        let rack_is_due = used_racks.len() == racks || !used_racks.contains(&candidate.rack);
        if rack_is_due && !replicas.contains(&candidate.broker_id) {
            replicas.push(candidate.broker_id);
            used_racks.insert(&candidate.rack);
        }
        j += 1;
    }
    replicas
}

/// The first broker of each rack, then the second of each, and so on; by id where racks are not known.
fn alternate_racks(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut by_id: Vec<_> = candidates.iter().collect();
    by_id.sort_by_key(|candidate| candidate.broker_id);
    if by_id.iter().any(|candidate| candidate.rack.is_none()) {
        return by_id;
    }
    let mut seen: BTreeMap<&Option<String>, usize> = BTreeMap::new();
    let mut keyed: Vec<_> = by_id
        .into_iter()
        .map(|candidate| {
            let turn = seen.entry(&candidate.rack).or_default();
            *turn += 1;
            (*turn, &candidate.rack, candidate)
        })
        .collect();
    keyed.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    keyed
        .into_iter()
        .map(|(_, _, candidate)| candidate)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
        racks
            .iter()
            .zip(0..)
            .map(|(rack, broker_id)| Candidate {
                broker_id,
                rack: rack.map(str::to_owned),
            })
            .collect()
    }

    fn placement(num_partitions: i32, replication_factor: i16) -> Placement {
        Placement {
            first_partition: 0,
            num_partitions,
            replication_factor,
            start: 0,
            shift: 0,
        }
    }

    #[test]
    fn round_robin_is_kafkas() {
        // The example of Kafka's documentation: ten partitions over five brokers.
        let assignment = assign(&brokers(&[None; 5]), placement(10, 3)).unwrap();
        let expected = [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 0],
            [4, 0, 1],
            [0, 2, 3],
            [1, 3, 4],
            [2, 4, 0],
            [3, 0, 1],
            [4, 1, 2],
        ];
        for (partition, replicas) in (0..).zip(expected) {
            assert_eq!(assignment[&partition], replicas, "partition {partition}");
        }
    }

    #[test]
    fn racks_take_turns() {
        let brokers = brokers(&[
            Some("a"),
            Some("b"),
            Some("c"),
            Some("c"),
            Some("b"),
            Some("a"),
        ]);
        for (_, replicas) in assign(&brokers, placement(12, 3)).unwrap() {
            let racks: BTreeSet<_> = replicas
                .iter()
                .map(|id| &brokers[usize::try_from(*id).unwrap()].rack)
                .collect();
            assert_eq!(racks.len(), 3, "{replicas:?}");
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let brokers = brokers(&[None; 2]);
        assert_eq!(
            assign(&brokers, placement(0, 1)),
            Err(AssignmentError::NoPartitions)
        );
        assert_eq!(
            assign(&brokers, placement(1, 0)),
            Err(AssignmentError::NoReplicas)
        );
        let error = assign(&brokers, placement(1, 3)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Replication factor: 3 larger than available brokers: 2."
        );
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_leaders_spread_evenly(
            racks in prop::collection::vec(prop::option::of("[ab]"), 1..8),
            num_partitions in 1i32..40,
            replication_factor in 1i16..8,
            start in 0usize..20,
            shift in 0usize..20,
            first_partition in 0i32..20,
        ) {
            let racks: Vec<_> = racks.iter().map(Option::as_deref).collect();
            let brokers = brokers(&racks);
            let placement = Placement { first_partition, num_partitions, replication_factor, start, shift };
            let Ok(assignment) = assign(&brokers, placement) else {
                prop_assert!(replication_factor as usize > brokers.len());
                return Ok(());
            };
            let mut led = vec![0; brokers.len()];
            for replicas in assignment.values() {
                prop_assert_eq!(replicas.len(), replication_factor as usize);
                prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), replicas.len());
                led[usize::try_from(replicas[0]).unwrap()] += 1;
            }
            prop_assert!(led.iter().max().unwrap() - led.iter().min().unwrap() <= 1);
        }
    }
}
