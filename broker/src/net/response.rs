//! Responses: bytes from memory, and ranges of files that never come to it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use log::FileRange;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The most that one call of `sendfile(2)` is asked for, so that one connection does not keep a
/// thread for long.
const SENDFILE_BYTES: usize = 1024 * 1024;

/// A part of a response.
#[derive(Debug)]
pub enum Piece {
    /// From memory.
    Bytes(Bytes),
    /// From a file, by `sendfile(2)`.
    File(FileRange),
}

/// A response, with its length and header.
#[derive(Debug, Default)]
pub struct Response {
    pieces: Vec<Piece>,
}

impl Response {
    /// A response whose gaps, in order, are filled by ranges of files. `chunks` has one element more
    /// than `ranges`.
    pub fn new(chunks: Vec<Bytes>, ranges: Vec<FileRange>) -> Response {
        debug_assert_eq!(chunks.len(), ranges.len() + 1);
        let mut pieces = Vec::with_capacity(chunks.len() + ranges.len());
        let mut ranges = ranges.into_iter();
        for chunk in chunks {
            if !chunk.is_empty() {
                pieces.push(Piece::Bytes(chunk));
            }
            pieces.extend(ranges.next().map(Piece::File));
        }
        Response { pieces }
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        let len = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File(range) => u64::from(range.len),
        };
        self.pieces.iter().map(len).sum()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The connection broke, the client took no byte for `patience`, or a file has become shorter than
    /// the range that was promised: the connection is of no use then.
    pub async fn write_to(self, socket: &TcpStream, patience: Duration) -> io::Result<()> {
        let mut pieces = self.pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            // Header and records leave in the same packets.
            let flags = if pieces.peek().is_some() {
                SendFlags::MORE
            } else {
                SendFlags::empty()
            };
            match piece {
                Piece::Bytes(bytes) => {
                    send(socket, &bytes, flags | SendFlags::NOSIGNAL, patience).await?
                }
                Piece::File(range) => send_file(socket, &range, patience).await?,
            }
        }
        Ok(())
    }
}

async fn send(
    socket: &TcpStream,
    mut bytes: &[u8],
    flags: SendFlags,
    patience: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = when_writable(socket, patience, || {
            Ok(rustix::net::send(socket, bytes, flags)?)
        })
        .await?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

async fn send_file(socket: &TcpStream, range: &FileRange, patience: Duration) -> io::Result<()> {
    let mut position = range.position;
    let end = position + u64::from(range.len);
    while position < end {
        let wanted = usize::try_from(end - position)
            .unwrap_or(SENDFILE_BYTES)
            .min(SENDFILE_BYTES);
        let sendfile = || {
            Ok(rustix::fs::sendfile(
                socket,
                &range.file,
                Some(&mut position),
                wanted,
            )?)
        };
        if when_writable(socket, patience, sendfile).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the log was truncated while it was sent",
            ));
        }
    }
    Ok(())
}

/// Tries, and where the socket is full, waits until it is not.
async fn when_writable(
    socket: &TcpStream,
    patience: Duration,
    mut write: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match socket.try_io(Interest::WRITABLE, &mut write) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let writable = tokio::time::timeout(patience, socket.writable()).await;
                writable.map_err(|_| {
                    io::Error::new(io::ErrorKind::TimedOut, "the client takes no more")
                })??;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
