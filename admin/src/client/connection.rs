//! One connection to one broker: a request, then its response, in the newest version that both sides speak.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use kafka_wire::api_versions::ApiVersionsRequest;
use kafka_wire::{
    ApiKey, ByteString, EncodeError, ErrorCode, Request, decode_response, encode_request,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// The largest response that is read. A fetch asks for far less, but one batch may be larger than what it asks for.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// What went wrong with a broker. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The network's fault, or nobody there.
    #[error("{address}: {source}")]
    Io {
        /// Whom it was with.
        address: String,
        /// What happened.
        source: std::io::Error,
    },
    /// No answer within the deadline.
    #[error("{address}: no answer in time")]
    Timeout {
        /// Who is silent.
        address: String,
    },
    /// The broker closed the connection before it answered.
    #[error("{address}: the broker closed the connection")]
    Closed {
        /// Who.
        address: String,
    },
    /// There is no version of the API that both speak.
    #[error("{address}: the broker does not support {api:?} in a version that this tool knows")]
    Unsupported {
        /// Who.
        address: String,
        /// Which API.
        api: ApiKey,
    },
    /// A response that is none.
    #[error("{address}: a response that can not be read: {reason}")]
    Malformed {
        /// Who sent it.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A request that its version can not carry.
    #[error("{address}: {source}")]
    Unsendable {
        /// Whom it was for.
        address: String,
        /// Why.
        source: EncodeError,
    },
}

/// An open connection, and what its broker speaks.
pub(crate) struct Connection {
    stream: TcpStream,
    address: String,
    client_id: String,
    correlation_id: i32,
    /// The lowest and highest version of each API, by its key.
    versions: HashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Opens a connection and asks what the broker speaks.
    ///
    /// # Errors
    /// If nobody is there, or no Kafka broker, or not by the deadline.
    pub(crate) async fn open(
        address: &str,
        client_id: &str,
        deadline: Instant,
    ) -> Result<Self, ConnectionError> {
        let stream = timeout_at(deadline, TcpStream::connect(address))
            .await
            .map_err(|_| ConnectionError::Timeout {
                address: address.to_owned(),
            })?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ConnectionError::Io {
                address: address.to_owned(),
                source,
            })?;
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            client_id: client_id.to_owned(),
            correlation_id: 0,
            versions: HashMap::new(),
        };
        connection.negotiate(deadline).await?;
        Ok(connection)
    }

    /// Asks in the newest version. A broker that does not know it says so in version 0, with the versions that it
    /// knows, and is asked again (KIP-511).
    async fn negotiate(&mut self, deadline: Instant) -> Result<(), ConnectionError> {
        let request = ApiVersionsRequest {
            client_software_name: ByteString::from_static("gregor-admin"),
            client_software_version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
        };
        let newest = ApiKey::ApiVersions
            .versions()
            .map_or(0, |versions| *versions.end());
        let frame = self.exchange(&request, newest, deadline).await?;
        // The error code stands behind the correlation id, in every version.
        let refused = frame
            .get(4..6)
            .is_some_and(|code| code == ErrorCode::UnsupportedVersion.code().to_be_bytes());
        let (version, frame) = match refused {
            false => (newest, frame),
            true => {
                let (_, response) = decode_response::<ApiVersionsRequest>(frame, 0)
                    .map_err(|error| self.malformed(&error))?;
                let theirs = response
                    .api_keys
                    .iter()
                    .find(|api| api.api_key == ApiKey::ApiVersions.code())
                    .map_or(0, |api| api.max_version);
                let version = theirs.clamp(0, newest);
                (version, self.exchange(&request, version, deadline).await?)
            }
        };
        let (_, response) = decode_response::<ApiVersionsRequest>(frame, version)
            .map_err(|error| self.malformed(&error))?;
        if response.error_code != ErrorCode::None.code() {
            return Err(ConnectionError::Unsupported {
                address: self.address.clone(),
                api: ApiKey::ApiVersions,
            });
        }
        self.versions = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Ok(())
    }

    /// The address that the connection leads to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The version in which a request is sent.
    fn version<R: Request>(&self) -> Result<i16, ConnectionError> {
        let ours = R::KEY
            .versions()
            .map(|versions| (*versions.start(), *versions.end().min(&newest_used(R::KEY))));
        let theirs = self.versions.get(&R::KEY.code()).copied();
        match (ours, theirs) {
            (Some((our_low, our_high)), Some((low, high)))
                if our_low.max(low) <= our_high.min(high) =>
            {
                Ok(our_high.min(high))
            }
            _ => Err(ConnectionError::Unsupported {
                address: self.address.clone(),
                api: R::KEY,
            }),
        }
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// If there is no sound response by the deadline.
    pub(crate) async fn request<R: Request>(
        &mut self,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, ConnectionError> {
        let version = self.version::<R>()?;
        let frame = self.exchange(request, version, deadline).await?;
        let (_, response) =
            decode_response::<R>(frame, version).map_err(|error| self.malformed(&error))?;
        Ok(response)
    }

    /// Sends a request that is not answered: a produce with acks=0.
    ///
    /// # Errors
    /// If it can not be sent by the deadline.
    pub(crate) async fn send<R: Request>(
        &mut self,
        request: &R,
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        let version = self.version::<R>()?;
        self.write(request, version, deadline).await
    }

    async fn write<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = encode_request(self.correlation_id, Some(&self.client_id), version, request)
            .map_err(|source| ConnectionError::Unsendable {
                address: self.address.clone(),
                source,
            })?;
        let written = timeout_at(deadline, self.stream.write_all(&frame)).await;
        written
            .map_err(|_| self.timeout())?
            .map_err(|source| self.io(source))
    }

    /// Sends a request and reads the frame of its response, without its size.
    async fn exchange<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<Bytes, ConnectionError> {
        self.write(request, version, deadline).await?;
        let frame = timeout_at(deadline, self.read_frame())
            .await
            .map_err(|_| self.timeout())??;
        match frame.get(..4) {
            Some(id) if id == self.correlation_id.to_be_bytes() => Ok(frame),
            _ => Err(self.malformed("it answers another request")),
        }
    }

    /// Reads one frame. The buffer grows with what arrives, not with what is announced.
    async fn read_frame(&mut self) -> Result<Bytes, ConnectionError> {
        let mut buffer = BytesMut::with_capacity(4096);
        let mut wanted = 4;
        loop {
            while buffer.len() < wanted {
                let limit = (wanted - buffer.len()) as u64;
                let read = (&mut self.stream).take(limit).read_buf(&mut buffer).await;
                if read.map_err(|source| self.io(source))? == 0 {
                    return Err(ConnectionError::Closed {
                        address: self.address.clone(),
                    });
                }
            }
            if wanted > 4 {
                return Ok(buffer.split_off(4).freeze());
            }
            let size = (&buffer[..]).get_i32();
            match usize::try_from(size) {
                Ok(size @ 4..=MAX_RESPONSE_BYTES) => wanted = 4 + size,
                _ => return Err(self.malformed(format!("a size of {size} bytes"))),
            }
        }
    }

    fn io(&self, source: std::io::Error) -> ConnectionError {
        ConnectionError::Io {
            address: self.address.clone(),
            source,
        }
    }

    fn timeout(&self) -> ConnectionError {
        ConnectionError::Timeout {
            address: self.address.clone(),
        }
    }

    fn malformed(&self, reason: impl ToString) -> ConnectionError {
        ConnectionError::Malformed {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }
}

/// The newest version of an API that this client uses. Later ones of Fetch and DeleteTopics name topics by id, which
/// a tool that was given a name has no use for.
fn newest_used(api: ApiKey) -> i16 {
    match api {
        ApiKey::Fetch => 12,
        ApiKey::DeleteTopics => 5,
        _ => i16::MAX,
    }
}
