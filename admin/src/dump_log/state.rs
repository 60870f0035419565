//! The files beside the segments: transactions, producers, checkpoints.

use std::io::Write;
use std::path::Path;

use log::inspect::{self, InspectError};

use super::output::{Line, Output, Value};

pub(crate) fn dump_transaction_index(
    file: &Path,
    output: &mut Output<impl Write>,
) -> Result<(), InspectError> {
    for transaction in inspect::transaction_index(file)? {
        output.line(
            Line::new("abortedTransaction")
                .number("version", 0)
                .number("producerId", transaction.producer_id)
                .number("firstOffset", transaction.first_offset)
                .number("lastOffset", transaction.last_offset)
                .number("lastStableOffset", transaction.last_stable_offset),
        );
    }
    Ok(())
}

pub(crate) fn dump_snapshot(
    file: &Path,
    output: &mut Output<impl Write>,
) -> Result<(), InspectError> {
    for producer in inspect::producer_snapshot(file)? {
        let line = Line::new("producer")
            .number("producerId", producer.producer_id)
            .number("producerEpoch", producer.producer_epoch)
            .number("coordinatorEpoch", producer.coordinator_epoch)
            .field(
                "currentTxnFirstOffset",
                Value::Optional(producer.current_transaction_first_offset),
            )
            .number("lastTimestamp", producer.last_timestamp);
        output.line(match producer.last_batch {
            Some(batch) => line
                .number("firstSequence", batch.first_sequence)
                .number("lastSequence", batch.last_sequence)
                .number("lastOffset", batch.last_offset)
                .number("offsetDelta", batch.offset_delta)
                .number("timestamp", producer.last_timestamp),
            // Where Kafka goes on, it ends with a space.
            None => line.suffix(" "),
        });
    }
    Ok(())
}

pub(crate) fn dump_offset_checkpoint(
    file: &Path,
    output: &mut Output<impl Write>,
) -> Result<(), InspectError> {
    for (partition, offset) in inspect::offset_checkpoint(file)? {
        output.line(
            Line::new("checkpoint")
                .string("topic", partition.topic.to_string())
                .number("partition", partition.partition)
                .number("offset", offset),
        );
    }
    Ok(())
}

pub(crate) fn dump_epoch_checkpoint(
    file: &Path,
    output: &mut Output<impl Write>,
) -> Result<(), InspectError> {
    for entry in inspect::leader_epoch_checkpoint(file)? {
        output.line(
            Line::new("leaderEpoch")
                .number("epoch", entry.epoch)
                .number("startOffset", entry.start_offset),
        );
    }
    Ok(())
}
