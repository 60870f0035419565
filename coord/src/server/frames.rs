//! A client's frames, as they come from its socket.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use zookeeper_wire::frame_len;

use super::connection::ConnectionError;

/// Memory that a frame gets before any of it has arrived, in bytes: its length is only what a client claims.
const CLAIM_LEN: usize = 1024 * 1024;

/// What one read from the socket takes at most, in bytes, unless a frame is longer.
const READ_LEN: usize = 8 * 1024;

/// The length of a frame, before its bytes.
const PREFIX: usize = 4;

/// The xid and the op code.
const HEADER: usize = 8;

/// Takes frames apart.
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    max_len: usize,
}

/// How a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Its length, in bytes.
    pub(super) len: usize,
    /// The operation that it asks for; 0, which is none that is answered, if it is too short to say.
    pub(super) op_code: i32,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R, max_len: usize) -> Frames<R> {
        Frames {
            reader,
            buffer: BytesMut::new(),
            max_len,
        }
    }

    /// How the next frame begins; `None` at the end of the stream. Its body is not read yet, beyond what came along.
    pub(super) async fn head(&mut self) -> Result<Option<Head>, ConnectionError> {
        loop {
            if let Some(&prefix) = self.buffer.first_chunk::<PREFIX>() {
                let len = frame_len(prefix, self.max_len)?;
                if self.buffer.len() >= PREFIX + len.min(HEADER) {
                    let op_code = self.buffer.get(PREFIX + 4..PREFIX + HEADER);
                    let op_code = op_code.filter(|_| len >= HEADER);
                    let op_code = op_code.and_then(|bytes| bytes.try_into().ok());
                    let op_code = op_code.map_or(0, i32::from_be_bytes);
                    return Ok(Some(Head { len, op_code }));
                }
            }
            self.buffer.reserve(READ_LEN);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The frame that begins so; `None` if the stream ends in it. A client that leaves it unfinished for `timeout` holds
    /// memory that others wait for, and is an error. A small frame is copied: what of it the tree keeps must not hold the
    /// whole buffer, which is then used again.
    pub(super) async fn body(
        &mut self,
        head: Head,
        timeout: Duration,
    ) -> Result<Option<Bytes>, ConnectionError> {
        let end = PREFIX + head.len;
        if self.buffer.len() < end {
            let arrived = tokio::time::timeout(timeout, self.fill(end)).await;
            if !arrived.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))? {
                return Ok(None);
            }
        }
        if end < READ_LEN {
            let frame = Bytes::copy_from_slice(&self.buffer[PREFIX..end]);
            self.buffer.advance(end);
            return Ok(Some(frame));
        }
        Ok(Some(self.buffer.split_to(end).freeze().slice(PREFIX..)))
    }

    /// Reads until this much is there; whether it came.
    async fn fill(&mut self, end: usize) -> std::io::Result<bool> {
        while self.buffer.len() < end {
            let missing = end - self.buffer.len();
            self.buffer
                .reserve(missing.min(self.buffer.len().max(CLAIM_LEN)).max(READ_LEN));
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    async fn next<R: AsyncRead + Unpin>(
        frames: &mut Frames<R>,
    ) -> Result<Option<Bytes>, ConnectionError> {
        match frames.head().await? {
            Some(head) => frames.body(head, TIMEOUT).await,
            None => Ok(None),
        }
    }

    #[tokio::test]
    async fn a_length_that_is_only_claimed_gets_little_memory() {
        const CLAIMED: usize = 1 << 30;
        let sent = [&(CLAIMED as u32).to_be_bytes()[..], &[0; HEADER]].concat();
        let mut frames = Frames::new(&sent[..], CLAIMED);
        let head = frames.head().await.unwrap().unwrap();
        assert_eq!(head.len, CLAIMED);
        assert!(matches!(frames.body(head, TIMEOUT).await, Ok(None)));
        let capacity = frames.buffer.capacity();
        assert!(capacity < 2 * CLAIM_LEN, "{capacity}");
    }

    #[tokio::test]
    async fn a_frame_longer_than_what_is_claimed_at_once_arrives_whole() {
        let body: Vec<u8> = (0..5 * CLAIM_LEN).map(|at| at as u8).collect();
        let sent = [&(body.len() as u32).to_be_bytes()[..], &body, &[0, 0, 0, 0]].concat();
        let mut frames = Frames::new(&sent[..], body.len());
        assert!(next(&mut frames).await.unwrap().unwrap() == body);
        assert!(next(&mut frames).await.unwrap().unwrap().is_empty());
        assert!(next(&mut frames).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_head_says_what_is_asked_for_once_that_is_there() {
        let (client, server) = tokio::io::duplex(64);
        let mut frames = Frames::new(server, 100);
        let mut client = client;
        let sent = async {
            use tokio::io::AsyncWriteExt;
            for byte in [0, 0, 0, 9, 1, 1, 1, 1, 0, 0, 0, 4, 7, 0, 0, 0, 2, 0, 1] {
                client.write_all(&[byte]).await.unwrap();
            }
            drop(client);
        };
        let read = async {
            let head = frames.head().await.unwrap().unwrap();
            assert_eq!(head, Head { len: 9, op_code: 4 });
            let body = frames.body(head, TIMEOUT).await.unwrap().unwrap();
            assert_eq!(body[..], [1, 1, 1, 1, 0, 0, 0, 4, 7]);
            let head = frames.head().await.unwrap().unwrap();
            assert_eq!(head, Head { len: 2, op_code: 0 });
            let body = frames.body(head, TIMEOUT).await.unwrap().unwrap();
            assert_eq!(body[..], [0, 1]);
            assert!(frames.head().await.unwrap().is_none());
        };
        tokio::join!(sent, read);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_arrive_is_not_waited_for_for_ever() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut frames = Frames::new(server, 1024);
        tokio::io::AsyncWriteExt::write_all(&mut client, &[0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1])
            .await
            .unwrap();
        let head = frames.head().await.unwrap().unwrap();
        let late = frames.body(head, TIMEOUT).await.unwrap_err();
        assert!(
            matches!(late, ConnectionError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
        );
    }
}
