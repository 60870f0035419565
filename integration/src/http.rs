use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(1);

/// The status code that `GET path` answers with: all that `/livez` and `/readyz` need.
///
/// # Errors
/// When nobody listens, or what answers is not HTTP.
pub fn http_status(address: SocketAddr, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("nobody listens on {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    // "HTTP/1.1 200": the status line's first twelve bytes are all that is read.
    let mut head = [0; 12];
    stream
        .read_exact(&mut head)
        .with_context(|| format!("{address} closed before it answered"))?;
    head.strip_prefix(b"HTTP/1.1 ")
        .and_then(|status| std::str::from_utf8(status).ok())
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("{address} does not speak HTTP"))
}
