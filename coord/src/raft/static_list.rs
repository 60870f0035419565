//! The list of servers in the configuration founds an ensemble. After a reconfig it is only a memory, but one that misleads
//! whoever reads it, and a member that is started anew with it.

use std::sync::Arc;
use std::time::Duration;

use coord_core::Members;
use tokio::sync::watch;

use super::member::{Member, ServerMetrics};
use super::membership;

/// A change of the members is looked at after so long: it goes by steps, and so does the founding with observers.
const SETTLED: Duration = Duration::from_secs(60);

/// What was said last of the list.
#[derive(Debug, Default)]
struct Advice(Option<String>);

impl Advice {
    /// What has to be said now that the ensemble has these members: nothing twice in a row.
    fn on(&mut self, listed: &Members, members: &Members) -> Option<&str> {
        let before = std::mem::replace(&mut self.0, difference(listed, members));
        self.0
            .as_deref()
            .filter(|lines| before.as_deref() != Some(*lines))
    }
}

/// Says when the list is not that of the ensemble, which had these `members` at the start, and again when it should be
/// another. Until openraft ends.
pub(super) async fn run(
    member: Arc<Member>,
    mut members: Members,
    mut server: watch::Receiver<ServerMetrics>,
) {
    let listed = &member.settings.servers;
    let mut advice = Advice::default();
    // A server by itself has no list.
    while !listed.is_empty() {
        if let Some(lines) = advice.on(listed, &members) {
            tracing::warn!(
                "the server list of the configuration is not that of the ensemble, which goes by its own since a reconfig: \
                 let the configuration have {lines}"
            );
        }
        if server.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(SETTLED).await;
        members = membership::members(server.borrow_and_update().membership_config.membership());
    }
}

/// What the list should be, if it is not that. An ensemble that is not founded has no members.
fn difference(listed: &Members, members: &Members) -> Option<String> {
    if members.is_empty() || members == listed {
        return None;
    }
    let line = |(node, server)| format!("server.{node}={server}");
    let lines: Vec<String> = members.iter().map(line).collect();
    Some(lines.join(", "))
}

#[cfg(test)]
mod tests {
    use coord_core::NodeId;

    use super::*;

    #[test]
    fn only_a_founded_ensemble_with_other_members_differs() {
        let spec = |host: &str| format!("{host}:1:2").parse().unwrap();
        let listed = Members::from([(NodeId(1), spec("a")), (NodeId(2), spec("b"))]);
        assert_eq!(difference(&listed, &Members::new()), None);
        assert_eq!(difference(&listed, &listed), None);
        let moved = Members::from([(NodeId(1), spec("a")), (NodeId(2), spec("c"))]);
        assert_eq!(
            difference(&listed, &moved).unwrap(),
            "server.1=a:1:2:participant, server.2=c:1:2:participant"
        );
    }

    #[test]
    fn what_was_said_is_said_again_only_when_the_members_have_changed() {
        let members = |hosts: &[&str]| -> Members {
            let specs = hosts.iter().map(|host| format!("{host}:1:2").parse());
            let specs = specs.map(Result::unwrap);
            (1..).map(NodeId).zip(specs).collect()
        };
        let listed = members(&["a", "b"]);
        let mut advice = Advice::default();
        assert_eq!(advice.on(&listed, &listed), None);
        for _ in 0..2 {
            assert!(advice.on(&listed, &members(&["a"])).is_some());
            assert_eq!(advice.on(&listed, &members(&["a"])), None);
            assert!(advice.on(&listed, &members(&["a", "c"])).is_some());
            assert_eq!(advice.on(&listed, &listed), None);
        }
    }
}
