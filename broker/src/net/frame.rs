//! Frames: four bytes of length, then so many bytes.

use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::OwnedSemaphorePermit;

use super::Limits;

/// So many bytes of a frame are read without asking the budget: many idle or slow clients together
/// hold no more than this each.
const SMALL_FRAME_BYTES: usize = 8 * 1024;
/// How long a client may take for a frame that it has begun, and for each [`SLOWEST_BYTES`] of it.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
const SLOWEST_BYTES: usize = 1024 * 1024;
/// The budget counts in units of so many bytes, since a semaphore holds no more than `usize::MAX >> 3`
/// permits and takes no more than `u32::MAX` at once.
pub(super) const BUDGET_UNIT_BYTES: usize = 1024;

/// Why no frame can be read from a connection any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client closed it within a frame.
    #[error("the connection ended within a frame")]
    Cut,
    /// The length is none that a frame can have.
    #[error("a frame of {length} bytes, of 1 to {max} that it may have (socket.request.max.bytes)")]
    Length {
        /// As announced.
        length: i32,
        /// `socket.request.max.bytes`.
        max: usize,
    },
    /// The rest of a frame did not come.
    #[error("a frame of {length} bytes did not arrive in {} s", timeout.as_secs())]
    Slow {
        /// As announced.
        length: usize,
        /// How long it was waited for.
        timeout: Duration,
    },
}

/// A frame without its length, and its share of the budget.
#[derive(Debug)]
pub struct Frame {
    /// The only handle to its memory, unless the client had sent more behind it.
    pub bytes: BytesMut,
    /// Given back when the request is done with its bytes.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Reads the frames of one connection.
#[derive(Debug)]
pub struct FrameReader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    limits: Limits,
}

impl FrameReader {
    /// Reads from this socket within these limits.
    pub fn new(socket: OwnedReadHalf, limits: Limits) -> FrameReader {
        FrameReader {
            socket,
            buffer: BytesMut::new(),
            limits,
        }
    }

    /// Waits until the client has begun a frame; false if it has closed the connection instead. May be
    /// dropped and called again.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn begun(&mut self) -> Result<bool, FrameError> {
        if !self.buffer.is_empty() {
            return Ok(true);
        }
        // No memory for a connection that says nothing.
        loop {
            self.socket.readable().await?;
            self.buffer.reserve(SMALL_FRAME_BYTES);
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffer = BytesMut::new()
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// Anything but a whole frame of a length that is allowed, in time.
    pub async fn next(&mut self) -> Result<Frame, FrameError> {
        self.fill_in_time(4, FRAME_TIMEOUT).await?;
        let announced = i32::from_be_bytes(
            self.buffer
                .split_to(4)
                .as_ref()
                .try_into()
                .unwrap_or_default(),
        );
        let max = self.limits.request_max_bytes;
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| (1..=max).contains(length));
        let length = length.ok_or(FrameError::Length {
            length: announced,
            max,
        })?;
        let permit = if length > SMALL_FRAME_BYTES {
            // Announcing alone holds nothing of the budget.
            self.fill_in_time(SMALL_FRAME_BYTES, FRAME_TIMEOUT).await?;
            Some(self.budget(length).await)
        } else {
            None
        };
        let timeout = FRAME_TIMEOUT + Duration::from_secs((length / SLOWEST_BYTES) as u64);
        self.fill_in_time(length, timeout).await?;
        let bytes = if self.buffer.len() == length {
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(length)
        };
        Ok(Frame { bytes, permit })
    }

    /// Waits for memory, first come first served, so that a large frame is not starved by smaller ones.
    async fn budget(&self, length: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(length.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        match self.limits.memory.clone().acquire_many_owned(units).await {
            Ok(permit) => permit,
            Err(_) => unreachable!("the budget is never closed"),
        }
    }

    async fn fill_in_time(&mut self, length: usize, timeout: Duration) -> Result<(), FrameError> {
        tokio::time::timeout(timeout, self.fill(length))
            .await
            .map_err(|_| FrameError::Slow { length, timeout })?
    }

    async fn fill(&mut self, length: usize) -> Result<(), FrameError> {
        // The system gives memory to pages when they are written to, so a length that is announced
        // and does not come costs addresses only, and even those out of the budget.
        self.buffer
            .reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            let wanted = length - self.buffer.len();
            // Past the end of a frame nothing is read, so that its memory stays its own.
            match self
                .socket
                .try_read_buf(&mut (&mut self.buffer).limit(wanted))
            {
                Ok(0) => return Err(FrameError::Cut),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.readable().await?
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
