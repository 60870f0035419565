//! What members send each other: coord's own transport, on the virtual network. Whatever a leader sends is noted down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::pending;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use coord::raft::{
    Entry, Envelope, Rejected, Request, Response, Service, Stream, StreamKind, Transport,
    TransportError, Work,
};
use coord_core::{NodeId, ServerSpec};
use openraft::EntryPayload;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::history::{Event, Recorder};
use crate::lifeline::Lifeline;
use crate::network::{Host, Network};

/// Frames of a stream that fit into what lies between its ends.
const STREAM_LEN: usize = 16;

/// Something that has arrived at a machine where a process listens.
enum Arrival {
    Call {
        envelope: Envelope,
        request: Request,
        answer: oneshot::Sender<Result<Response, Rejected>>,
    },
    Open {
        envelope: Envelope,
        kind: StreamKind,
        stream: Stream,
        answer: oneshot::Sender<Result<(), Rejected>>,
    },
}

/// Who listens where, and what was seen on the wires.
#[derive(Clone)]
pub struct Exchange {
    network: Network,
    recorder: Arc<Recorder>,
    listeners: Arc<Mutex<BTreeMap<NodeId, mpsc::UnboundedSender<Arrival>>>>,
    seen: Arc<Mutex<Seen>>,
    life: Lifeline,
}

#[derive(Default)]
struct Seen {
    leaders: BTreeSet<(NodeId, u64)>,
    entries: BTreeMap<(u64, u64), u64>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    /// One where nobody listens yet.
    pub fn new(network: Network, recorder: Arc<Recorder>) -> Exchange {
        Exchange {
            network,
            recorder,
            listeners: Arc::default(),
            seen: Arc::default(),
            life: Lifeline::default(),
        }
    }

    /// The same for one process: what it sends behind its end does not leave it.
    pub fn for_process(&self, life: Lifeline) -> Exchange {
        Exchange {
            life,
            ..self.clone()
        }
    }

    /// What everything travels on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Nobody listens there any more.
    pub fn close(&self, node: NodeId) {
        lock(&self.listeners).remove(&node);
    }

    /// Hands what arrives at a node to its process, until that ends. To be called on the process's own tasks.
    pub fn listen(&self, node: NodeId, service: Service) {
        let (arrivals, mut arriving) = mpsc::unbounded_channel();
        lock(&self.listeners).insert(node, arrivals);
        spawn_local(async move {
            while let Some(arrival) = arriving.recv().await {
                match arrival {
                    Arrival::Call {
                        envelope,
                        request,
                        answer,
                    } => {
                        let service = service.clone();
                        spawn_local(async move {
                            let _ = answer.send(service.call(envelope, request).await);
                        });
                    }
                    Arrival::Open {
                        envelope,
                        kind,
                        stream,
                        answer,
                    } => {
                        let _ = answer.send(service.accept(envelope, kind, stream));
                    }
                }
            }
        });
    }

    fn hand_in(&self, to: NodeId, arrival: Arrival) -> Result<(), TransportError> {
        let listeners = lock(&self.listeners);
        if let Some(listener) = listeners.get(&to)
            && listener.send(arrival).is_ok()
        {
            return Ok(());
        }
        Err(TransportError::Broken("connection refused".to_owned()))
    }

    fn note(&self, from: NodeId, request: &Request) {
        let Request::AppendEntries(request) = request else {
            return;
        };
        let term = request.vote.leader_id.term;
        let mut seen = lock(&self.seen);
        if seen.leaders.insert((from, term)) {
            self.recorder
                .record(Event::SpokeAsLeader { node: from, term });
        }
        for entry in &request.entries {
            let place = (entry.log_id.index, entry.log_id.leader_id.term);
            let digest = digest(entry);
            if seen.entries.insert(place, digest) != Some(digest) {
                let (index, term) = place;
                self.recorder.record(Event::Entry {
                    node: from,
                    index,
                    term,
                    digest,
                });
            }
        }
    }

    async fn call(self, envelope: Envelope, request: Request) -> Result<Response, TransportError> {
        let (from, to) = (Host::Node(envelope.from), Host::Node(envelope.to));
        self.network.travel(from, to).await;
        let (answer, answered) = oneshot::channel();
        let arrival = Arrival::Call {
            envelope,
            request,
            answer,
        };
        let handed_in = self.hand_in(envelope.to, arrival);
        let answer = match handed_in {
            Ok(()) => answered.await,
            Err(error) => {
                self.network.travel(to, from).await;
                return Err(error);
            }
        };
        self.network.travel(to, from).await;
        match answer {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(TransportError::Broken("connection reset".to_owned())),
        }
    }

    async fn open(self, envelope: Envelope, kind: StreamKind) -> Result<Stream, TransportError> {
        let (from, to) = (Host::Node(envelope.from), Host::Node(envelope.to));
        self.network.travel(from, to).await;
        let (here, leaving) = mpsc::channel(STREAM_LEN);
        let (arriving, there) = mpsc::channel(STREAM_LEN);
        let (back, leaving_back) = mpsc::channel(STREAM_LEN);
        let (arriving_back, home) = mpsc::channel(STREAM_LEN);
        let stream = Stream {
            outgoing: back,
            incoming: there,
        };
        let (answer, answered) = oneshot::channel();
        let arrival = Arrival::Open {
            envelope,
            kind,
            stream,
            answer,
        };
        self.hand_in(envelope.to, arrival)?;
        let answer = answered.await;
        self.network.travel(to, from).await;
        match answer {
            Ok(answer) => answer?,
            Err(_) => return Err(TransportError::Broken("connection reset".to_owned())),
        }
        tokio::spawn(self.clone().carry(from, to, leaving, arriving));
        tokio::spawn(self.carry(to, from, leaving_back, arriving_back));
        Ok(Stream {
            outgoing: here,
            incoming: home,
        })
    }

    /// One direction of a stream, until either end is gone.
    async fn carry(
        self,
        from: Host,
        to: Host,
        mut leaving: mpsc::Receiver<Bytes>,
        arriving: mpsc::Sender<Bytes>,
    ) {
        let (on_the_way, mut there) = mpsc::channel(STREAM_LEN);
        let network = self.network.clone();
        let leave = tokio::spawn(async move {
            while let Some(frame) = leaving.recv().await {
                let arrival = network.arrival(from, to);
                if on_the_way.send((arrival, frame)).await.is_err() {
                    return;
                }
            }
        });
        let carry = async {
            while let Some((arrival, frame)) = there.recv().await {
                self.network.arrive(from, to, arrival).await;
                if arriving.send(frame).await.is_err() {
                    return;
                }
            }
            self.network.travel(from, to).await;
        };
        tokio::select! {
            biased;
            () = arriving.closed() => self.network.travel(to, from).await,
            () = self.network.reset(from, to) => {}
            () = carry => {}
        }
        leave.abort();
    }
}

fn digest(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &entry.payload {
        EntryPayload::Blank => hasher.write_u8(0),
        EntryPayload::Normal(payload) => hasher.write(&payload.bytes()),
        EntryPayload::Membership(membership) => {
            hasher.write(format!("{membership:?}").as_bytes());
        }
    }
    hasher.finish()
}

impl Transport for Exchange {
    fn call(
        &self,
        _server: &ServerSpec,
        envelope: Envelope,
        request: Request,
    ) -> Work<'static, Result<Response, TransportError>> {
        if self.life.is_over() {
            return Box::pin(pending());
        }
        self.note(envelope.from, &request);
        // What has left a machine arrives, whether the caller still waits for the answer or not.
        let network = self.network.clone();
        let called = tokio::spawn(self.clone().call(envelope, request));
        Box::pin(async move {
            let (from, to) = (Host::Node(envelope.from), Host::Node(envelope.to));
            tokio::select! {
                biased;
                answer = called => match answer {
                    Ok(answer) => answer,
                    Err(error) => Err(TransportError::Broken(error.to_string())),
                },
                () = network.reset(from, to) => {
                    Err(TransportError::Broken("connection reset".to_owned()))
                }
            }
        })
    }

    fn open(
        &self,
        _server: &ServerSpec,
        envelope: Envelope,
        kind: StreamKind,
    ) -> Work<'static, Result<Stream, TransportError>> {
        if self.life.is_over() {
            return Box::pin(pending());
        }
        let opened = tokio::spawn(self.clone().open(envelope, kind));
        Box::pin(async move {
            match opened.await {
                Ok(stream) => stream,
                Err(error) => Err(TransportError::Broken(error.to_string())),
            }
        })
    }
}
