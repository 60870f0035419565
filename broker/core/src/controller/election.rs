//! Who leads: pure functions of a partition's replicas, its state and who is alive.

use std::collections::BTreeSet;

use crate::znode::PartitionStateNode;

/// No leader.
pub const NO_LEADER: i32 = -1;

/// The brokers as an election sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alive {
    /// Whose znode exists.
    pub registered: BTreeSet<i32>,
    /// Those of them that asked for a controlled shutdown: they still serve, but are not elected
    /// and do not stay in an ISR.
    pub shutting_down: BTreeSet<i32>,
}

impl Alive {
    /// The same, but for those that have nothing to serve.
    pub fn without(&self, brokers: &BTreeSet<i32>) -> Self {
        Self {
            registered: &self.registered - brokers,
            shutting_down: &self.shutting_down - brokers,
        }
    }

    /// Whether that broker may lead and be in sync.
    pub fn is_eligible(&self, broker_id: i32) -> bool {
        self.registered.contains(&broker_id) && !self.shutting_down.contains(&broker_id)
    }
}

/// Whether a replica that is not in sync may lead, where no other can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclean {
    /// Not known: the answer is asked for only where it matters.
    Unknown,
    /// `unclean.leader.election.enable=true`: records may be lost.
    Allowed,
    /// The partition waits for a member of its ISR.
    Forbidden,
}

/// What becomes of a partition's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing changes.
    Keep,
    /// This is to be written.
    Write(PartitionStateNode),
    /// Only an unclean election could help: is it allowed?
    AskUnclean,
    /// A new partition none of whose replicas is alive.
    NoReplicaAlive,
}

/// The first replica, in the order of preference, that may lead and is in sync.
pub fn clean_leader(replicas: &[i32], isr: &[i32], alive: &Alive) -> Option<i32> {
    replicas
        .iter()
        .copied()
        .find(|id| isr.contains(id) && alive.is_eligible(*id))
}

/// The first replica that may lead, in sync or not.
pub fn unclean_leader(replicas: &[i32], alive: &Alive) -> Option<i32> {
    replicas.iter().copied().find(|id| alive.is_eligible(*id))
}

/// The preferred replica, if it may lead and is in sync.
pub fn preferred_leader(replicas: &[i32], isr: &[i32], alive: &Alive) -> Option<i32> {
    replicas
        .first()
        .copied()
        .filter(|id| isr.contains(id) && alive.is_eligible(*id))
}

/// The first state of a partition: every replica that is alive is in sync, for all are empty.
pub fn first_state(replicas: &[i32], alive: &Alive, controller_epoch: i32) -> Decision {
    match unclean_leader(replicas, alive) {
        Some(leader) => Decision::Write(PartitionStateNode {
            leader,
            leader_epoch: 0,
            controller_epoch,
            isr: replicas
                .iter()
                .copied()
                .filter(|id| alive.is_eligible(*id))
                .collect(),
            recovering: false,
        }),
        None => Decision::NoReplicaAlive,
    }
}

/// Makes the state fit who is alive: the dead and the departing leave the ISR, and a partition
/// whose leader is among them gets another from what remains. It depends on nothing but its
/// arguments, so a new controller that applies it to every partition finishes what an old one began.
///
/// Where nobody can lead, the ISR stays as it is: each member holds every committed record, and
/// whichever returns first may lead. So an ISR is never empty (KAFKA-5083).
pub fn heal(
    replicas: &[i32],
    state: &PartitionStateNode,
    alive: &Alive,
    unclean: Unclean,
    controller_epoch: i32,
) -> Decision {
    let write = |leader, isr: Vec<i32>, recovering| {
        if leader == state.leader && isr == state.isr {
            return Decision::Keep;
        }
        let leader_epoch = state.leader_epoch.saturating_add(1);
        Decision::Write(PartitionStateNode {
            leader,
            leader_epoch,
            controller_epoch,
            isr,
            recovering,
        })
    };
    let in_sync = |of: &dyn Fn(i32) -> bool| {
        state
            .isr
            .iter()
            .copied()
            .filter(|id| of(*id))
            .collect::<Vec<_>>()
    };
    let leader_serves = alive.registered.contains(&state.leader);
    if leader_serves && alive.is_eligible(state.leader) {
        return write(
            state.leader,
            in_sync(&|id| alive.is_eligible(id) || id == state.leader),
            state.recovering,
        );
    }
    if let Some(leader) = clean_leader(replicas, &state.isr, alive) {
        return write(
            leader,
            in_sync(&|id| alive.is_eligible(id)),
            state.recovering,
        );
    }
    if leader_serves {
        // The last one in sync wants to leave: it leads until it is gone.
        return write(
            state.leader,
            in_sync(&|id| alive.is_eligible(id) || id == state.leader),
            state.recovering,
        );
    }
    match (unclean_leader(replicas, alive), unclean) {
        (Some(_), Unclean::Unknown) => Decision::AskUnclean,
        (Some(leader), Unclean::Allowed) => write(leader, vec![leader], true),
        (Some(_), Unclean::Forbidden) | (None, _) => {
            write(NO_LEADER, state.isr.clone(), state.recovering)
        }
    }
}

/// Gives the lead back to the preferred replica.
pub fn elect_preferred(
    replicas: &[i32],
    state: &PartitionStateNode,
    alive: &Alive,
    controller_epoch: i32,
) -> Decision {
    match preferred_leader(replicas, &state.isr, alive) {
        Some(leader) if leader != state.leader => Decision::Write(PartitionStateNode {
            leader,
            leader_epoch: state.leader_epoch.saturating_add(1),
            controller_epoch,
            ..state.clone()
        }),
        _ => Decision::Keep,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alive(registered: &[i32], shutting_down: &[i32]) -> Alive {
        Alive {
            registered: registered.iter().copied().collect(),
            shutting_down: shutting_down.iter().copied().collect(),
        }
    }

    fn state(leader: i32, isr: &[i32]) -> PartitionStateNode {
        PartitionStateNode {
            leader,
            leader_epoch: 5,
            controller_epoch: 1,
            isr: isr.to_vec(),
            recovering: false,
        }
    }

    fn written(decision: Decision) -> (i32, Vec<i32>, i32) {
        match decision {
            Decision::Write(node) => (node.leader, node.isr, node.leader_epoch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_in_sync_of_the_assignment_leads() {
        let decision = heal(
            &[1, 2, 3],
            &state(1, &[3, 2, 1]),
            &alive(&[2, 3], &[]),
            Unclean::Unknown,
            2,
        );
        assert_eq!(written(decision), (2, vec![3, 2], 6));
    }

    #[test]
    fn a_dead_follower_leaves_the_isr() {
        let decision = heal(
            &[1, 2, 3],
            &state(1, &[1, 2, 3]),
            &alive(&[1, 3], &[]),
            Unclean::Unknown,
            2,
        );
        assert_eq!(written(decision), (1, vec![1, 3], 6));
        let outside = heal(
            &[1, 2, 3],
            &state(1, &[1, 3]),
            &alive(&[1, 3], &[]),
            Unclean::Unknown,
            2,
        );
        assert_eq!(outside, Decision::Keep);
    }

    #[test]
    fn bug_kafka_5083_last_isr_member_is_kept() {
        let dead = heal(
            &[1, 2],
            &state(1, &[1]),
            &alive(&[2], &[]),
            Unclean::Forbidden,
            2,
        );
        assert_eq!(written(dead), (NO_LEADER, vec![1], 6));
        let again = heal(
            &[1, 2],
            &state(NO_LEADER, &[1]),
            &alive(&[2], &[]),
            Unclean::Forbidden,
            2,
        );
        assert_eq!(again, Decision::Keep);
    }

    #[test]
    fn unclean_is_asked_for_only_where_it_matters() {
        let ask = |registered: &[i32]| {
            heal(
                &[1, 2],
                &state(1, &[1]),
                &alive(registered, &[]),
                Unclean::Unknown,
                2,
            )
        };
        assert_eq!(ask(&[2]), Decision::AskUnclean);
        assert_eq!(written(ask(&[])), (NO_LEADER, vec![1], 6));
        let Decision::Write(node) = heal(
            &[1, 2],
            &state(1, &[1]),
            &alive(&[2], &[]),
            Unclean::Allowed,
            2,
        ) else {
            panic!("an unclean election was allowed");
        };
        assert_eq!((node.leader, node.isr, node.recovering), (2, vec![2], true));
    }

    #[test]
    fn a_departing_leader_hands_over_or_stays() {
        let handed = heal(
            &[1, 2],
            &state(1, &[1, 2]),
            &alive(&[1, 2], &[1]),
            Unclean::Unknown,
            2,
        );
        assert_eq!(written(handed), (2, vec![2], 6));
        let alone = heal(
            &[1, 2],
            &state(1, &[1]),
            &alive(&[1, 2], &[1]),
            Unclean::Unknown,
            2,
        );
        assert_eq!(alone, Decision::Keep);
    }

    #[test]
    fn the_preferred_replica_leads_only_in_sync() {
        let elect = |isr: &[i32]| elect_preferred(&[1, 2], &state(2, isr), &alive(&[1, 2], &[]), 2);
        assert_eq!(written(elect(&[2, 1])), (1, vec![2, 1], 6));
        assert_eq!(elect(&[2]), Decision::Keep);
    }

    proptest! {
        /// What "never lose an acknowledged record" asks of elections.
        #[test]
        fn without_unclean_the_leader_is_from_the_isr_and_the_isr_never_empty_nor_grows(
            isr in prop::sample::subsequence(vec![1, 2, 3], 1..=3),
            leader in prop::sample::select(vec![-1, 1, 2, 3]),
            registered in prop::sample::subsequence(vec![1, 2, 3], 0..=3),
            departing in prop::sample::subsequence(vec![1, 2, 3], 0..=3),
        ) {
            prop_assume!(leader == NO_LEADER || isr.contains(&leader));
            let alive = alive(&registered, &departing);
            if let Decision::Write(node) = heal(&[1, 2, 3], &state(leader, &isr), &alive, Unclean::Forbidden, 2) {
                prop_assert!(!node.isr.is_empty());
                prop_assert!(node.isr.iter().all(|id| isr.contains(id)));
                prop_assert!(node.leader == NO_LEADER || node.isr.contains(&node.leader));
                prop_assert!(node.leader == NO_LEADER || registered.contains(&node.leader));
                prop_assert_eq!(node.leader_epoch, 6);
                // And it is a fixed point: a second controller has nothing to add.
                prop_assert_eq!(heal(&[1, 2, 3], &node, &alive, Unclean::Forbidden, 2), Decision::Keep);
            }
        }
    }
}
