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
        let mut client = self
            .client()
            .ok_or_else(|| unavailable("there is none".to_owned()))?;
        match timeout_at(Instant::now() + DEADLINE, client.alter_partition(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(unavailable(status.message().to_owned())),
            Err(_) => Err(unavailable("no answer".to_owned())),
        }
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
    fn client(&self) -> Option<ControllerClient<Channel>> {
        let address = self.controller.borrow().clone()?;
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((connected, client)) = &*connection
            && *connected == address
        {
            return Some(client.clone());
        }
        let channel = connect_lazily(&address.host, address.port)
            .inspect_err(|error| {
                tracing::warn!("the controller's address {address:?} is unusable: {error}")
            })
            .ok()?;
        let client = ControllerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        *connection = Some((address, client.clone()));
        Some(client)
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
            if let Some(client) = self.client() {
                match timeout_at(deadline, call(client)).await {
                    Ok(Ok(response)) => {
                        let response = response.into_inner();
                        if code(&response) != i32::from(ErrorCode::NotController as i16) {
                            return Ok(response);
                        }
                        cause = "the broker that was is no controller any more".to_owned();
                    }
                    // The connection could not be made, or broke: Unavailable is all that tonic says.
                    Ok(Err(status)) if status.code() == Code::Unavailable => {
                        cause = status.message().to_owned()
                    }
                    Ok(Err(status)) => {
                        return Err(ControllerUnavailable {
                            cause: status.message().to_owned(),
                        });
                    }
                    Err(_) => {
                        return Err(ControllerUnavailable {
                            cause: "no answer".to_owned(),
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

fn error_code(code: i32) -> ErrorCode {
    i16::try_from(code).map_or(ErrorCode::UnknownServerError, ErrorCode::from_code)
}
