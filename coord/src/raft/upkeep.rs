//! What has to be done now and then.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::Fatal;

use super::member::{Engine, Member};

/// `snapCount`, or up to half as many: the members do not all write their snapshots at once.
pub(super) fn snap_count(member: &Member) -> u64 {
    let most = member.settings.snap_count.max(2);
    let spread = Duration::from_micros(most / 2);
    let less = member.random(Duration::ZERO, spread).as_micros() as u64;
    most - less
}

/// Has snapshots written when they are due and the log purged behind them, and ends the process if openraft has
/// ended by itself.
pub(super) async fn run(member: Arc<Member>, raft: Engine) {
    let mut unneeded = member.outlook.unneeded.subscribe();
    let mut server = raft.server_metrics();
    loop {
        tokio::select! {
            biased;
            changed = server.changed() => if changed.is_err() {
                let ended = raft.metrics().borrow().running_state.clone();
                if let Err(error) = ended
                    && error != Fatal::Stopped
                {
                    member.settings.fatal.end(&format!("Raft has ended: {error}"));
                }
                return;
            },
            () = member.outlook.snapshot_due.notified() => {
                let _ = raft.trigger().snapshot().await;
            }
            changed = unneeded.changed() => {
                let upto = *unneeded.borrow_and_update();
                if changed.is_ok() && let Some(upto) = upto {
                    let _ = raft.trigger().purge_log(upto).await;
                }
            }
        }
    }
}
