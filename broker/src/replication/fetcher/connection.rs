//! The connection of a fetcher to its leader: requests out, responses in, in the same order.

use std::io;

use bytes::{Bytes, BytesMut};
use kafka_wire::{DecodeError, EncodeError, Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Why a leader cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("it is not alive, or has no such listener")]
    Unknown,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("a response of {0} bytes")]
    Length(i32),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("a response to request {found} where {expected} was due")]
    OutOfOrder { expected: i32, found: i32 },
}

/// A connection that is read frame by frame.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    buffer: BytesMut,
    max_response_bytes: usize,
    last_sent: i32,
    last_received: i32,
    client_id: String,
}

impl Connection {
    pub(super) async fn open(
        host: &str,
        port: u16,
        client_id: String,
        max_response_bytes: usize,
    ) -> Result<Connection, ConnectionError> {
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        let buffer = BytesMut::new();
        Ok(Connection {
            socket,
            buffer,
            max_response_bytes,
            last_sent: 0,
            last_received: 0,
            client_id,
        })
    }

    pub(super) async fn send<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<(), ConnectionError> {
        self.last_sent = self.last_sent.wrapping_add(1);
        let frame = encode_request(self.last_sent, Some(&self.client_id), version, request)?;
        Ok(self.socket.write_all(&frame).await?)
    }

    /// The next response, which is to a request of type `R`. May be dropped and called again.
    pub(super) async fn receive<R: Request>(
        &mut self,
        version: i16,
    ) -> Result<R::Response, ConnectionError> {
        let frame = self.frame().await?;
        let expected = self.last_received.wrapping_add(1);
        let (found, response) = decode_response::<R>(frame, version)?;
        if found != expected {
            return Err(ConnectionError::OutOfOrder { expected, found });
        }
        self.last_received = expected;
        Ok(response)
    }

    async fn frame(&mut self) -> Result<Bytes, ConnectionError> {
        self.fill(4).await?;
        let announced = self
            .buffer
            .get(..4)
            .and_then(|size| <[u8; 4]>::try_from(size).ok())
            .unwrap_or_default();
        let announced = i32::from_be_bytes(announced);
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| (4..=self.max_response_bytes).contains(length));
        let length = length.ok_or(ConnectionError::Length(announced))?;
        self.fill(4 + length).await?;
        let mut frame = self.buffer.split_to(4 + length);
        Ok(frame.split_off(4).freeze())
    }

    async fn fill(&mut self, length: usize) -> Result<(), ConnectionError> {
        while self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(())
    }
}
