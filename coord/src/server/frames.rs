//! A client's frames, as they come from its socket.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use zookeeper_wire::frame_len;

use super::connection::ConnectionError;

/// A frame up to this length is read without asking for memory, in bytes: the bound of its connection does for it, so that
/// nobody's ping waits for the memory that others hold.
pub(super) const SMALL_LEN: usize = 64 * 1024;

/// Memory that a frame gets once as much as that has arrived, in bytes: its length is only what a client claims. More it gets
/// as it arrives, as much again each time.
pub(super) const CLAIM_LEN: usize = 1024 * 1024;

/// How long as much as [`CLAIM_LEN`] of a frame may take to arrive, once it has its memory. The session may last for minutes,
/// but others wait for that memory.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Reads the frame that begins so up to [`SMALL_LEN`]; `false` if the stream ends before. A client that leaves it
    /// unfinished for `timeout` is an error.
    pub(super) async fn begin(
        &mut self,
        head: Head,
        timeout: Duration,
    ) -> Result<bool, ConnectionError> {
        let end = (PREFIX + head.len).min(SMALL_LEN);
        Ok(self.buffer.len() >= end || in_time(timeout, self.fill(end)).await?)
    }

    /// Reads on while the rest of a frame has to wait for its memory; `false` at the end of the stream. It waits for ever
    /// once a client has sent its part.
    pub(super) async fn more(&mut self) -> Result<bool, ConnectionError> {
        if self.buffer.len() >= 2 * SMALL_LEN {
            return std::future::pending().await;
        }
        self.buffer.reserve(READ_LEN);
        Ok(self.reader.read_buf(&mut self.buffer).await? > 0)
    }

    /// The frame that begins so; `None` if the stream ends in it. Where it is longer than [`CLAIM_LEN`], `room` says whether
    /// there is memory for so many bytes more. A client that takes more than [`CLAIM_TIMEOUT`] for as much as [`CLAIM_LEN`]
    /// holds memory that others wait for, and is an error. A small frame is copied: what of it the tree keeps must not hold
    /// the whole buffer, which is then used again.
    pub(super) async fn body(
        &mut self,
        head: Head,
        mut room: impl FnMut(usize) -> bool,
    ) -> Result<Option<Bytes>, ConnectionError> {
        let end = PREFIX + head.len;
        let mut taken = end.min(CLAIM_LEN);
        loop {
            let missing = taken.saturating_sub(self.buffer.len());
            let timeout = CLAIM_TIMEOUT * missing.div_ceil(CLAIM_LEN) as u32;
            if missing > 0 && !in_time(timeout, self.fill(taken)).await? {
                return Ok(None);
            }
            if taken == end {
                break;
            }
            let more = taken.min(end - taken);
            if !room(more) {
                return Err(ConnectionError::NoMemory { len: head.len });
            }
            taken += more;
        }
        if end < READ_LEN {
            let frame = Bytes::copy_from_slice(&self.buffer[PREFIX..end]);
            self.buffer.advance(end);
            return Ok(Some(frame));
        }
        Ok(Some(self.buffer.split_to(end).freeze().slice(PREFIX..)))
    }

    /// Reads until this much is there; whether it came.
    async fn fill(&mut self, end: usize) -> Result<bool, ConnectionError> {
        while self.buffer.len() < end {
            let missing = end - self.buffer.len();
            self.buffer.reserve(missing.max(READ_LEN));
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn in_time(
    timeout: Duration,
    filled: impl Future<Output = Result<bool, ConnectionError>>,
) -> Result<bool, ConnectionError> {
    let filled = tokio::time::timeout(timeout, filled).await;
    filled.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    async fn next<R: AsyncRead + Unpin>(
        frames: &mut Frames<R>,
    ) -> Result<Option<Bytes>, ConnectionError> {
        match frames.head().await? {
            Some(head) => frames.body(head, |_| true).await,
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
        assert!(matches!(frames.body(head, |_| true).await, Ok(None)));
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
    async fn memory_is_asked_for_as_a_frame_arrives() {
        const LEN: usize = 5 * CLAIM_LEN;
        for (arrives, allowed, steps) in [
            (CLAIM_LEN / 2, true, vec![]),
            (CLAIM_LEN, true, vec![CLAIM_LEN]),
            (
                LEN,
                true,
                vec![CLAIM_LEN, 2 * CLAIM_LEN, CLAIM_LEN + PREFIX],
            ),
            (LEN, false, vec![CLAIM_LEN]),
        ] {
            let sent = [&(LEN as u32).to_be_bytes()[..], &vec![0; arrives]].concat();
            let mut frames = Frames::new(&sent[..], LEN);
            let head = frames.head().await.unwrap().unwrap();
            assert!(frames.begin(head, TIMEOUT).await.unwrap());
            assert!(frames.buffer.capacity() <= 2 * SMALL_LEN);
            let mut asked = Vec::new();
            let room = |more| {
                asked.push(more);
                allowed
            };
            let body = frames.body(head, room).await;
            assert_eq!(asked, steps, "{arrives} {allowed}");
            match allowed {
                true => assert_eq!(body.unwrap().is_some(), arrives == LEN),
                false => assert!(matches!(body, Err(ConnectionError::NoMemory { len: LEN }))),
            }
        }
    }

    #[tokio::test]
    async fn who_waits_for_memory_is_read_so_far() {
        let sent = vec![0; 10 * SMALL_LEN];
        let mut frames = Frames::new(&sent[..], 1024);
        while frames.buffer.len() < 2 * SMALL_LEN {
            assert!(frames.more().await.unwrap());
        }
        assert!(frames.buffer.len() < 3 * SMALL_LEN);
        tokio::select! {
            biased;
            _ = frames.more() => panic!("it is read on"),
            () = std::future::ready(()) => {}
        }
        let mut ended = Frames::new(&[][..], 1024);
        assert!(!ended.more().await.unwrap());
    }

    #[tokio::test]
    async fn a_head_says_what_is_asked_for_once_that_is_there() {
        let (client, server) = tokio::io::duplex(64);
        let mut frames = Frames::new(server, 100);
        let mut client = client;
        let sent = async {
            for byte in [0, 0, 0, 9, 1, 1, 1, 1, 0, 0, 0, 4, 7, 0, 0, 0, 2, 0, 1] {
                client.write_all(&[byte]).await.unwrap();
            }
            drop(client);
        };
        let read = async {
            let head = frames.head().await.unwrap().unwrap();
            assert_eq!(head, Head { len: 9, op_code: 4 });
            let body = frames.body(head, |_| true).await.unwrap().unwrap();
            assert_eq!(body[..], [1, 1, 1, 1, 0, 0, 0, 4, 7]);
            let head = frames.head().await.unwrap().unwrap();
            assert_eq!(head, Head { len: 2, op_code: 0 });
            let body = frames.body(head, |_| true).await.unwrap().unwrap();
            assert_eq!(body[..], [0, 1]);
            assert!(frames.head().await.unwrap().is_none());
        };
        tokio::join!(sent, read);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_with_memory_is_not_waited_for_for_long() {
        // Of a frame of two and a half claims, this much comes; so long it may take for the rest of what it has memory for.
        for (arrives, claims) in [(0, 1), (CLAIM_LEN - 1, 1), (2 * CLAIM_LEN, 1)] {
            let len = 2 * CLAIM_LEN + CLAIM_LEN / 2;
            let (mut client, server) = tokio::io::duplex(4 * CLAIM_LEN);
            let mut frames = Frames::new(server, len);
            let sent = [
                &(len as u32).to_be_bytes()[..],
                &vec![0; arrives.max(HEADER)],
            ]
            .concat();
            client.write_all(&sent).await.unwrap();
            let head = frames.head().await.unwrap().unwrap();
            let since = tokio::time::Instant::now();
            let late = frames.body(head, |_| true).await.unwrap_err();
            assert!(
                matches!(late, ConnectionError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
            );
            let bound = CLAIM_TIMEOUT * claims + Duration::from_millis(10);
            assert!(since.elapsed() <= bound, "{arrives}: {:?}", since.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_frame_has_the_time_for_each_part() {
        const LEN: usize = 8 * CLAIM_LEN;
        let (mut client, server) = tokio::io::duplex(CLAIM_LEN);
        let mut frames = Frames::new(server, LEN);
        let sent = async {
            client.write_all(&(LEN as u32).to_be_bytes()).await.unwrap();
            for _ in 0..8 {
                client.write_all(&[0; CLAIM_LEN]).await.unwrap();
                tokio::time::sleep(CLAIM_TIMEOUT * 9 / 10).await;
            }
        };
        let (frame, ()) = tokio::join!(next(&mut frames), sent);
        assert_eq!(frame.unwrap().unwrap().len(), LEN);
    }
}
