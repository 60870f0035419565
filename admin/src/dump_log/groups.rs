//! The records of `__consumer_offsets`, as the JSON that Kafka's tool makes of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kafka_wire::DecodeError;
use kafka_wire::record_batch::Record;

use super::fields::{Fields, list, nullable, object, text};
use super::output::Value;

/// The protocol type of consumers, whose subscriptions and assignments are understood.
const CONSUMER: &str = "consumer";

/// Why a record says nothing.
#[derive(Debug, thiserror::Error)]
enum GroupRecordError {
    #[error("Unknown record type {0}")]
    UnknownType(i16),
    #[error("Unknown value version {0}")]
    UnknownVersion(i16),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The JSON of a value of that version.
type ReadValue = fn(i16, Fields) -> Result<String, GroupRecordError>;

/// The key and the value.
pub(crate) fn decode(record: &Record<'_>) -> (Option<Value>, Option<Value>) {
    let offset = record.offset;
    let Some(key) = record.key else {
        let missing = format!("Error at offset {offset}, skipping. The key is missing");
        return (Some(Value::Text(missing)), None);
    };
    match decode_pair(key, record.value) {
        Ok((key, Some(value))) => (Some(Value::Json(key)), Some(Value::Json(value))),
        Ok((key, None)) => (
            Some(Value::Json(key)),
            Some(Value::Text("<DELETE>".to_owned())),
        ),
        Err(error @ GroupRecordError::UnknownType(_)) => {
            let skipped = format!("{error} at offset {offset}, skipping.");
            (Some(Value::Text(skipped)), None)
        }
        Err(error) => {
            let skipped = format!("Error at offset {offset}, skipping. {error}");
            (Some(Value::Text(skipped)), None)
        }
    }
}

fn decode_pair(
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(String, Option<String>), GroupRecordError> {
    let (kind, mut fields) = Fields::versioned(key)?;
    let (key, of_value): (String, ReadValue) = match kind {
        0 | 1 => {
            let group = text(&fields.string()?);
            let topic = text(&fields.string()?);
            let partition = fields.i32()?.to_string();
            let members = [("group", group), ("topic", topic), ("partition", partition)];
            (object(&members), offset_commit)
        }
        2 => (
            object(&[("group", text(&fields.string()?))]),
            group_metadata,
        ),
        other => return Err(GroupRecordError::UnknownType(other)),
    };
    let key = object(&[("type", text(&kind.to_string())), ("data", key)]);
    let Some(value) = value else {
        return Ok((key, None));
    };
    let (version, fields) = Fields::versioned(value)?;
    let data = of_value(version, fields)?;
    let value = object(&[("version", text(&version.to_string())), ("data", data)]);
    Ok((key, Some(value)))
}

fn offset_commit(version: i16, fields: Fields) -> Result<String, GroupRecordError> {
    if !(0..=4).contains(&version) {
        return Err(GroupRecordError::UnknownVersion(version));
    }
    let mut fields = fields.flexible(version >= 4);
    let mut members = vec![("offset", fields.i64()?.to_string())];
    if version >= 3 {
        members.push(("leaderEpoch", fields.i32()?.to_string()));
    }
    members.push(("metadata", text(&fields.string()?)));
    members.push(("commitTimestamp", fields.i64()?.to_string()));
    if version == 1 {
        members.push(("expireTimestamp", fields.i64()?.to_string()));
    }
    Ok(object(&members))
}

fn group_metadata(version: i16, fields: Fields) -> Result<String, GroupRecordError> {
    if !(0..=4).contains(&version) {
        return Err(GroupRecordError::UnknownVersion(version));
    }
    let mut fields = fields.flexible(version >= 4);
    let protocol_type = fields.string()?;
    let mut members = vec![
        ("protocolType", text(&protocol_type)),
        ("generation", fields.i32()?.to_string()),
        ("protocol", nullable(fields.nullable_string()?.as_deref())),
        ("leader", nullable(fields.nullable_string()?.as_deref())),
    ];
    if version >= 2 {
        members.push(("currentStateTimestamp", fields.i64()?.to_string()));
    }
    let is_consumer = protocol_type == CONSUMER;
    let of_group = fields.array(|fields| member(version, is_consumer, fields))?;
    members.push(("members", list(&of_group)));
    Ok(object(&members))
}

fn member(version: i16, is_consumer: bool, fields: &mut Fields) -> Result<String, DecodeError> {
    let mut members = vec![("memberId", text(&fields.string()?))];
    if version >= 3 {
        let instance = fields.nullable_string()?;
        members.push(("groupInstanceId", nullable(instance.as_deref())));
    }
    members.push(("clientId", text(&fields.string()?)));
    members.push(("clientHost", text(&fields.string()?)));
    if version >= 1 {
        members.push(("rebalanceTimeout", fields.i32()?.to_string()));
    }
    members.push(("sessionTimeout", fields.i32()?.to_string()));
    let subscription_bytes = fields.nullable_bytes()?.unwrap_or_default();
    let assignment_bytes = fields.nullable_bytes()?.unwrap_or_default();
    fields.end()?;
    let understood = |parse: fn(&[u8]) -> Result<String, DecodeError>, bytes: &Bytes| {
        let parsed = is_consumer.then(|| parse(bytes).ok()).flatten();
        parsed.unwrap_or_else(|| base64(bytes))
    };
    members.push((
        "subscription",
        understood(subscription, &subscription_bytes),
    ));
    members.push(("assignment", understood(assignment, &assignment_bytes)));
    Ok(object(&members))
}

fn base64(bytes: &[u8]) -> String {
    text(&STANDARD.encode(bytes))
}

fn user_data(fields: &mut Fields) -> Result<String, DecodeError> {
    let bytes = fields.nullable_bytes()?;
    Ok(bytes.map_or_else(|| "null".to_owned(), |bytes| base64(&bytes)))
}

fn topic_partitions(fields: &mut Fields) -> Result<String, DecodeError> {
    let topic = text(&fields.string()?);
    let partitions = fields.array(|fields| Ok(fields.i32()?.to_string()))?;
    Ok(object(&[
        ("topic", topic),
        ("partitions", list(&partitions)),
    ]))
}

/// What a consumer tells its group's leader.
fn subscription(bytes: &[u8]) -> Result<String, DecodeError> {
    let (version, mut fields) = Fields::versioned(bytes)?;
    let topics = fields.array(|fields| Ok(text(&fields.string()?)))?;
    let mut members = vec![
        ("topics", list(&topics)),
        ("userData", user_data(&mut fields)?),
    ];
    if version >= 1 {
        let owned = fields.array(topic_partitions)?;
        members.push(("ownedPartitions", list(&owned)));
    }
    if version >= 2 {
        members.push(("generationId", fields.i32()?.to_string()));
    }
    if version >= 3 {
        let rack = fields.nullable_string()?;
        members.push(("rackId", nullable(rack.as_deref())));
    }
    Ok(object(&members))
}

/// What it is told by its group's leader.
fn assignment(bytes: &[u8]) -> Result<String, DecodeError> {
    let (_, mut fields) = Fields::versioned(bytes)?;
    let assigned = fields.array(topic_partitions)?;
    let user_data = user_data(&mut fields)?;
    Ok(object(&[
        ("assignedPartitions", list(&assigned)),
        ("userData", user_data),
    ]))
}
