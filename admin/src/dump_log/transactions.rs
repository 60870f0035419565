//! The records of `__transaction_state`, in the words of Kafka's tool.

use kafka_wire::DecodeError;
use kafka_wire::record_batch::Record;

use super::fields::Fields;
use super::output::Value;

/// By their numbers.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// The key and the value.
pub(crate) fn decode(record: &Record<'_>) -> (Option<Value>, Option<Value>) {
    let key = match record.key.map(transactional_id) {
        Some(Ok(id)) => format!("transaction_metadata::transactionalId={id}"),
        Some(Err(error)) => format!("Error at offset {}, skipping. {error}", record.offset),
        None => format!(
            "Error at offset {}, skipping. The key is missing",
            record.offset
        ),
    };
    let value = match record.value.map(metadata) {
        Some(Ok(metadata)) => metadata,
        Some(Err(error)) => format!("Error at offset {}, skipping. {error}", record.offset),
        None => "<DELETE>".to_owned(),
    };
    (Some(Value::Text(key)), Some(Value::Text(value)))
}

fn transactional_id(key: &[u8]) -> Result<String, DecodeError> {
    let (_, mut fields) = Fields::versioned(key)?;
    fields.string()
}

fn metadata(value: &[u8]) -> Result<String, DecodeError> {
    let (version, fields) = Fields::versioned(value)?;
    let mut fields = fields.flexible(version >= 1);
    let producer_id = fields.i64()?;
    let producer_epoch = fields.i16()?;
    let timeout_ms = fields.i32()?;
    let status = fields.i8()?;
    let state = usize::try_from(status)
        .ok()
        .and_then(|status| STATES.get(status))
        .map_or_else(|| status.to_string(), ToString::to_string);
    let of_topics = fields.array(|fields| {
        let topic = fields.string()?;
        let partitions = fields.array(|fields| Ok(format!("{topic}-{}", fields.i32()?)))?;
        fields.end()?;
        Ok(partitions)
    })?;
    let last_update_ms = fields.i64()?;
    Ok(format!(
        "producerId:{producer_id},producerEpoch:{producer_epoch},state={state},partitions=[{}],txnLastUpdateTimestamp={last_update_ms},txnTimeoutMs={timeout_ms}",
        of_topics.concat().join(",")
    ))
}
