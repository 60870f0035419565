//! The list of servers in the configuration founds an ensemble. After a reconfig it is only a memory, but one that misleads
//! whoever reads it, and a member that is started anew with it.

use std::sync::Arc;
use std::time::Duration;

use coord_core::Members;
use tokio::sync::watch;

use super::member::{Member, ServerMetrics};
use super::membership::members;

/// A change of the members is looked at after so long: it goes by steps, and so does the founding with observers.
const SETTLED: Duration = Duration::from_secs(60);

/// Says once that the list is not that of the ensemble. Until openraft ends, at most.
pub(super) async fn run(member: Arc<Member>, mut server: watch::Receiver<ServerMetrics>) {
    let listed = &member.settings.servers;
    // A server by itself has no list.
    while !listed.is_empty() {
        let members = members(server.borrow_and_update().membership_config.membership());
        if let Some(lines) = difference(listed, &members) {
            tracing::warn!(
                "the server list of the configuration is not that of the ensemble, which goes by its own since a reconfig: \
                 let the configuration have {lines}"
            );
            return;
        }
        if server.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(SETTLED).await;
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
}
