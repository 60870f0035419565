//! What all tasks of one member share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coord_core::NodeId;
use openraft::Raft;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::contact::Contact;
use super::log::Durable;
use super::machine::Outlook;
use super::settings::Settings;
use super::transport::{Envelope, Rejected, Transport, TransportError};
use super::types::TypeConfig;

/// openraft, as all tasks have it.
pub(super) type Engine = Raft<TypeConfig>;
pub(super) type DataMetrics = RaftDataMetrics<NodeId>;
pub(super) type ServerMetrics = RaftServerMetrics<NodeId, coord_core::ServerSpec>;

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) settings: Settings,
    pub(super) transport: std::sync::Arc<dyn Transport>,
    pub(super) contact: Contact,
    pub(super) outlook: Outlook,
    pub(super) durable: Durable,
    /// It leads only until another does: see `roles.rs`.
    pub(super) abdicates: AtomicBool,
    rng: Mutex<StdRng>,
    /// The candidate that this member supports, itself perhaps, and until when.
    promise: Mutex<Option<(NodeId, Instant)>>,
    /// What was said of each member last, so that it is said once.
    complaints: Mutex<BTreeMap<NodeId, Rejected>>,
}

impl Member {
    pub(super) fn new(
        settings: Settings,
        transport: std::sync::Arc<dyn Transport>,
        outlook: Outlook,
        durable: Durable,
    ) -> Member {
        Member {
            contact: Contact::new(settings.election_timeout()),
            rng: Mutex::new(StdRng::seed_from_u64(settings.seed)),
            promise: Mutex::default(),
            settings,
            transport,
            outlook,
            durable,
            abdicates: false.into(),
            complaints: Mutex::default(),
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.settings.node
    }

    pub(super) fn envelope(&self, to: NodeId) -> Envelope {
        Envelope {
            ensemble: match self.outlook.ensemble.load(Relaxed) {
                0 => self.outlook.begun_in_log.load(Relaxed),
                ensemble => ensemble,
            },
            from: self.settings.node,
            to,
        }
    }

    /// A number other than 0.
    pub(super) fn nonce(&self) -> u64 {
        self.rng().random_range(1..=u64::MAX)
    }

    /// A time from `least` up to `most`.
    pub(super) fn random(&self, least: Duration, most: Duration) -> Duration {
        self.rng().random_range(least..=most)
    }

    fn rng(&self) -> std::sync::MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this member supports `candidate`, and no other, for as long as an election takes.
    pub(super) fn promise(&self, candidate: NodeId) -> bool {
        let mut promise = self.promise.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let free = promise.is_none_or(|(promised, until)| promised == candidate || until <= now);
        if free {
            *promise = Some((candidate, now + 2 * self.settings.heartbeat()));
        }
        free
    }

    /// Takes back what [`promise`](Self::promise) promised to `candidate`.
    pub(super) fn release(&self, candidate: NodeId) {
        let mut promise = self.promise.lock().unwrap_or_else(PoisonError::into_inner);
        if promise.is_some_and(|(promised, _)| promised == candidate) {
            *promise = None;
        }
    }

    /// Tells the operator, once, of what no waiting will heal.
    pub(super) fn complain(&self, to: NodeId, error: &TransportError) {
        let TransportError::Rejected(rejected) = error else {
            return;
        };
        if matches!(rejected, Rejected::Busy | Rejected::Stopped) {
            return;
        }
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = complaints.insert(to, rejected.clone());
        if before.as_ref() != Some(rejected) {
            tracing::warn!("server {to} does not talk to this one: {rejected}");
        }
    }
}

/// Whether `granted` holds a majority of each of `configs`.
pub(super) fn is_quorum<'a>(
    configs: impl IntoIterator<Item = &'a std::collections::BTreeSet<NodeId>>,
    granted: &std::collections::BTreeSet<NodeId>,
) -> bool {
    configs
        .into_iter()
        .all(|voters| voters.intersection(granted).count() > voters.len() / 2)
}
