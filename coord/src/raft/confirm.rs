//! Whether this member still leads, as a majority says it.

use std::sync::Arc;

use openraft::LogIdOptionExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::event::{RaftEvent, Role};
use super::member::{Engine, Member};

/// Tokens that are answered together, at most.
const ASKED: usize = 4096;

/// Confirms leadership for all who asked meanwhile at once.
pub(super) async fn run(
    member: Arc<Member>,
    raft: Engine,
    events: mpsc::Sender<RaftEvent>,
    role: watch::Receiver<Role>,
    mut inbox: mpsc::UnboundedReceiver<u64>,
) {
    let mut tokens = Vec::new();
    while inbox.recv_many(&mut tokens, ASKED).await > 0 {
        let confirmed = confirm(&member, &raft, &role).await;
        for token in tokens.drain(..) {
            let event = if confirmed {
                RaftEvent::LeadershipConfirmed { token }
            } else {
                RaftEvent::LeadershipLost { token }
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// openraft asks the others once, and waits no longer than a heartbeat, which a disk that stalls outlasts. So they are asked
/// again as long as this member may lead.
async fn confirm(member: &Member, raft: &Engine, role: &watch::Receiver<Role>) -> bool {
    let leads = *role.borrow();
    let deadline = Instant::now() + member.settings.quorum_grace;
    loop {
        if let Ok((read, _)) = raft.get_read_log_id().await {
            let mut applied = member.outlook.applied.subscribe();
            let next = read.next_index();
            return applied.wait_for(|applied| *applied >= next).await.is_ok();
        }
        let may_lead = matches!(leads, Role::Leader { .. }) && *role.borrow() == leads;
        if !may_lead || Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(member.settings.heartbeat()).await;
    }
}
