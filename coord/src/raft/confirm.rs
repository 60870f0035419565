//! Whether this member still leads, as a majority says it.

use std::sync::Arc;

use openraft::LogIdOptionExt;
use tokio::sync::mpsc;

use super::event::RaftEvent;
use super::member::{Engine, Member};

/// Tokens that are answered together, at most.
const ASKED: usize = 4096;

/// Confirms leadership for all who asked meanwhile at once.
pub(super) async fn run(
    member: Arc<Member>,
    raft: Engine,
    events: mpsc::Sender<RaftEvent>,
    mut inbox: mpsc::UnboundedReceiver<u64>,
) {
    let mut applied = member.outlook.applied.subscribe();
    let mut tokens = Vec::new();
    while inbox.recv_many(&mut tokens, ASKED).await > 0 {
        let confirmed = match raft.get_read_log_id().await {
            Ok((read, _)) => {
                let next = read.next_index();
                applied.wait_for(|applied| *applied >= next).await.is_ok()
            }
            Err(_) => false,
        };
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
