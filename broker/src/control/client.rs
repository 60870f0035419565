//! Asking the controller.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::{ApiKey, ErrorCode};
use proto::control::controller_client::ControllerClient;
use proto::control::{
    AllocateProducerIdsRequest, AlterPartitionRequest, AlterPartitionResponse,
    ControlledShutdownRequest, ControlledShutdownResponse, ForwardRequest,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::MAX_MESSAGE_BYTES;

/// How long a request to the controller may take, a change of controllers included.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait before the controller is asked again that could not be reached or was none.
const RETRY: Duration = Duration::from_millis(50);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who the controller is, and where it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerAddress {
    /// Its broker id.
    pub broker_id: i32,
    /// Its control listener.
    pub host: String,
    /// Its control listener.
    pub port: u16,
}

/// No controller answered in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no controller answered within {} s: {cause}", DEADLINE.as_secs())]
pub struct ControllerUnavailable {
    cause: String,
}

/// A channel that connects when it is used, and again when it broke.
pub(crate) fn connect_lazily(host: &str, port: u16) -> Result<Channel, tonic::transport::Error> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect_lazy())
}

/// Asks whoever is the controller, and asks again when that changes meanwhile.
#[derive(Debug)]
pub struct ControllerChannel {
    broker_id: i32,
    broker_epoch: AtomicI64,
    controller: watch::Receiver<Option<ControllerAddress>>,
    connection: Mutex<Option<(ControllerAddress, ControllerClient<Channel>)>>,
}

impl ControllerChannel {
    /// A channel to the controller that `controller` names.
    pub fn new(broker_id: i32, controller: watch::Receiver<Option<ControllerAddress>>) -> Self {
        Self {
            broker_id,
            broker_epoch: AtomicI64::new(-1),
            controller,
            connection: Mutex::new(None),
        }
    }

    /// The id of the controller, if there is one.
    pub fn controller_id(&self) -> Option<i32> {
        self.controller
            .borrow()
            .as_ref()
            .map(|address| address.broker_id)
    }

    pub(crate) fn set_broker_epoch(&self, broker_epoch: i64) {
        self.broker_epoch.store(broker_epoch, Ordering::Release);
    }

    /// Asks for other ISRs, once: whoever asks knows best whether it still wants them.
    pub async fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Result<AlterPartitionResponse, ControllerUnavailable> {
        let unavailable = |cause: String| ControllerUnavailable { cause };
        let (address, mut client) = self
            .client()
            .ok_or_else(|| unavailable("there is none".to_owned()))?;
        let deadline = Instant::now() + DEADLINE;
        self.answer(&address, deadline, client.alter_partition(request))
            .await
            .map_err(|status| unavailable(status.message().to_owned()))
    }

    /// Has the controller answer a client's request; the body of its response.
    pub async fn forward(
        &self,
        api_key: ApiKey,
        api_version: i16,
        client_id: &str,
        client_host: &str,
        body: Bytes,
    ) -> Result<Bytes, ErrorCode> {
        let request = ForwardRequest {
            api_key: i32::from(api_key as i16),
            api_version: i32::from(api_version),
            client_id: client_id.to_owned(),
            client_host: client_host.to_owned(),
            body: body.to_vec(),
        };
        let ask = |mut client: ControllerClient<Channel>| {
            let request = request.clone();
            async move { client.forward(request).await }
        };
        let response = self.ask(ask, |response| response.error_code).await;
        let response = response.map_err(|_| ErrorCode::NotController)?;
        match response.error_code {
            0 => Ok(response.body.into()),
            code => Err(error_code(code)),
        }
    }

    /// A block of producer ids.
    pub async fn allocate_producer_ids(&self) -> Result<Range<i64>, ErrorCode> {
        let request = AllocateProducerIdsRequest {
            broker_id: self.broker_id,
            broker_epoch: self.broker_epoch.load(Ordering::Acquire),
        };
        let ask = |mut client: ControllerClient<Channel>| async move {
            client.allocate_producer_ids(request).await
        };
        let response = self.ask(ask, |response| response.error_code).await;
        let response = response.map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
        match response.error_code {
            0 => {
                let first = response.first_producer_id;
                Ok(first..first.saturating_add(i64::from(response.count)))
            }
            code => Err(error_code(code)),
        }
    }

    /// Asks to be relieved of leaderships.
    pub async fn controlled_shutdown(
        &self,
    ) -> Result<ControlledShutdownResponse, ControllerUnavailable> {
        let request = ControlledShutdownRequest {
            broker_id: self.broker_id,
            broker_epoch: self.broker_epoch.load(Ordering::Acquire),
        };
        let ask = |mut client: ControllerClient<Channel>| async move {
            client.controlled_shutdown(request).await
        };
        self.ask(ask, |response| response.error_code).await
    }

    /// The client of the present controller; the connection is kept while it stays the same.
    fn client(&self) -> Option<(ControllerAddress, ControllerClient<Channel>)> {
        let address = self.controller.borrow().clone()?;
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((connected, client)) = &*connection
            && *connected == address
        {
            return Some((address, client.clone()));
        }
        let channel = connect_lazily(&address.host, address.port)
            .inspect_err(|error| {
                tracing::warn!("the controller's address {address:?} is unusable: {error}")
            })
            .ok()?;
        let client = ControllerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        *connection = Some((address.clone(), client.clone()));
        Some((address, client))
    }

    /// The answer of the controller at that address, in time. One that hangs is not waited for once
    /// another broker is the controller.
    async fn answer<T>(
        &self,
        address: &ControllerAddress,
        deadline: Instant,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let mut controller = self.controller.clone();
        let is_replaced =
            |now: &Option<ControllerAddress>| now.as_ref().is_some_and(|now| now != address);
        tokio::select! {
            answer = timeout_at(deadline, call) => {
                answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
            }
            // An error says that no news will come.
            Ok(_) = controller.wait_for(is_replaced) => {
                Err(Status::unavailable("another broker became the controller"))
            }
        }
        .map(tonic::Response::into_inner)
    }

    /// Asks until a controller answers as such. An answer that was lost with its connection is asked
    /// for again, as Kafka's clients do.
    async fn ask<T, F>(
        &self,
        call: impl Fn(ControllerClient<Channel>) -> F,
        code: impl Fn(&T) -> i32,
    ) -> Result<T, ControllerUnavailable>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = Instant::now() + DEADLINE;
        let mut controller = self.controller.clone();
        let mut cause = "there is none".to_owned();
        loop {
            controller.mark_unchanged();
            if let Some((address, client)) = self.client() {
                match self.answer(&address, deadline, call(client)).await {
                    Ok(response)
                        if code(&response) != i32::from(ErrorCode::NotController as i16) =>
                    {
                        return Ok(response);
                    }
                    Ok(_) => cause = "the broker that was is no controller any more".to_owned(),
                    Err(status) if is_lost(&status) => cause = status.message().to_owned(),
                    Err(status) => {
                        return Err(ControllerUnavailable {
                            cause: status.message().to_owned(),
                        });
                    }
                }
            }
            if Instant::now() + RETRY > deadline {
                return Err(ControllerUnavailable { cause });
            }
            // Whichever comes first: news of the controller, or time to try the same again.
            let _ = tokio::time::timeout(RETRY, controller.changed()).await;
        }
    }
}

/// Whether the connection could not be made, or broke, rather than the controller having refused. A
/// status with a source was made on this side; the code of a connection that breaks under a request
/// depends on how far the request had come.
fn is_lost(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Cancelled | Code::Internal => {
            std::error::Error::source(status).is_some()
        }
        _ => false,
    }
}

fn error_code(code: i32) -> ErrorCode {
    i16::try_from(code).map_or(ErrorCode::UnknownServerError, ErrorCode::from_code)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::control::AllocateProducerIdsResponse;
    use proto::control::ForwardResponse;
    use proto::control::controller_server::{Controller, ControllerServer};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;
    use tonic::{Request, Response};

    use super::*;

    /// Hands out producer ids, or never answers.
    struct Fake {
        asked: Arc<Notify>,
        hangs: bool,
    }

    #[tonic::async_trait]
    impl Controller for Fake {
        async fn alter_partition(
            &self,
            _: Request<AlterPartitionRequest>,
        ) -> Result<Response<AlterPartitionResponse>, Status> {
            Err(Status::unimplemented("not in this test"))
        }

        async fn controlled_shutdown(
            &self,
            _: Request<ControlledShutdownRequest>,
        ) -> Result<Response<ControlledShutdownResponse>, Status> {
            Err(Status::unimplemented("not in this test"))
        }

        async fn forward(
            &self,
            _: Request<ForwardRequest>,
        ) -> Result<Response<ForwardResponse>, Status> {
            Err(Status::unimplemented("not in this test"))
        }

        async fn allocate_producer_ids(
            &self,
            _: Request<AllocateProducerIdsRequest>,
        ) -> Result<Response<AllocateProducerIdsResponse>, Status> {
            self.asked.notify_one();
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Ok(Response::new(AllocateProducerIdsResponse {
                error_code: 0,
                first_producer_id: 1000,
                count: 1000,
            }))
        }
    }

    /// A port that connects and says nothing, as that of a process that was stopped.
    async fn silent() -> (TcpListener, ControllerAddress) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ControllerAddress {
            broker_id: 1,
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        (listener, address)
    }

    async fn serve(listener: TcpListener, fake: Fake) {
        Server::builder()
            .add_service(ControllerServer::new(fake))
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    }

    fn answering() -> Fake {
        Fake {
            asked: Arc::default(),
            hangs: false,
        }
    }

    #[tokio::test]
    async fn requests_to_a_controller_that_hangs_go_on_when_there_is_another() {
        let (_hanging, old) = silent().await;
        let (listener, new) = silent().await;
        tokio::spawn(serve(listener, answering()));
        let (controller, address) = watch::channel(Some(old));
        let channel = ControllerChannel::new(7, address);
        let begun = Instant::now();
        let both = async {
            tokio::join!(
                channel.allocate_producer_ids(),
                channel.alter_partition(AlterPartitionRequest::default()),
            )
        };
        let replace = async {
            tokio::task::yield_now().await;
            controller.send_replace(Some(new));
        };
        let ((ids, altered), ()) = tokio::join!(both, replace);
        assert_eq!(ids, Ok(1000..2000));
        let error = altered.unwrap_err().to_string();
        assert!(error.contains("another broker"), "{error}");
        assert!(begun.elapsed() < DEADLINE / 2);
    }

    #[tokio::test]
    async fn a_request_is_made_again_when_its_controller_dies_under_it() {
        let (listener, address) = silent().await;
        let port = address.port;
        let (_controller, addresses) = watch::channel(Some(address));
        let channel = ControllerChannel::new(7, addresses);
        let asked = Arc::new(Notify::new());
        let hanging = Fake {
            asked: asked.clone(),
            hangs: true,
        };
        // A runtime of its own, so that its connections end with it as those of a process do.
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = listener.into_std().unwrap();
        process.spawn(async move {
            serve(TcpListener::from_std(listener).unwrap(), hanging).await;
        });
        let restart = async {
            asked.notified().await;
            process.shutdown_background();
            let listener = loop {
                // The old one's socket closes a moment later.
                match TcpListener::bind(("127.0.0.1", port)).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            tokio::spawn(serve(listener, answering()));
        };
        let (ids, ()) = tokio::join!(channel.allocate_producer_ids(), restart);
        assert_eq!(ids, Ok(1000..2000));
    }
}
