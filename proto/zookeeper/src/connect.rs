//! The handshake that opens or resumes a session.

use bytes::Bytes;

use crate::jute::{DecodeError, Reader, Writer};

/// Bytes of a session's password.
pub const PASSWORD_LEN: usize = 16;

/// The first record of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Always 0.
    pub protocol_version: i32,
    /// The newest zxid that this client has seen; a server that is behind refuses the connection.
    pub last_zxid_seen: i64,
    /// The session timeout that the client would like, in milliseconds.
    pub timeout_ms: i32,
    /// The session to resume, 0 to open one.
    pub session_id: i64,
    /// The password of the session to resume.
    pub password: Bytes,
    /// Whether a read-only server would do; `None` from clients before 3.4, whose response lacks the field as well.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Reads the body of the first frame.
    pub fn decode(frame: Bytes) -> Result<ConnectRequest, DecodeError> {
        let mut r = Reader::new(frame);
        Ok(ConnectRequest {
            protocol_version: r.i32()?,
            last_zxid_seen: r.i64()?,
            timeout_ms: r.i32()?,
            session_id: r.i64()?,
            password: r.buffer()?.unwrap_or_default(),
            read_only: if r.remaining() > 0 {
                Some(r.bool()?)
            } else {
                None
            },
        })
    }

    /// Writes the body of the first frame.
    pub fn encode(&self, w: &mut Writer) {
        w.i32(self.protocol_version);
        w.i64(self.last_zxid_seen);
        w.i32(self.timeout_ms);
        w.i64(self.session_id);
        w.buffer(Some(&self.password));
        if let Some(read_only) = self.read_only {
            w.bool(read_only);
        }
    }
}

/// The answer to a [`ConnectRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The session timeout that holds, in milliseconds; 0 tells the client that its session is gone.
    pub timeout_ms: i32,
    /// The session.
    pub session_id: i64,
    /// What the client shows to resume it.
    pub password: [u8; PASSWORD_LEN],
    /// Present if the request had the field.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer to a session that is unknown, ended or asked for with a wrong password.
    pub fn expired(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse {
            timeout_ms: 0,
            session_id: 0,
            password: [0; PASSWORD_LEN],
            read_only,
        }
    }

    /// Reads the body of the first frame that the server sends.
    pub fn decode(frame: Bytes) -> Result<ConnectResponse, DecodeError> {
        let mut r = Reader::new(frame);
        r.i32()?;
        let timeout_ms = r.i32()?;
        let session_id = r.i64()?;
        let password = r.buffer()?.unwrap_or_default();
        let password = password.as_ref().try_into().map_err(|_| {
            // Lengths come from an i32, so this one fits.
            DecodeError::Unknown(password.len() as i32)
        })?;
        let read_only = match r.remaining() {
            0 => None,
            _ => Some(r.bool()?),
        };
        Ok(ConnectResponse {
            timeout_ms,
            session_id,
            password,
            read_only,
        })
    }

    /// Writes the frame's body.
    pub fn encode(&self, w: &mut Writer) {
        w.i32(0);
        w.i32(self.timeout_ms);
        w.i64(self.session_id);
        w.buffer(Some(&self.password));
        if let Some(read_only) = self.read_only {
            w.bool(read_only);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_request_with_and_without_read_only() {
        for read_only in [None, Some(false), Some(true)] {
            let request = ConnectRequest {
                protocol_version: 0,
                last_zxid_seen: 7,
                timeout_ms: 6000,
                session_id: 9,
                password: Bytes::from_static(&[1; 16]),
                read_only,
            };
            let mut w = Writer::new();
            request.encode(&mut w);
            assert_eq!(ConnectRequest::decode(w.take()), Ok(request));
        }
    }

    #[test]
    fn connect_response_with_and_without_read_only() {
        for read_only in [None, Some(false), Some(true)] {
            let response = ConnectResponse {
                timeout_ms: 6000,
                session_id: 9,
                password: [1; PASSWORD_LEN],
                read_only,
            };
            let mut w = Writer::new();
            response.encode(&mut w);
            assert_eq!(ConnectResponse::decode(w.take()), Ok(response));
        }
    }

    #[test]
    fn a_password_of_another_length_is_refused() {
        let mut w = Writer::new();
        w.i32(0);
        w.i32(0);
        w.i64(0);
        w.buffer(Some(&[1; 3]));
        assert_eq!(
            ConnectResponse::decode(w.take()),
            Err(DecodeError::Unknown(3))
        );
    }

    #[test]
    fn expired_response_is_all_zero() {
        let mut w = Writer::new();
        ConnectResponse::expired(None).encode(&mut w);
        let mut expected = vec![0; 36];
        expected[19] = 16;
        assert_eq!(w.take().as_ref(), expected);
    }
}
