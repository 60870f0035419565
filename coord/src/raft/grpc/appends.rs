//! A leader's way to one member: a stream that stays open, for a call of its own costs more than a small entry.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coord_core::NodeId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use proto::raft as wire;
use proto::raft::raft_client::RaftClient;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::client::{addressed, answered, error};
use super::convert;
use crate::raft::transport::{Envelope, Rejected, TransportError};
use crate::raft::types::TypeConfig;

/// Requests that are not answered yet. openraft sends one after the other, but gives up those that take long, and a member
/// whose disk stalls answers none.
const UNANSWERED_MAX: usize = 4;

type Answer = Result<AppendEntriesResponse<NodeId>, TransportError>;

/// See the module. The stream is opened by who needs it, and again when it broke.
#[derive(Debug, Default)]
pub(super) struct Appends(Mutex<Option<Open>>);

/// A stream that is open, or about to be.
#[derive(Debug)]
struct Open {
    /// What the member was told at its opening.
    envelope: Envelope,
    requests: mpsc::Sender<wire::AppendEntriesRequest>,
    asked: Asked,
}

/// Those who wait for an answer, in the order of their requests; none once the stream has ended.
#[derive(Debug, Clone)]
struct Asked(Arc<Mutex<Option<VecDeque<oneshot::Sender<Answer>>>>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<oneshot::Sender<Answer>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.lock().is_none()
    }

    /// Whoever asked first has its answer. False if nobody did.
    fn answer(&self, answer: Answer) -> bool {
        let first = self.lock().as_mut().and_then(VecDeque::pop_front);
        // Who gave up does not listen.
        first.map(|asked| asked.send(answer)).is_some()
    }

    /// Nobody is answered any more.
    fn end(&self, error: &TransportError) {
        for asked in self.lock().take().into_iter().flatten() {
            let _ = asked.send(Err(error.clone()));
        }
    }
}

impl Open {
    fn new(client: RaftClient<Channel>, envelope: Envelope) -> Open {
        let (requests, sent) = mpsc::channel(UNANSWERED_MAX);
        let asked = Asked(Arc::new(Mutex::new(Some(VecDeque::new()))));
        tokio::spawn(run(client, envelope, sent, asked.clone()));
        Open {
            envelope,
            requests,
            asked,
        }
    }

    /// Sends a request behind those before it.
    fn send(
        &self,
        request: wire::AppendEntriesRequest,
    ) -> Result<oneshot::Receiver<Answer>, TransportError> {
        let mut asked = self.asked.lock();
        let asked = asked.as_mut().ok_or_else(broken)?;
        if asked.len() >= UNANSWERED_MAX {
            return Err(Rejected::Busy.into());
        }
        self.requests.try_send(request).map_err(|_| broken())?;
        let (answer, is_answered) = oneshot::channel();
        asked.push_back(answer);
        Ok(is_answered)
    }
}

impl Appends {
    pub(super) async fn ask(
        &self,
        client: RaftClient<Channel>,
        envelope: Envelope,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> Answer {
        let request = convert::from_append(request);
        let answer = {
            let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let usable = open
                .take()
                .filter(|open| open.envelope == envelope && !open.asked.has_ended());
            let open = open.insert(usable.unwrap_or_else(|| Open::new(client, envelope)));
            open.send(request)?
        };
        answer.await.unwrap_or_else(|_| Err(broken()))
    }
}

fn broken() -> TransportError {
    TransportError::Broken("the stream has ended".to_owned())
}

/// Hands out the answers until either side ends the stream.
async fn run(
    mut client: RaftClient<Channel>,
    envelope: Envelope,
    requests: mpsc::Receiver<wire::AppendEntriesRequest>,
    asked: Asked,
) {
    let requests = addressed(envelope, ReceiverStream::new(requests));
    let opened = answered(client.append_entries(requests).await);
    let error = match opened {
        Ok(answers) => hand_out(answers, &asked).await,
        Err(error) => error,
    };
    asked.end(&error);
}

/// Until the stream ends, and why it does.
async fn hand_out(
    mut answers: Streaming<wire::AppendEntriesResponse>,
    asked: &Asked,
) -> TransportError {
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => convert::to_append_response(answer),
            Ok(None) => return broken(),
            Err(status) => return error(&status),
        };
        match answer {
            Ok(answer) => {
                if !asked.answer(Ok(answer)) {
                    return Rejected::Damaged("it answers what nobody asked".to_owned()).into();
                }
            }
            Err(rejected) => return rejected.into(),
        }
    }
}
