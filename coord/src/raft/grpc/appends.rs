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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::raft::Frame;
    use proto::raft::raft_server::{Raft, RaftServer};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;
    use tonic::transport::server::TcpIncoming;
    use tonic::transport::{Endpoint, Server};
    use tonic::{Request, Response, Status};

    use super::super::{status, take_envelope};
    use super::*;
    use crate::raft::types::{Vote, log_id};

    const DEADLINE: Duration = Duration::from_secs(10);

    const ENVELOPE: Envelope = Envelope {
        ensemble: 7,
        from: NodeId(1),
        to: NodeId(2),
    };

    async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
        let done = timeout(DEADLINE, future).await;
        done.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    type Answers = ReceiverStream<Result<wire::AppendEntriesResponse, Status>>;

    /// A stream as the member is asked for it.
    struct Opening {
        envelope: Envelope,
        requests: Streaming<wire::AppendEntriesRequest>,
        decision: oneshot::Sender<Result<Answers, Status>>,
    }

    impl Opening {
        fn accept(self) -> MembersEnd {
            let (answers, sent) = mpsc::channel(UNANSWERED_MAX);
            assert!(self.decision.send(Ok(ReceiverStream::new(sent))).is_ok());
            MembersEnd {
                envelope: self.envelope,
                requests: self.requests,
                answers,
            }
        }

        fn refuse(self, rejected: &Rejected) {
            assert!(self.decision.send(Err(status(rejected))).is_ok());
        }
    }

    /// The member's end of an open stream.
    struct MembersEnd {
        envelope: Envelope,
        requests: Streaming<wire::AppendEntriesRequest>,
        answers: mpsc::Sender<Result<wire::AppendEntriesResponse, Status>>,
    }

    impl MembersEnd {
        /// The number of the next request; none if there will be no more.
        async fn request(&mut self) -> Option<u64> {
            let request = in_time("a request", self.requests.message()).await.unwrap();
            request.map(|request| request.previous.unwrap().index)
        }

        async fn answer(&self, answer: AppendEntriesResponse<NodeId>) {
            let answer = Ok(convert::from_append_response(answer));
            self.answers.send(answer).await.unwrap();
        }

        async fn refuse(&self, rejected: &Rejected) {
            self.answers.send(Err(status(rejected))).await.unwrap();
        }
    }

    fn test_has_ended<T>(_: T) -> Status {
        Status::cancelled("the test has ended")
    }

    /// A member that does what the test tells it to.
    struct Member(mpsc::Sender<Opening>);

    #[tonic::async_trait]
    impl Raft for Member {
        type AppendEntriesStream = Answers;
        type SnapshotStream = ReceiverStream<Result<Frame, Status>>;
        type ForwardStream = ReceiverStream<Result<Frame, Status>>;

        async fn append_entries(
            &self,
            request: Request<Streaming<wire::AppendEntriesRequest>>,
        ) -> Result<Response<Answers>, Status> {
            let (decision, decided) = oneshot::channel();
            let opening = Opening {
                envelope: take_envelope(request.metadata())?,
                requests: request.into_inner(),
                decision,
            };
            self.0.send(opening).await.map_err(test_has_ended)?;
            let decision = decided.await.map_err(test_has_ended)?;
            decision.map(Response::new)
        }

        async fn vote(
            &self,
            _: Request<wire::VoteRequest>,
        ) -> Result<Response<wire::VoteResponse>, Status> {
            Err(Status::unimplemented("no votes"))
        }

        async fn status(
            &self,
            _: Request<wire::StatusRequest>,
        ) -> Result<Response<wire::StatusResponse>, Status> {
            Err(Status::unimplemented("no status"))
        }

        async fn snapshot(
            &self,
            _: Request<Streaming<Frame>>,
        ) -> Result<Response<Self::SnapshotStream>, Status> {
            Err(Status::unimplemented("no snapshots"))
        }

        async fn forward(
            &self,
            _: Request<Streaming<Frame>>,
        ) -> Result<Response<Self::ForwardStream>, Status> {
            Err(Status::unimplemented("no requests"))
        }
    }

    /// A leader's way to such a member.
    struct Leader {
        client: RaftClient<Channel>,
        appends: Arc<Appends>,
        openings: mpsc::Receiver<Opening>,
    }

    impl Leader {
        fn new() -> Leader {
            let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
            let address = incoming.local_addr().unwrap();
            let (openings, opened) = mpsc::channel(UNANSWERED_MAX);
            let server = Server::builder().add_service(RaftServer::new(Member(openings)));
            tokio::spawn(server.serve_with_incoming(incoming));
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            Leader {
                client: RaftClient::new(endpoint.connect_lazy()),
                appends: Arc::default(),
                openings: opened,
            }
        }

        /// Sends the request of this number as soon as the test waits for anything: before what the test told the member
        /// later.
        fn ask(&self, envelope: Envelope, number: u64) -> Asker {
            let request = AppendEntriesRequest {
                vote: Vote::new(1, envelope.from),
                prev_log_id: Some(log_id(1, number)),
                entries: Vec::new(),
                leader_commit: None,
            };
            let (appends, client) = (self.appends.clone(), self.client.clone());
            let answer = async move { appends.ask(client, envelope, &request).await };
            Asker(tokio::spawn(answer))
        }

        async fn opening(&mut self) -> Opening {
            let opening = in_time("another stream", self.openings.recv()).await;
            opening.unwrap()
        }

        /// Waits until the stream that is open has ended.
        async fn until_ended(&self) {
            let open = || self.appends.0.lock().unwrap();
            let asked = open().as_ref().unwrap().asked.clone();
            while !asked.has_ended() {
                tokio::task::yield_now().await;
            }
        }

        /// Sends the first request of a stream.
        async fn open(&mut self, envelope: Envelope, number: u64) -> (Asker, MembersEnd) {
            let asker = self.ask(envelope, number);
            let mut member = self.opening().await.accept();
            assert_eq!(member.envelope, envelope);
            assert_eq!(member.request().await, Some(number));
            (asker, member)
        }
    }

    /// Who waits for an answer.
    struct Asker(JoinHandle<Answer>);

    impl Asker {
        async fn answer(self) -> Answer {
            in_time("an answer", self.0).await.unwrap()
        }

        async fn give_up(self) {
            self.0.abort();
            assert!(in_time("the end", self.0).await.unwrap_err().is_cancelled());
        }
    }

    #[tokio::test]
    async fn a_late_answer_is_not_taken_for_the_one_to_the_next_request() {
        let mut leader = Leader::new();
        let (late, mut member) = leader.open(ENVELOPE, 1).await;
        late.give_up().await;
        let next = leader.ask(ENVELOPE, 2);
        assert_eq!(member.request().await, Some(2));
        let last = leader.ask(ENVELOPE, 3);
        assert_eq!(member.request().await, Some(3));
        member.answer(AppendEntriesResponse::Conflict).await;
        member.answer(AppendEntriesResponse::Success).await;
        let partly = || AppendEntriesResponse::PartialSuccess(None);
        member.answer(partly()).await;
        assert_eq!(next.answer().await, Ok(AppendEntriesResponse::Success));
        assert_eq!(last.answer().await, Ok(partly()));
    }

    #[tokio::test]
    async fn a_member_that_answers_nothing_is_sent_only_so_many_requests() {
        let mut leader = Leader::new();
        let (first, mut member) = leader.open(ENVELOPE, 1).await;
        for number in 2..=4 {
            let asker = leader.ask(ENVELOPE, number);
            assert_eq!(member.request().await, Some(number));
            // The member works on it nevertheless.
            asker.give_up().await;
        }
        let busy = Err(TransportError::Rejected(Rejected::Busy));
        assert_eq!(leader.ask(ENVELOPE, 5).answer().await, busy);
        member.answer(AppendEntriesResponse::Success).await;
        assert_eq!(first.answer().await, Ok(AppendEntriesResponse::Success));
        let next = leader.ask(ENVELOPE, 6);
        assert_eq!(member.request().await, Some(6));
        assert_eq!(leader.ask(ENVELOPE, 7).answer().await, busy);
        for _ in 2..=4 {
            member.answer(AppendEntriesResponse::Conflict).await;
        }
        member.answer(AppendEntriesResponse::Success).await;
        assert_eq!(next.answer().await, Ok(AppendEntriesResponse::Success));
    }

    #[tokio::test]
    async fn a_refusal_is_the_answer_to_all_and_the_next_request_opens_another_stream() {
        let mut leader = Leader::new();
        // It is refused at its opening.
        let first = leader.ask(ENVELOPE, 1);
        let opening = leader.opening().await;
        let second = leader.ask(ENVELOPE, 2);
        opening.refuse(&Rejected::Stranger(ENVELOPE.from));
        let refused = Err(Rejected::Stranger(ENVELOPE.from).into());
        assert_eq!(first.answer().await, refused);
        assert_eq!(second.answer().await, refused);
        // Or later.
        let (first, mut member) = leader.open(ENVELOPE, 3).await;
        let second = leader.ask(ENVELOPE, 4);
        assert_eq!(member.request().await, Some(4));
        member.refuse(&Rejected::Stopped).await;
        let refused = Err(Rejected::Stopped.into());
        assert_eq!(first.answer().await, refused);
        assert_eq!(second.answer().await, refused);
        let (asker, member) = leader.open(ENVELOPE, 5).await;
        member.answer(AppendEntriesResponse::Success).await;
        assert_eq!(asker.answer().await, Ok(AppendEntriesResponse::Success));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_ends_the_stream() {
        let mut leader = Leader::new();
        let (asker, old) = leader.open(ENVELOPE, 1).await;
        old.answer(AppendEntriesResponse::Success).await;
        assert_eq!(asker.answer().await, Ok(AppendEntriesResponse::Success));
        old.answer(AppendEntriesResponse::Success).await;
        in_time("the end of the stream", leader.until_ended()).await;
        let (asker, new) = leader.open(ENVELOPE, 2).await;
        in_time("its end for the member", old.answers.closed()).await;
        new.answer(AppendEntriesResponse::Conflict).await;
        assert_eq!(asker.answer().await, Ok(AppendEntriesResponse::Conflict));
    }

    #[tokio::test]
    async fn another_envelope_opens_another_stream_and_the_old_one_still_answers() {
        let mut leader = Leader::new();
        let unknown = Envelope {
            ensemble: 0,
            ..ENVELOPE
        };
        let (first, mut old) = leader.open(unknown, 1).await;
        let (second, new) = leader.open(ENVELOPE, 2).await;
        assert_eq!(old.request().await, None);
        new.answer(AppendEntriesResponse::Conflict).await;
        assert_eq!(second.answer().await, Ok(AppendEntriesResponse::Conflict));
        old.answer(AppendEntriesResponse::Success).await;
        assert_eq!(first.answer().await, Ok(AppendEntriesResponse::Success));
    }
}
