//! How a message looks: the fields and separators of Kafka's default formatter.

use std::collections::BTreeMap;
use std::io::{self, Write};

use kafka_wire::record_batch::{Record, TimestampType};

use crate::options::UsageError;

/// A record with what its batch says of it.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Its partition.
    pub(crate) partition: i32,
    /// Whose time it bears.
    pub(crate) timestamp_type: TimestampType,
    /// The epoch of the leader that appended it.
    pub(crate) leader_epoch: i32,
    /// The record.
    pub(crate) record: &'a Record<'a>,
}

/// How bytes become text, by the names of Java's deserializers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deserializer {
    Bytes,
    Short,
    Integer,
    Long,
    Float,
    Double,
}

/// A field that its deserializer can not read, or output that nobody takes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    /// The field has not the size of its type.
    #[error("Size of data received by {name} is not {expected}")]
    Size {
        /// The deserializer.
        name: &'static str,
        /// The size it reads.
        expected: usize,
    },
    /// Standard output is gone.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Writes messages.
#[derive(Debug, Clone)]
pub(crate) struct Formatter {
    /// Nothing is written at all (Kafka's `NoOpMessageFormatter`).
    silent: bool,
    timestamp: bool,
    partition: bool,
    offset: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
    key_deserializer: Deserializer,
    value_deserializer: Deserializer,
    headers_deserializer: Deserializer,
}

impl Formatter {
    /// Reads the properties of Kafka's default formatter; `class` may name it or the one that prints nothing.
    ///
    /// # Errors
    /// If the class, or a deserializer's, is not one of those that are known here.
    pub(crate) fn new(
        class: Option<&str>,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, UsageError> {
        let silent = match class.map(|class| class.rsplit('.').next().unwrap_or(class)) {
            None | Some("DefaultMessageFormatter") => false,
            Some("NoOpMessageFormatter") => true,
            Some(other) => {
                return Err(UsageError(format!(
                    "Unknown formatter {other}: DefaultMessageFormatter and NoOpMessageFormatter are known"
                )));
            }
        };
        let is_set = |key: &str, default: bool| {
            properties
                .get(key)
                .map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
        };
        let text = |key: &str, default: &str| {
            properties
                .get(key)
                .map_or(default, String::as_str)
                .to_owned()
        };
        let deserializer = |key: &str| {
            properties
                .get(key)
                .map_or(Ok(Deserializer::Bytes), |name| deserializer(name))
        };
        Ok(Self {
            silent,
            timestamp: is_set("print.timestamp", false),
            partition: is_set("print.partition", false),
            offset: is_set("print.offset", false),
            epoch: is_set("print.epoch", false),
            headers: is_set("print.headers", false),
            key: is_set("print.key", false),
            value: is_set("print.value", true),
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null_literal: text("null.literal", "null"),
            key_deserializer: deserializer("key.deserializer")?,
            value_deserializer: deserializer("value.deserializer")?,
            headers_deserializer: deserializer("headers.deserializer")?,
        })
    }

    /// Writes one message: its fields, separated, and the end of the line behind the last.
    ///
    /// # Errors
    /// If a field can not be read as its type, or the output is gone. Of a field that can not be read nothing is
    /// written, nor of the message.
    pub(crate) fn write(
        &self,
        message: &Message<'_>,
        output: &mut impl Write,
    ) -> Result<(), FormatError> {
        if self.silent {
            return Ok(());
        }
        let record = message.record;
        let mut line: Vec<u8> = Vec::new();
        let mut fields = 0;
        let mut begin = |line: &mut Vec<u8>| {
            if fields > 0 {
                line.extend_from_slice(self.key_separator.as_bytes());
            }
            fields += 1;
        };
        if self.timestamp {
            begin(&mut line);
            let text = match message.timestamp_type {
                _ if record.timestamp < 0 => "NO_TIMESTAMP".to_owned(),
                TimestampType::CreateTime => format!("CreateTime:{}", record.timestamp),
                TimestampType::LogAppendTime => format!("LogAppendTime:{}", record.timestamp),
            };
            line.extend_from_slice(text.as_bytes());
        }
        if self.partition {
            begin(&mut line);
            line.extend_from_slice(format!("Partition:{}", message.partition).as_bytes());
        }
        if self.offset {
            begin(&mut line);
            line.extend_from_slice(format!("Offset:{}", record.offset).as_bytes());
        }
        if self.epoch {
            begin(&mut line);
            let text = match message.leader_epoch {
                ..0 => "Epoch:NOT_PRESENT".to_owned(),
                epoch => format!("Epoch:{epoch}"),
            };
            line.extend_from_slice(text.as_bytes());
        }
        if self.headers {
            begin(&mut line);
            if record.headers.is_empty() {
                line.extend_from_slice(b"NO_HEADERS");
            }
            for (place, header) in record.headers.iter().enumerate() {
                if place > 0 {
                    line.extend_from_slice(self.headers_separator.as_bytes());
                }
                line.extend_from_slice(header.key);
                line.push(b':');
                self.field(self.headers_deserializer, header.value, &mut line)?;
            }
        }
        if self.key {
            begin(&mut line);
            self.field(self.key_deserializer, record.key, &mut line)?;
        }
        if self.value {
            begin(&mut line);
            self.field(self.value_deserializer, record.value, &mut line)?;
        }
        if fields > 0 {
            line.extend_from_slice(self.line_separator.as_bytes());
        }
        Ok(output.write_all(&line)?)
    }

    fn field(
        &self,
        how: Deserializer,
        bytes: Option<&[u8]>,
        line: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let Some(bytes) = bytes else {
            line.extend_from_slice(self.null_literal.as_bytes());
            return Ok(());
        };
        let text = match how {
            Deserializer::Bytes => {
                line.extend_from_slice(bytes);
                return Ok(());
            }
            Deserializer::Short => {
                i16::from_be_bytes(sized(bytes, "ShortDeserializer")?).to_string()
            }
            Deserializer::Integer => {
                i32::from_be_bytes(sized(bytes, "IntegerDeserializer")?).to_string()
            }
            Deserializer::Long => i64::from_be_bytes(sized(bytes, "LongDeserializer")?).to_string(),
            Deserializer::Float => format!(
                "{:?}",
                f32::from_be_bytes(sized(bytes, "FloatDeserializer")?)
            ),
            Deserializer::Double => format!(
                "{:?}",
                f64::from_be_bytes(sized(bytes, "DoubleDeserializer")?)
            ),
        };
        line.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn sized<const N: usize>(bytes: &[u8], name: &'static str) -> Result<[u8; N], FormatError> {
    bytes
        .try_into()
        .map_err(|_| FormatError::Size { name, expected: N })
}

fn deserializer(name: &str) -> Result<Deserializer, UsageError> {
    match name.trim().rsplit('.').next().unwrap_or_default() {
        "StringDeserializer" | "ByteArrayDeserializer" | "BytesDeserializer" => {
            Ok(Deserializer::Bytes)
        }
        "ShortDeserializer" => Ok(Deserializer::Short),
        "IntegerDeserializer" => Ok(Deserializer::Integer),
        "LongDeserializer" => Ok(Deserializer::Long),
        "FloatDeserializer" => Ok(Deserializer::Float),
        "DoubleDeserializer" => Ok(Deserializer::Double),
        other => Err(UsageError(format!(
            "Unknown deserializer {other}: String, Short, Integer, Long, Float and Double are known"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::record_batch::RecordHeader;

    fn formatted(properties: &[(&str, &str)], record: &Record<'_>) -> String {
        let properties = properties
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let message = Message {
            partition: 2,
            timestamp_type: TimestampType::CreateTime,
            leader_epoch: 4,
            record,
        };
        let mut output = Vec::new();
        match Formatter::new(None, &properties).map_err(|error| error.0) {
            Err(error) => error,
            Ok(formatter) => match formatter.write(&message, &mut output) {
                Err(error) => error.to_string(),
                Ok(()) => String::from_utf8(output).unwrap(),
            },
        }
    }

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
        Record {
            offset: 7,
            timestamp: 1000,
            key,
            value,
            headers: Vec::new(),
        }
    }

    const ALL: [(&str, &str); 6] = [
        ("print.timestamp", "true"),
        ("print.partition", "true"),
        ("print.offset", "true"),
        ("print.epoch", "true"),
        ("print.headers", "true"),
        ("print.key", "true"),
    ];

    #[test]
    fn a_value_is_a_line() {
        assert_eq!(formatted(&[], &record(None, Some(b"v"))), "v\n");
        assert_eq!(formatted(&[], &record(None, None)), "null\n");
    }

    #[test]
    fn all_fields_stand_in_kafkas_order() {
        assert_eq!(
            formatted(&ALL, &record(Some(b"k"), Some(b"v"))),
            "CreateTime:1000\tPartition:2\tOffset:7\tEpoch:4\tNO_HEADERS\tk\tv\n"
        );
        let headers = vec![
            RecordHeader {
                key: b"a",
                value: Some(b"1"),
            },
            RecordHeader {
                key: b"b",
                value: None,
            },
        ];
        let with_headers = Record {
            timestamp: -1,
            headers,
            ..record(None, Some(b"v"))
        };
        assert_eq!(
            formatted(&ALL, &with_headers),
            "NO_TIMESTAMP\tPartition:2\tOffset:7\tEpoch:4\ta:1,b:null\tnull\tv\n"
        );
    }

    #[test]
    fn separators_and_null_are_as_asked() {
        let properties = [
            ("print.key", "true"),
            ("key.separator", ":"),
            ("line.separator", ";"),
            ("null.literal", "-"),
            ("print.value", "true"),
        ];
        assert_eq!(formatted(&properties, &record(None, Some(b"v"))), "-:v;");
        assert_eq!(
            formatted(
                &[("print.key", "true"), ("print.value", "false")],
                &record(Some(b"k"), None)
            ),
            "k\n"
        );
    }

    #[test]
    fn numbers_are_read_by_javas_deserializers() {
        let long = [(
            "value.deserializer",
            "org.apache.kafka.common.serialization.LongDeserializer",
        )];
        assert_eq!(
            formatted(&long, &record(None, Some(&42_i64.to_be_bytes()))),
            "42\n"
        );
        assert_eq!(
            formatted(&long, &record(None, Some(b"1"))),
            "Size of data received by LongDeserializer is not 8"
        );
        assert!(
            formatted(&[("key.deserializer", "my.Own")], &record(None, None))
                .starts_with("Unknown deserializer Own")
        );
    }
}
