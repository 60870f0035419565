//! How an ensemble begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coord_core::{NodeId, ServerRole, ServerSpec};
use tokio::sync::watch;
use tokio::time::Instant;

use super::member::{DataMetrics, Engine, Member};
use super::transport::{Request, Response};

/// How often a member without an ensemble asks the others for one.
const RETRY: Duration = Duration::from_millis(200);

/// Founds the ensemble, if this member is a participant without one and a majority of the participants has none either.
/// The one with the smallest number among them goes first; what the others would write is the same.
pub(super) async fn run(member: Arc<Member>, raft: Engine, data: watch::Receiver<DataMetrics>) {
    let servers = &member.settings.servers;
    let founders: BTreeMap<NodeId, ServerSpec> = servers
        .iter()
        .filter(|(_, server)| server.role == ServerRole::Participant)
        .map(|(node, server)| (*node, server.clone()))
        .collect();
    let founders = if servers.is_empty() {
        BTreeMap::from([(member.node(), ServerSpec::default())])
    } else {
        founders
    };
    if !founders.contains_key(&member.node()) {
        return;
    }
    let start = Instant::now();
    while data.has_changed().is_ok() && data.borrow().last_log.is_none() {
        let mut without = vec![member.node()];
        let mut is_founded = false;
        for (node, server) in &founders {
            if *node == member.node() {
                continue;
            }
            let request = Request::Status { last_log_id: None };
            let envelope = member.envelope(*node);
            let call = member.transport.call(server, envelope, request);
            match tokio::time::timeout(RETRY, call).await {
                Ok(Ok(Response::Status(status))) if !status.founded => {
                    without.push(*node);
                }
                // There is an ensemble: its leader will speak.
                Ok(Ok(_)) => is_founded = true,
                Ok(Err(error)) => member.complain(*node, &error),
                Err(_) => {}
            }
        }
        let first = without.iter().min() == Some(&member.node());
        let waited = start.elapsed() > member.settings.election_timeout();
        if !is_founded && without.len() > founders.len() / 2 && (first || waited) {
            // It fails only where somebody else was faster.
            let _ = raft.initialize(founders.clone()).await;
            return;
        }
        if founders.len() > 1 {
            tokio::time::sleep(RETRY).await;
        }
    }
}
