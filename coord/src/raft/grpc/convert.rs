//! openraft's messages as protobuf's, and back.

use coord_core::{NodeId, Zxid};
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

/// A zxid has no room for a later term, and no ensemble lives that long.
fn to_term(term: u64) -> Result<u64, Rejected> {
    match term > u64::from(Zxid::MAX_TERM) {
        true => Err(damaged("its term is beyond all terms")),
        false => Ok(term),
    }
}

fn to_log_id(id: Option<wire::LogId>) -> Result<Option<LogId>, Rejected> {
    let id = id.map(|id| to_term(id.term).map(|term| log_id(term, id.index)));
    id.transpose()
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
    let mut vote = Vote::new(to_term(wire.term)?, NodeId::default());
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
    let previous = to_log_id(request.previous)?;
    let mut last = previous;
    let entries = request.entries.into_iter().map(|entry| {
        let id = log_id(to_term(entry.term)?, entry.index);
        let next = last.map_or(0, |last| last.index + 1);
        if id.index != next || Some(id) <= last {
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
        leader_commit: to_log_id(request.committed)?,
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
            AppendEntriesResponse::PartialSuccess(to_log_id(wire.matching)?)
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
        last_log_id: to_log_id(wire.last)?,
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
        last_log_id: to_log_id(wire.last)?,
    })
}

pub(super) fn from_status_request(last: Option<LogId>) -> wire::StatusRequest {
    wire::StatusRequest {
        last: last.map(from_log_id),
    }
}

pub(super) fn to_status_request(wire: wire::StatusRequest) -> Result<Option<LogId>, Rejected> {
    to_log_id(wire.last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_no_zxid_has_room_for_is_refused() {
        let last = u64::from(Zxid::MAX_TERM);
        for (term, is_taken) in [(last, true), (last + 1, false), (u64::MAX, false)] {
            let id = wire::LogId { term, index: 3 };
            let vote = wire::Vote {
                term,
                node: Some(1),
                committed: true,
            };
            assert_eq!(to_log_id(Some(id)).is_ok(), is_taken);
            assert_eq!(to_vote(Some(vote)).is_ok(), is_taken);
            let request = wire::AppendEntriesRequest {
                vote: Some(vote),
                ..Default::default()
            };
            assert_eq!(to_append(request).is_ok(), is_taken);
        }
    }
}
