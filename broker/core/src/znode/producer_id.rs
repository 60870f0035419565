//! `/latest_producer_id_block`: the producer ids that were last given to a broker (KIP-730).

use serde::Deserialize;
use serde_json::json;

use super::{DecodeError, from_json, number_or_text, to_json};

/// The one node.
pub const PRODUCER_ID_BLOCK: &str = "/latest_producer_id_block";

/// How many ids are given at once.
const BLOCK_SIZE: i64 = 1000;

/// The value of the node: the block that was given last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ProducerIdBlock {
    /// Whose it is.
    #[serde(rename = "broker")]
    pub broker_id: i32,
    /// Its first id.
    #[serde(rename = "block_start", deserialize_with = "number_or_text")]
    pub first_producer_id: i64,
    /// Its last id.
    #[serde(rename = "block_end", deserialize_with = "number_or_text")]
    pub last_producer_id: i64,
}

/// All 2^63 producer ids were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no producer ids are left")]
pub struct ProducerIdsExhausted;

impl ProducerIdBlock {
    /// The block that follows `last`, for that broker.
    pub fn after(last: Option<Self>, broker_id: i32) -> Result<Self, ProducerIdsExhausted> {
        let first_producer_id = match last {
            Some(last) => last
                .last_producer_id
                .checked_add(1)
                .ok_or(ProducerIdsExhausted)?,
            None => 0,
        };
        let last_producer_id = first_producer_id
            .checked_add(BLOCK_SIZE - 1)
            .ok_or(ProducerIdsExhausted)?;
        Ok(Self {
            broker_id,
            first_producer_id,
            last_producer_id,
        })
    }

    /// How many ids it holds.
    pub fn count(&self) -> i32 {
        i32::try_from(
            self.last_producer_id
                .saturating_sub(self.first_producer_id)
                .saturating_add(1),
        )
        .unwrap_or(i32::MAX)
    }

    /// Its JSON, version 1.
    pub fn encode(&self) -> Vec<u8> {
        to_json(&json!({
            "version": 1,
            "broker": self.broker_id,
            "block_start": self.first_producer_id.to_string(),
            "block_end": self.last_producer_id.to_string(),
        }))
    }

    /// Reads the node; it is empty until the first block is given.
    pub fn decode(data: &[u8]) -> Result<Option<Self>, DecodeError> {
        if data.is_empty() {
            return Ok(None);
        }
        from_json(PRODUCER_ID_BLOCK, data).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn block_round_trips(broker_id in 0i32.., first_producer_id in 0i64.., last_producer_id in 0i64..) {
            let node = ProducerIdBlock { broker_id, first_producer_id, last_producer_id };
            prop_assert_eq!(ProducerIdBlock::decode(&node.encode()), Ok(Some(node)));
        }

        #[test]
        fn any_bytes_are_an_error_not_a_panic(data: Vec<u8>) {
            let _ = ProducerIdBlock::decode(&data);
        }
    }

    #[test]
    fn blocks_follow_each_other_and_end() {
        let first = ProducerIdBlock::after(None, 1).unwrap();
        assert_eq!(
            (
                first.first_producer_id,
                first.last_producer_id,
                first.count()
            ),
            (0, 999, 1000)
        );
        let second = ProducerIdBlock::after(Some(first), 2).unwrap();
        assert_eq!((second.first_producer_id, second.broker_id), (1000, 2));
        let last = ProducerIdBlock {
            last_producer_id: i64::MAX,
            ..second
        };
        assert_eq!(
            ProducerIdBlock::after(Some(last), 1),
            Err(ProducerIdsExhausted)
        );
    }
}
