//! What keys and values stand for.

use kafka_wire::record_batch::Record;

use super::output::Value;
use super::{groups, transactions};
use crate::options::{Options, UsageError};

/// Where Kafka has its decoders.
const PACKAGES: [&str; 2] = ["org.apache.kafka.tools.api.", "kafka.serializer."];

/// How one key or value is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Text,
    Int,
    Long,
}

impl Plain {
    fn of(options: &Options, name: &str) -> Result<Self, UsageError> {
        let Some(class) = options.value(name)? else {
            return Ok(Self::Text);
        };
        let simple = PACKAGES
            .iter()
            .find_map(|package| class.strip_prefix(package));
        match simple.unwrap_or(class) {
            "StringDecoder" => Ok(Self::Text),
            "IntegerDecoder" => Ok(Self::Int),
            "LongDecoder" => Ok(Self::Long),
            _ => Err(UsageError(format!(
                "There is no decoder {class}: StringDecoder, IntegerDecoder and LongDecoder are known"
            ))),
        }
    }

    /// Bytes of another length are shown as text.
    fn decode(self, bytes: &[u8]) -> Value {
        let number = match self {
            Self::Text => None,
            Self::Int => bytes.try_into().ok().map(i32::from_be_bytes).map(i64::from),
            Self::Long => bytes.try_into().ok().map(i64::from_be_bytes),
        };
        number.map_or_else(|| Value::Bytes(bytes.to_vec()), Value::Number)
    }
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoders {
    Plain { key: PlainKey, value: PlainValue },
    Offsets,
    Transactions,
}

/// See [`Decoders::Plain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainKey(Plain);

/// See [`Decoders::Plain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainValue(Plain);

impl Decoders {
    pub(crate) fn of(options: &Options) -> Result<Self, UsageError> {
        if options.has("offsets-decoder") {
            return Ok(Self::Offsets);
        }
        if options.has("transaction-log-decoder") {
            return Ok(Self::Transactions);
        }
        Ok(Self::Plain {
            key: PlainKey(Plain::of(options, "key-decoder-class")?),
            value: PlainValue(Plain::of(options, "value-decoder-class")?),
        })
    }

    /// Whether keys and values are the users' own.
    pub(crate) fn are_plain(&self) -> bool {
        matches!(self, Self::Plain { .. })
    }

    /// The key and the value of a record, as far as there is anything to print.
    pub(crate) fn decode(&self, record: &Record<'_>) -> (Option<Value>, Option<Value>) {
        match self {
            Self::Plain { key, value } => (
                record.key.map(|bytes| key.0.decode(bytes)),
                record.value.map(|bytes| value.0.decode(bytes)),
            ),
            Self::Offsets => groups::decode(record),
            Self::Transactions => transactions::decode(record),
        }
    }
}
