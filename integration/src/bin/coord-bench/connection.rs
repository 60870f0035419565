//! A session on one connection, pipelined: requests go out without waiting, replies are taken in the order they come.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use zookeeper_wire::{
    ConnectRequest, PASSWORD_LEN, Reader, Request, RequestHeader, Writer, frame_len,
};

/// What a benchmark's replies never exceed.
const MAX_FRAME: usize = 1 << 20;
/// How long a reply may take before the benchmark gives up.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(20);
const SESSION_TIMEOUT_MS: i32 = 30_000;

/// What a client needs to resume its session on another connection.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    id: i64,
    password: Bytes,
}

/// The header of a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    pub(crate) xid: i32,
    /// ZooKeeper's error code, 0 for none.
    pub(crate) error: i32,
}

/// One connection with a session.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: Writer,
    next_xid: i32,
    session: Session,
}

impl Connection {
    /// Connects, and opens a session within `limit`.
    ///
    /// # Errors
    /// When nobody listens, or no session is given.
    pub(crate) fn open(address: SocketAddr, limit: Duration) -> Result<Connection> {
        let new = Session {
            id: 0,
            password: Bytes::from_static(&[0; PASSWORD_LEN]),
        };
        Connection::resume(address, &new, limit)
    }

    /// Connects, and goes on with a session within `limit`.
    ///
    /// # Errors
    /// When nobody listens, or the session has ended.
    pub(crate) fn resume(
        address: SocketAddr,
        session: &Session,
        limit: Duration,
    ) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(REPLY_LIMIT))?;
        let mut connection = Connection {
            stream,
            incoming: BytesMut::with_capacity(1 << 16),
            outgoing: Writer::new(),
            next_xid: 1,
            session: session.clone(),
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: SESSION_TIMEOUT_MS,
            session_id: session.id,
            password: session.password.clone(),
            read_only: Some(false),
        };
        connection.outgoing.frame(|w| request.encode(w));
        connection.flush()?;
        let mut response = Reader::new(connection.await_frame()?);
        let (_protocol_version, timeout_ms) = (response.i32()?, response.i32()?);
        ensure!(timeout_ms > 0, "the session has ended");
        connection.session = Session {
            id: response.i64()?,
            password: response.buffer()?.unwrap_or_default(),
        };
        connection.stream.set_read_timeout(Some(REPLY_LIMIT))?;
        Ok(connection)
    }

    /// The session, for another connection to resume.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Queues a request; its number comes back in the reply.
    pub(crate) fn send(&mut self, request: &Request) -> i32 {
        let xid = self.next_xid;
        self.next_xid += 1;
        let header = RequestHeader {
            xid,
            op_code: request.op_code().code(),
        };
        self.outgoing.frame(|w| {
            header.encode(w);
            request.encode(w);
        });
        xid
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.stream.write_all(&self.outgoing.take())?)
    }

    /// Waits until something came, and takes it in.
    ///
    /// # Errors
    /// When the connection is closed, or nothing comes in time.
    pub(crate) fn receive(&mut self) -> Result<()> {
        let mut chunk = [0; 1 << 16];
        let len = self.stream.read(&mut chunk)?;
        if len == 0 {
            bail!("the server closed the connection");
        }
        self.incoming.extend_from_slice(&chunk[..len]);
        Ok(())
    }

    /// The next reply of those that came.
    ///
    /// # Errors
    /// When what came is no reply.
    pub(crate) fn next_reply(&mut self) -> Result<Option<Reply>> {
        let Some(mut frame) = self.next_frame()? else {
            return Ok(None);
        };
        ensure!(frame.len() >= 16, "a reply of {} bytes", frame.len());
        let xid = frame.get_i32();
        let _zxid = frame.get_i64();
        let error = frame.get_i32();
        Ok(Some(Reply { xid, error }))
    }

    /// Sends one request and waits for its reply.
    ///
    /// # Errors
    /// When the connection breaks before, or another reply comes.
    pub(crate) fn call(&mut self, request: &Request) -> Result<Reply> {
        let replies = self.call_all([request.clone()])?;
        replies.into_iter().next().context("no reply")
    }

    /// Sends these requests at once and waits for the replies, which come in the same order.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(crate) fn call_all(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Reply>> {
        let xids: Vec<i32> = requests
            .into_iter()
            .map(|request| self.send(&request))
            .collect();
        self.flush()?;
        let mut replies = Vec::with_capacity(xids.len());
        for xid in xids {
            let reply = loop {
                if let Some(reply) = self.next_reply()? {
                    break reply;
                }
                self.receive()?;
            };
            ensure!(
                reply.xid == xid,
                "reply {} instead of {xid}: out of order",
                reply.xid
            );
            replies.push(reply);
        }
        Ok(replies)
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When the server does not confirm it.
    pub(crate) fn close(mut self) -> Result<()> {
        self.call(&Request::CloseSession).map(drop)
    }

    fn await_frame(&mut self) -> Result<Bytes> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(frame);
            }
            self.receive()?;
        }
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>> {
        let Some(prefix) = self.incoming.first_chunk::<4>() else {
            return Ok(None);
        };
        let len = frame_len(*prefix, MAX_FRAME).context("this is not ZooKeeper's protocol")?;
        if self.incoming.len() < 4 + len {
            return Ok(None);
        }
        self.incoming.advance(4);
        Ok(Some(self.incoming.split_to(len).freeze()))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
