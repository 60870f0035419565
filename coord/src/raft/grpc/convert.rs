//! openraft's messages as protobuf's, and back.

use coord_core::NodeId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use proto::raft as wire;
use proto::raft::append_entries_response::Outcome;

use crate::raft::payload;
use crate::raft::transport::{Rejected, StatusResponse};
use crate::raft::types::{LogId, TypeConfig, Vote, log_id};

fn damaged(what: &str) -> Rejected {
    Rejected::Damaged(what.to_owned())
}

fn from_log_id(id: LogId) -> wire::LogId {
    wire::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

fn to_log_id(id: wire::LogId) -> LogId {
    log_id(id.term, id.index)
}

fn from_vote(vote: &Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for.map(|node| node.0),
        committed: vote.committed,
    }
}

fn to_vote(vote: Option<wire::Vote>) -> Result<Vote, Rejected> {
    let wire = vote.ok_or_else(|| damaged("it has no vote"))?;
    let mut vote = Vote::new(wire.term, NodeId::default());
    vote.leader_id.voted_for = wire.node.map(NodeId);
    vote.committed = wire.committed;
    Ok(vote)
}

pub(super) fn from_append(
    request: &AppendEntriesRequest<TypeConfig>,
) -> wire::AppendEntriesRequest {
    let entries = request.entries.iter().map(|entry| wire::Entry {
        term: entry.log_id.leader_id.term,
        index: entry.log_id.index,
        payload: payload::encode(entry),
    });
    wire::AppendEntriesRequest {
        vote: Some(from_vote(&request.vote)),
        previous: request.prev_log_id.map(from_log_id),
        entries: entries.collect(),
        committed: request.leader_commit.map(from_log_id),
    }
}

/// The checks are those that openraft takes for granted.
pub(super) fn to_append(
    request: wire::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Rejected> {
    let previous = request.previous.map(to_log_id);
    let mut last = previous;
    let entries = request.entries.into_iter().map(|entry| {
        let id = log_id(entry.term, entry.index);
        let next = last.map_or(0, |last| last.index + 1);
        if id.index != next || Some(id) <= last || id.leader_id.term > u64::from(u32::MAX) {
            return Err(damaged("its entries are not in a row"));
        }
        last = Some(id);
        payload::decode(id, entry.payload).map_err(|error| Rejected::Damaged(error.to_string()))
    });
    let entries = entries.collect::<Result<_, _>>()?;
    Ok(AppendEntriesRequest {
        vote: to_vote(request.vote)?,
        prev_log_id: previous,
        entries,
        leader_commit: request.committed.map(to_log_id),
    })
}

pub(super) fn from_append_response(
    response: AppendEntriesResponse<NodeId>,
) -> wire::AppendEntriesResponse {
    let mut wire = wire::AppendEntriesResponse::default();
    match response {
        AppendEntriesResponse::Success => wire.set_outcome(Outcome::Success),
        AppendEntriesResponse::PartialSuccess(matching) => {
            wire.set_outcome(Outcome::PartialSuccess);
            wire.matching = matching.map(from_log_id);
        }
        AppendEntriesResponse::Conflict => wire.set_outcome(Outcome::Conflict),
        AppendEntriesResponse::HigherVote(vote) => {
            wire.set_outcome(Outcome::HigherVote);
            wire.vote = Some(from_vote(&vote));
        }
    }
    wire
}

pub(super) fn to_append_response(
    wire: wire::AppendEntriesResponse,
) -> Result<AppendEntriesResponse<NodeId>, Rejected> {
    Ok(match wire.outcome.try_into() {
        Ok(Outcome::Success) => AppendEntriesResponse::Success,
        Ok(Outcome::PartialSuccess) => {
            AppendEntriesResponse::PartialSuccess(wire.matching.map(to_log_id))
        }
        Ok(Outcome::Conflict) => AppendEntriesResponse::Conflict,
        Ok(Outcome::HigherVote) => AppendEntriesResponse::HigherVote(to_vote(wire.vote)?),
        Err(_) => return Err(damaged("it has an unknown outcome")),
    })
}

pub(super) fn from_vote_request(request: &VoteRequest<NodeId>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(from_vote(&request.vote)),
        last: request.last_log_id.map(from_log_id),
    }
}

pub(super) fn to_vote_request(wire: wire::VoteRequest) -> Result<VoteRequest<NodeId>, Rejected> {
    Ok(VoteRequest {
        vote: to_vote(wire.vote)?,
        last_log_id: wire.last.map(to_log_id),
    })
}

pub(super) fn from_vote_response(response: &VoteResponse<NodeId>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(from_vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(from_log_id),
    }
}

pub(super) fn to_vote_response(wire: wire::VoteResponse) -> Result<VoteResponse<NodeId>, Rejected> {
    Ok(VoteResponse {
        vote: to_vote(wire.vote)?,
        vote_granted: wire.granted,
        last_log_id: wire.last.map(to_log_id),
    })
}

pub(super) fn from_status_request(last: Option<LogId>) -> wire::StatusRequest {
    wire::StatusRequest {
        last: last.map(from_log_id),
    }
}

pub(super) fn to_status_request(wire: wire::StatusRequest) -> Option<LogId> {
    wire.last.map(to_log_id)
}

pub(super) fn from_status(response: StatusResponse) -> wire::StatusResponse {
    wire::StatusResponse {
        founded: response.founded,
        supports: response.supports,
    }
}

pub(super) fn to_status(wire: wire::StatusResponse) -> StatusResponse {
    StatusResponse {
        founded: wire.founded,
        supports: wire.supports,
    }
}
