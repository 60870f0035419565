//! A client of single frames, which does nothing by itself: no ping, no reconnect.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use zookeeper_wire::{ConnectRequest, CreateRequest, Reader, Request, RequestHeader, Writer};

use crate::process::DEADLINE;

pub(crate) struct RawClient<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) session: i64,
    pub(crate) password: Bytes,
    pub(crate) timeout_ms: i32,
}

/// The header of a reply or event, and what follows.
pub(crate) struct Reply {
    pub(crate) xid: i32,
    pub(crate) zxid: i64,
    pub(crate) error: i32,
    pub(crate) body: Reader,
}

pub(crate) fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

pub(crate) fn frame(body: impl FnOnce(&mut Writer)) -> Bytes {
    let mut w = Writer::new();
    w.frame(body);
    w.take()
}

/// The next frame; `None` if the connection is closed.
pub(crate) fn read_frame(stream: &mut impl Read) -> Option<Bytes> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).ok()?;
    let mut body = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(body.into())
}

impl RawClient {
    /// A new session.
    pub(crate) fn connect(address: SocketAddr, timeout_ms: i32) -> RawClient {
        RawClient::resume(address, timeout_ms, 0, Bytes::from_static(&[0; 16]), 0)
            .expect("a session")
    }

    /// A session resumed; its timeout is 0 if it is gone. `None` if the connection is refused.
    pub(crate) fn resume(
        address: SocketAddr,
        timeout_ms: i32,
        session_id: i64,
        password: Bytes,
        last_zxid_seen: i64,
    ) -> Option<RawClient> {
        RawClient::resume_on(
            open(address),
            timeout_ms,
            session_id,
            password,
            last_zxid_seen,
        )
    }
}

impl<S: Read + Write> RawClient<S> {
    /// Likewise, over whatever carries it.
    pub(crate) fn resume_on(
        mut stream: S,
        timeout_ms: i32,
        session_id: i64,
        password: Bytes,
        last_zxid_seen: i64,
    ) -> Option<RawClient<S>> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms,
            session_id,
            password,
            read_only: Some(false),
        };
        stream.write_all(&frame(|w| request.encode(w))).ok()?;
        let mut r = Reader::new(read_frame(&mut stream)?);
        r.i32().expect("the protocol version");
        let timeout_ms = r.i32().expect("the timeout");
        let session = r.i64().expect("the session");
        let password = r.buffer().expect("the password").expect("a password");
        assert_eq!(r.bool(), Ok(false));
        Some(RawClient {
            stream,
            session,
            password,
            timeout_ms,
        })
    }

    pub(crate) fn send(&mut self, xid: i32, request: &Request) {
        self.send_raw(xid, request.op_code().code(), |w| request.encode(w));
    }

    pub(crate) fn send_raw(&mut self, xid: i32, op_code: i32, body: impl FnOnce(&mut Writer)) {
        let bytes = frame(|w| {
            RequestHeader { xid, op_code }.encode(w);
            body(w);
        });
        self.stream.write_all(&bytes).expect("a request is sent");
    }

    pub(crate) fn receive(&mut self) -> Option<Reply> {
        let mut body = Reader::new(read_frame(&mut self.stream)?);
        Some(Reply {
            xid: body.i32().expect("an xid"),
            zxid: body.i64().expect("a zxid"),
            error: body.i32().expect("an error"),
            body,
        })
    }

    pub(crate) fn ask(&mut self, xid: i32, request: &Request) -> Reply {
        self.send(xid, request);
        let reply = self.receive().expect("an answer");
        assert_eq!(reply.xid, xid);
        reply
    }
}

pub(crate) fn create(path: &str, flags: i32) -> Request {
    let acl = zookeeper_wire::Acl {
        perms: 31,
        scheme: "world".into(),
        id: "anyone".into(),
    };
    Request::Create(CreateRequest {
        path: path.to_owned().into(),
        data: Some(Bytes::new()),
        acl: vec![acl],
        flags,
    })
}
