//! From lines to records: headers, key and value, by the separators that Kafka's line reader knows.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::options::UsageError;
use crate::producer::ProducerRecord;

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// A separator is missing.
    #[error("No {what} found on line number {line}: '{text}'")]
    NoSeparator {
        /// Which separator.
        what: &'static str,
        /// The number of the line, from 1.
        line: u64,
        /// The line.
        text: String,
    },
    /// A header without the separator between its key and its value.
    #[error("No header key separator found in pair '{pair}' on line number {line}")]
    NoHeaderKey {
        /// The header.
        pair: String,
        /// The number of the line, from 1.
        line: u64,
    },
    /// A header's key equals the marker of null, which a key can not be.
    #[error("Header keys should not be equal to the null marker '{marker}' as they can't be null")]
    NullHeaderKey {
        /// The marker.
        marker: String,
    },
    /// A line larger than any record may be. The rest of it has been read and dropped.
    #[error(
        "Line {line} was not sent: it is longer than {max_bytes} bytes, the largest record that is sent (max.request.size)"
    )]
    TooLong {
        /// The number of the line, from 1.
        line: u64,
        /// What is allowed.
        max_bytes: usize,
    },
    /// Standard input can not be read.
    #[error("Standard input can not be read after line {line}: {source}")]
    Unreadable {
        /// The last line that was read.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
}

/// How a line is taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineFormat {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    null_marker: Option<String>,
    ignore_error: bool,
}

impl LineFormat {
    /// Reads the properties of Kafka's line reader.
    ///
    /// # Errors
    /// If two separators that must differ are equal, or one is empty.
    pub(super) fn new(properties: &BTreeMap<String, String>) -> Result<Self, UsageError> {
        let is_set = |key: &str| {
            properties
                .get(key)
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
        };
        let text = |key: &str, default: &str| {
            properties
                .get(key)
                .map_or(default, String::as_str)
                .to_owned()
        };
        let format = Self {
            parse_key: is_set("parse.key"),
            key_separator: text("key.separator", "\t"),
            parse_headers: is_set("parse.headers"),
            headers_delimiter: text("headers.delimiter", "\t"),
            headers_separator: text("headers.separator", ","),
            headers_key_separator: text("headers.key.separator", ":"),
            null_marker: properties.get("null.marker").cloned(),
            ignore_error: is_set("ignore.error"),
        };
        let separators = [
            ("key.separator", &format.key_separator),
            ("headers.delimiter", &format.headers_delimiter),
            ("headers.separator", &format.headers_separator),
            ("headers.key.separator", &format.headers_key_separator),
        ];
        if let Some((name, _)) = separators
            .iter()
            .find(|(_, separator)| separator.is_empty())
        {
            return Err(UsageError(format!("{name} may not be empty")));
        }
        for (place, (name, separator)) in separators.iter().enumerate().skip(1) {
            if let Some((other, _)) = separators[place + 1..]
                .iter()
                .find(|(_, other)| other == separator)
            {
                return Err(UsageError(format!("{name} and {other} may not be equal")));
            }
        }
        match separators
            .iter()
            .find(|(_, separator)| format.null_marker.as_ref() == Some(separator))
        {
            Some((name, _)) => Err(UsageError(format!(
                "null.marker and {name} may not be equal"
            ))),
            None => Ok(format),
        }
    }

    /// Takes a line apart.
    fn record(
        &self,
        number: u64,
        text: Bytes,
        timestamp: i64,
    ) -> Result<ProducerRecord, LineError> {
        let mut rest = text.clone();
        let mut part = |wanted: bool, separator: &str, what: &'static str| {
            if !wanted {
                return Ok(None);
            }
            match find(&rest, separator.as_bytes()) {
                Some(at) => {
                    let part = rest.split_to(at);
                    let _ = rest.split_to(separator.len());
                    Ok(Some(part))
                }
                None if self.ignore_error => Ok(None),
                None => Err(LineError::NoSeparator {
                    what,
                    line: number,
                    text: shown(&text),
                }),
            }
        };
        let headers = part(
            self.parse_headers,
            &self.headers_delimiter,
            "headers delimiter",
        )?;
        let key = part(self.parse_key, &self.key_separator, "key separator")?;
        let headers = match headers.and_then(|headers| self.unless_null(headers)) {
            Some(headers) => self.headers(number, headers)?,
            None => Vec::new(),
        };
        Ok(ProducerRecord {
            line: number,
            timestamp,
            key: key.and_then(|key| self.unless_null(key)),
            value: self.unless_null(rest),
            headers,
        })
    }

    fn headers(
        &self,
        number: u64,
        mut text: Bytes,
    ) -> Result<Vec<(Bytes, Option<Bytes>)>, LineError> {
        let mut headers = Vec::new();
        loop {
            let end = find(&text, self.headers_separator.as_bytes());
            let pair = text.split_to(end.unwrap_or(text.len()));
            match find(&pair, self.headers_key_separator.as_bytes()) {
                Some(at) => {
                    let key = pair.slice(..at);
                    if let Some(marker) = self
                        .null_marker
                        .as_ref()
                        .filter(|marker| key == marker.as_bytes())
                    {
                        return Err(LineError::NullHeaderKey {
                            marker: marker.clone(),
                        });
                    }
                    headers.push((
                        key,
                        self.unless_null(pair.slice(at + self.headers_key_separator.len()..)),
                    ));
                }
                None if self.ignore_error => headers.push((pair, None)),
                None => {
                    return Err(LineError::NoHeaderKey {
                        pair: shown(&pair),
                        line: number,
                    });
                }
            }
            if end.is_none() {
                return Ok(headers);
            }
            let _ = text.split_to(self.headers_separator.len());
        }
    }

    fn unless_null(&self, field: Bytes) -> Option<Bytes> {
        let is_null = self
            .null_marker
            .as_ref()
            .is_some_and(|marker| field == marker.as_bytes());
        (!is_null).then_some(field)
    }
}

fn find(text: &[u8], separator: &[u8]) -> Option<usize> {
    text.windows(separator.len())
        .position(|window| window == separator)
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Reads records from lines, one by one, whatever the length of the input.
pub(super) struct LineReader<R> {
    input: R,
    format: LineFormat,
    max_line_bytes: usize,
    line: u64,
}

impl<R: BufRead> LineReader<R> {
    pub(super) fn new(input: R, format: LineFormat, max_line_bytes: usize) -> Self {
        Self {
            input,
            format,
            max_line_bytes,
            line: 0,
        }
    }

    /// The next line without its end; `None` at the end of the input.
    fn read_line(&mut self) -> Option<Result<Bytes, LineError>> {
        let unreadable = |line: u64| move |source| LineError::Unreadable { line, source };
        let mut text = Vec::new();
        let limit = self.max_line_bytes as u64 + 2;
        match self.input.by_ref().take(limit).read_until(b'\n', &mut text) {
            Err(source) => return Some(Err(unreadable(self.line)(source))),
            Ok(0) => return None,
            Ok(_) => {}
        }
        self.line += 1;
        let ended = text.pop_if(|byte| *byte == b'\n').is_some();
        let _ = text.pop_if(|byte| ended && *byte == b'\r');
        if text.len() <= self.max_line_bytes {
            return Some(Ok(Bytes::from(text)));
        }
        if !ended && let Err(source) = self.input.skip_until(b'\n') {
            return Some(Err(unreadable(self.line)(source)));
        }
        Some(Err(LineError::TooLong {
            line: self.line,
            max_bytes: self.max_line_bytes,
        }))
    }
}

impl<R: BufRead> Iterator for LineReader<R> {
    type Item = Result<ProducerRecord, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.read_line()?;
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let timestamp = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Some(text.and_then(|text| self.format.record(self.line, text, timestamp)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(properties: &[(&str, &str)]) -> Result<LineFormat, String> {
        let properties = properties
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        LineFormat::new(&properties).map_err(|error| error.0)
    }

    /// The records of a text as `headers|key|value`, null as `-`.
    fn read(properties: &[(&str, &str)], text: &str) -> Vec<String> {
        let field = |field: &Option<Bytes>| field.as_deref().map_or("-".to_owned(), shown);
        LineReader::new(text.as_bytes(), format(properties).unwrap(), 20)
            .map(|record| match record {
                Err(error) => error.to_string(),
                Ok(record) => {
                    let headers: Vec<String> = record
                        .headers
                        .iter()
                        .map(|(key, value)| format!("{}:{}", shown(key), field(value)))
                        .collect();
                    format!(
                        "{}|{}|{}",
                        headers.join(","),
                        field(&record.key),
                        field(&record.value)
                    )
                }
            })
            .collect()
    }

    #[test]
    fn a_line_is_a_value() {
        assert_eq!(
            read(&[], "a\tb\n\r\n\nlast"),
            ["|-|a\tb", "|-|", "|-|", "|-|last"]
        );
        assert!(read(&[], "").is_empty());
    }

    #[test]
    fn the_seeds_keyed_lines() {
        let properties = [("parse.key", "true"), ("key.separator", ":")];
        assert_eq!(
            read(&properties, "1:test message\n2:a:b\n"),
            ["|1|test message", "|2|a:b"]
        );
        assert_eq!(
            read(&properties, "no key"),
            ["No key separator found on line number 1: 'no key'"]
        );
    }

    #[test]
    fn headers_go_before_the_key() {
        let both = [("parse.headers", "true"), ("parse.key", "TRUE")];
        assert_eq!(read(&both, "h1:v1,h2:v2\tk\tv"), ["h1:v1,h2:v2|k|v"]);
        assert_eq!(
            read(&both, "h1\tk\tv"),
            ["No header key separator found in pair 'h1' on line number 1"]
        );
        assert_eq!(
            read(&both, "h:v"),
            ["No headers delimiter found on line number 1: 'h:v'"]
        );
    }

    #[test]
    fn the_marker_stands_for_null() {
        let properties = [
            ("parse.headers", "true"),
            ("parse.key", "true"),
            ("null.marker", "NULL"),
        ];
        assert_eq!(read(&properties, "NULL\tNULL\tNULL"), ["|-|-"]);
        assert_eq!(read(&properties, "h:NULL\tk\tv"), ["h:-|k|v"]);
        assert!(read(&properties, "NULL:v\tk\tv")[0].contains("can't be null"));
    }

    #[test]
    fn errors_may_be_ignored() {
        let properties = [
            ("parse.headers", "true"),
            ("parse.key", "true"),
            ("ignore.error", "true"),
        ];
        assert_eq!(read(&properties, "v"), ["|-|v"]);
        assert_eq!(read(&properties, "h\tk\tv"), ["h:-|k|v"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_the_next_is_read() {
        let long = "x".repeat(60);
        let text = format!("{}\n{long}\nshort", "y".repeat(20));
        let read = read(&[], &text);
        assert_eq!(read[0], format!("|-|{}", "y".repeat(20)));
        assert!(read[1].starts_with("Line 2 was not sent: it is longer than 20 bytes"));
        assert_eq!(read[2], "|-|short");
    }

    #[test]
    fn separators_must_differ() {
        assert_eq!(
            format(&[("headers.separator", ":")]).unwrap_err(),
            "headers.separator and headers.key.separator may not be equal"
        );
        assert_eq!(
            format(&[("null.marker", "\t")]).unwrap_err(),
            "null.marker and key.separator may not be equal"
        );
        assert_eq!(
            format(&[("key.separator", "")]).unwrap_err(),
            "key.separator may not be empty"
        );
        assert!(
            format(&[]).is_ok(),
            "key.separator and headers.delimiter may be equal"
        );
    }
}
