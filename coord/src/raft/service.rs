//! What arrives from the other members.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coord_core::NodeId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{EntryPayload, LogIdOptionExt};
use tokio::sync::{mpsc, watch};

use super::contact::Leader;
use super::disk::Disk;
use super::event::RaftEvent;
use super::forward::{Answers, Leading};
use super::member::{DataMetrics, Engine, Member, ServerMetrics};
use super::snapshot::Snapshots;
use super::transport::{Envelope, Rejected, Request, Response, StatusResponse, Stream, StreamKind};
use super::types::{Entry, LogId, TypeConfig};
use super::{forward, receive};

/// So many requests of leaders wait for openraft; further ones are refused, and sent again. A disk that stalls would
/// otherwise fill the memory with what a leader sends again and again.
const APPENDS_MAX: usize = 2;

/// A member that has so many entries to apply takes no more until it has caught up. What is not committed does not count:
/// it waits for the very entries that are to come.
const BACKLOG_MAX: u64 = 4096;

/// Likewise with so many bytes of them.
const BACKLOG_LEN_MAX: u64 = 64 * 1024 * 1024;

/// Where a listener, or a virtual network, hands in what arrives.
#[derive(Clone)]
pub struct Service(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) member: Arc<Member>,
    pub(super) raft: Engine,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) snapshots: Snapshots,
    pub(super) events: mpsc::Sender<RaftEvent>,
    pub(super) server: watch::Receiver<ServerMetrics>,
    pub(super) data: watch::Receiver<DataMetrics>,
    pub(super) answers: Answers,
    /// Whether this member leads.
    pub(super) leading: watch::Sender<Leading>,
    pub(super) appends: AtomicUsize,
    pub(super) backlog: Mutex<Backlog>,
    /// Held by the one snapshot that is received.
    pub(super) receiving: Arc<tokio::sync::Mutex<()>>,
}

impl Service {
    /// Answers a call. It may be given up at any time; what was begun is then finished nevertheless.
    pub async fn call(&self, envelope: Envelope, request: Request) -> Result<Response, Rejected> {
        self.0.admit(envelope)?;
        match request {
            Request::AppendEntries(request) => {
                self.0.admit_leader(envelope)?;
                let inner = self.0.clone();
                // A task of its own: a caller that gives up must not make room for the next one while openraft still
                // has this one's entries.
                let task =
                    super::runtime::spawn(
                        async move { inner.append_entries(envelope, request).await },
                    );
                let response = task.await.map_err(|_| Rejected::Stopped)??;
                Ok(Response::AppendEntries(response))
            }
            Request::Vote(request) => {
                self.0.admit_leader(envelope)?;
                let response = self.0.vote(envelope.from, request).await?;
                Ok(Response::Vote(response))
            }
            Request::Status { last_log_id } => {
                let response = self.0.status(envelope.from, last_log_id);
                Ok(Response::Status(response))
            }
        }
    }

    /// The host of a member, as the log says it, or the static list before there is a log.
    pub(super) fn host(&self, node: NodeId) -> Option<String> {
        let metrics = self.0.server.borrow();
        let membership = metrics.membership_config.membership();
        let server = membership.get_node(&node);
        let server = server.or_else(|| self.0.member.settings.servers.get(&node));
        server.map(|server| server.host.clone())
    }

    /// Takes a stream that was opened; it is served from now on.
    pub fn accept(
        &self,
        envelope: Envelope,
        kind: StreamKind,
        stream: Stream,
    ) -> Result<(), Rejected> {
        self.0.admit(envelope)?;
        match kind {
            StreamKind::Forward => forward::accept(&self.0, envelope.from, stream),
            StreamKind::Snapshot => {
                self.0.admit_leader(envelope)?;
                receive::accept(&self.0, envelope.from, stream)
            }
        }
    }
}

impl Inner {
    /// Refuses what is not for this member, or not from its ensemble.
    fn admit(&self, envelope: Envelope) -> Result<(), Rejected> {
        let node = self.member.node();
        if envelope.to != node {
            return Err(Rejected::WrongNode(node));
        }
        let ensemble = self.member.outlook.ensemble.load(Relaxed);
        if ensemble != 0 && envelope.ensemble != 0 && envelope.ensemble != ensemble {
            return Err(Rejected::WrongEnsemble(node));
        }
        if ensemble == 0 && !self.is_known(envelope.from) {
            return Err(Rejected::Stranger(envelope.from));
        }
        Ok(())
    }

    /// Who leads an ensemble that has a number, or may be elected, has it in its log: the leader that gave it is committed.
    /// Who has none is founding another one.
    fn admit_leader(&self, envelope: Envelope) -> Result<(), Rejected> {
        if envelope.ensemble == 0 && self.member.outlook.ensemble.load(Relaxed) != 0 {
            return Err(Rejected::WrongEnsemble(self.member.node()));
        }
        Ok(())
    }

    fn is_known(&self, node: NodeId) -> bool {
        let metrics = self.server.borrow();
        let membership = metrics.membership_config.membership();
        self.member.settings.servers.contains_key(&node) || membership.get_node(&node).is_some()
    }

    async fn append_entries(
        &self,
        envelope: Envelope,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<NodeId>, Rejected> {
        let taken: Vec<(u64, usize)> = request.entries.iter().map(weigh).collect();
        if !taken.is_empty() && self.is_behind(&request) {
            return Err(Rejected::Busy);
        }
        let _place = Place::take(&self.appends).ok_or(Rejected::Busy)?;
        let leader = Leader {
            node: envelope.from,
            term: request.vote.leader_id.term,
        };
        let response = self.raft.append_entries(request).await;
        let response = response.map_err(|_| Rejected::Stopped)?;
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.member.contact.heard(leader);
        }
        if let AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) = response
        {
            lock(&self.backlog).take(taken);
        }
        Ok(response)
    }

    /// Whether there is enough to apply without these entries. Those that do not go on where this log ends are looked at in
    /// any case: they cut off what is not the leader's, or cost nothing.
    fn is_behind(&self, request: &AppendEntriesRequest<TypeConfig>) -> bool {
        let last = self.data.borrow().last_log;
        let goes_on = last.zip(request.prev_log_id).is_some_and(|(last, prev)| {
            last.leader_id == prev.leader_id && last.index <= prev.index
        });
        let committed = request.leader_commit.min(last).next_index();
        let applied = *self.member.outlook.applied.borrow();
        goes_on
            && (committed.saturating_sub(applied) > BACKLOG_MAX
                || lock(&self.backlog).len(applied, committed) > BACKLOG_LEN_MAX)
    }

    async fn vote(
        &self,
        from: NodeId,
        request: VoteRequest<NodeId>,
    ) -> Result<VoteResponse<NodeId>, Rejected> {
        // Who hears a leader keeps to it. openraft's own lease is kept shorter than the heartbeat, so that a leader whose
        // process ended is replaced at once.
        if self.hears().is_some() {
            let vote = self.server.borrow().vote;
            return Ok(VoteResponse::new(vote, self.data.borrow().last_log, false));
        }
        let response = self.raft.vote(request).await;
        let response = response.map_err(|_| Rejected::Stopped)?;
        if response.vote_granted {
            self.member.promise(from);
        }
        Ok(response)
    }

    fn status(&self, candidate: NodeId, last_log_id: Option<LogId>) -> StatusResponse {
        let last = self.data.borrow().last_log;
        let may_lead = last_log_id.is_some() && last_log_id >= last;
        StatusResponse {
            founded: last.is_some(),
            supports: may_lead && self.hears().is_none() && self.member.promise(candidate),
        }
    }

    /// The leader that this member goes by; itself, if it leads.
    fn hears(&self) -> Option<NodeId> {
        if self.server.borrow().state.is_leader() {
            let abdicates = self.member.abdicates.load(Relaxed);
            return (!abdicates).then_some(self.member.node());
        }
        self.member.contact.hears().map(|leader| leader.node)
    }
}

/// The entries that were taken and are not applied yet: the place of each in the log, and the bytes up to its end.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    entries: VecDeque<(u64, u64)>,
    /// The bytes of all before the first.
    before: u64,
}

impl Backlog {
    /// Entries stand in the log from the place of the first on.
    fn take(&mut self, entries: Vec<(u64, usize)>) {
        let first = entries.first().map_or(u64::MAX, |(index, _)| *index);
        let kept = self.entries.partition_point(|(index, _)| *index < first);
        self.entries.truncate(kept);
        let mut end = self.entries.back().map_or(self.before, |(_, end)| *end);
        for (index, len) in entries {
            end += len as u64;
            self.entries.push_back((index, end));
        }
    }

    /// The bytes of those among the first `committed` of the log and behind its first `applied`.
    fn len(&mut self, applied: u64, committed: u64) -> u64 {
        while let Some((_, end)) = self.entries.front().filter(|(index, _)| *index < applied) {
            self.before = *end;
            self.entries.pop_front();
        }
        let count = self
            .entries
            .partition_point(|(index, _)| *index < committed);
        let last = count.checked_sub(1).and_then(|at| self.entries.get(at));
        last.map_or(0, |(_, end)| end - self.before)
    }
}

/// The place of an entry in the log, and the bytes that it holds in memory.
fn weigh(entry: &Entry) -> (u64, usize) {
    let len = match &entry.payload {
        EntryPayload::Normal(payload) => payload.bytes().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    (entry.log_id.index, len)
}

fn lock(backlog: &Mutex<Backlog>) -> MutexGuard<'_, Backlog> {
    backlog.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the places for requests that openraft works on.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(appends: &AtomicUsize) -> Option<Place<'_>> {
        let taken = appends.fetch_update(Relaxed, Relaxed, |taken| {
            (taken < APPENDS_MAX).then_some(taken + 1)
        });
        // Made only if it was taken: dropping one gives it back.
        taken.is_ok().then(|| Place(appends))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_what_was_taken_and_committed_and_not_applied() {
        let mut backlog = Backlog::default();
        backlog.take(vec![(5, 100), (6, 10), (7, 1)]);
        assert_eq!(backlog.len(0, 5), 0);
        assert_eq!(backlog.len(0, 7), 110);
        assert_eq!(backlog.len(0, 8), 111);
        assert_eq!(backlog.len(6, 8), 11);
        // Another leader's take the place of those that were never committed.
        backlog.take(vec![(7, 1000), (8, 2000)]);
        assert_eq!(backlog.len(6, 9), 3010);
        backlog.take(Vec::new());
        assert_eq!(backlog.len(6, 8), 1010);
        assert_eq!(backlog.len(9, 9), 0);
        backlog.take(vec![(9, 7)]);
        assert_eq!(backlog.len(9, 10), 7);
    }

    #[test]
    fn a_place_that_is_refused_is_not_given_back() {
        let appends = AtomicUsize::new(0);
        let taken: Vec<Place> = (0..APPENDS_MAX)
            .filter_map(|_| Place::take(&appends))
            .collect();
        assert_eq!(taken.len(), APPENDS_MAX);
        assert!(Place::take(&appends).is_none());
        assert!(Place::take(&appends).is_none());
        drop(taken);
        assert!(Place::take(&appends).is_some());
    }
}
