use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(1);

/// What a coord, or Apache ZooKeeper, answers to a four-letter word.
///
/// # Errors
/// When nobody listens, or nothing is answered in time.
pub fn four_letter_word(address: SocketAddr, word: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("nobody listens on {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("{address} does not answer {word}"))?;
    Ok(answer)
}

/// One figure of such an answer whose lines are a name, blanks or `: `, and a value: `mntr` and `srvr` write them so.
///
/// # Errors
/// As [`four_letter_word`], and when the answer does not hold the figure.
pub fn four_letter_figure(address: SocketAddr, word: &str, name: &str) -> Result<String> {
    let answer = four_letter_word(address, word)?;
    let value = answer.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.strip_prefix(':').unwrap_or(rest);
        value
            .starts_with(char::is_whitespace)
            .then(|| value.trim().to_owned())
    });
    value.with_context(|| format!("{address} tells no {name}: {answer}"))
}
