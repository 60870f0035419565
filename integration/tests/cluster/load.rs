//! A producer that goes on while the cluster is hurt, and remembers what was acknowledged to it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use integration::await_true;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::reading::Read;

/// Records of which the producer awaits the fate at a time.
const OUTSTANDING: usize = 300;
const LIMIT: Duration = Duration::from_secs(60);

/// A record by where it was sent, and the how many-th it was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    pub(crate) partition: i32,
    pub(crate) sequence: usize,
}

impl Sent {
    /// What the record holds.
    pub(crate) fn value(self) -> String {
        format!("{}-{}", self.partition, self.sequence)
    }
}

/// A record that was acknowledged; librdkafka does not know the offset of one that a broker had already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) sent: Sent,
    pub(crate) offset: Option<i64>,
}

#[derive(Debug, Default)]
struct Fates {
    acknowledged: Mutex<Vec<Acknowledged>>,
    failed: Mutex<Vec<(Sent, KafkaError)>>,
    settled: AtomicUsize,
}

struct Witness(Arc<Fates>);

impl ClientContext for Witness {}

impl ProducerContext for Witness {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            Ok(message) => {
                let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                self.0.acknowledged.lock().unwrap().push(Acknowledged {
                    sent: *sent,
                    offset,
                });
            }
            Err((e, _)) => self.0.failed.lock().unwrap().push((*sent, e.clone())),
        }
        self.0.settled.fetch_add(1, Ordering::Release);
    }
}

/// A running load.
pub(crate) struct Load {
    fates: Arc<Fates>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Load {
    /// Begins to send to all `partitions` of `topic` in turn, with acks=all and what `settings` add.
    pub(crate) fn start(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<Load> {
        let fates = Arc::new(Fates::default());
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("acks", "all")
            .set("linger.ms", "1")
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "200")
            .set("retry.backoff.ms", "50")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("message.timeout.ms", LIMIT.as_millis().to_string());
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let producer: BaseProducer<Witness> =
            config.create_with_context(Witness(Arc::clone(&fates)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (topic, thread_fates, thread_stop) =
            (topic.to_owned(), Arc::clone(&fates), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            send_all(&producer, &topic, partitions, &thread_fates, &thread_stop)
        });
        Ok(Load {
            fates,
            stop,
            thread,
        })
    }

    /// Waits until `count` more records than now are acknowledged.
    pub(crate) fn await_more(&self, count: usize) -> Result<()> {
        let wanted = self.acknowledged() + count;
        await_true(&format!("{count} more acknowledgements"), LIMIT, || {
            let acknowledged = self.acknowledged();
            ensure!(acknowledged >= wanted, "{acknowledged} of {wanted}");
            Ok(true)
        })
    }

    fn acknowledged(&self) -> usize {
        self.fates.acknowledged.lock().unwrap().len()
    }

    /// Ends the load; returns what was acknowledged, in the order of the acknowledgements.
    pub(crate) fn finish(self) -> Result<Vec<Acknowledged>> {
        self.stop.store(true, Ordering::Release);
        self.thread
            .join()
            .map_err(|_| anyhow!("the load's thread panicked"))??;
        let failed = self.fates.failed.lock().unwrap();
        ensure!(
            failed.is_empty(),
            "{} records were refused for good, the first: {:?}",
            failed.len(),
            failed[0]
        );
        Ok(std::mem::take(
            &mut *self.fates.acknowledged.lock().unwrap(),
        ))
    }
}

fn send_all(
    producer: &BaseProducer<Witness>,
    topic: &str,
    partitions: i32,
    fates: &Fates,
    stop: &AtomicBool,
) -> Result<()> {
    let mut sent = 0;
    for sequence in 0.. {
        for partition in 0..partitions {
            let record = Sent {
                partition,
                sequence,
            };
            let value = record.value();
            while sent - fates.settled.load(Ordering::Acquire) >= OUTSTANDING {
                producer.poll(Duration::from_millis(1));
            }
            let message: BaseRecord<'_, (), String, Box<Sent>> =
                BaseRecord::with_opaque_to(topic, Box::new(record))
                    .partition(partition)
                    .payload(&value);
            producer
                .send(message)
                .map_err(|(e, _)| e)
                .context("the producer takes no more")?;
            sent += 1;
            producer.poll(Duration::ZERO);
        }
        if stop.load(Ordering::Acquire) {
            break;
        }
    }
    match producer.flush(LIMIT) {
        Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {
            Err(anyhow!("records stayed unsent"))
        }
        flushed => Ok(flushed?),
    }
}

/// Whether a record may be found twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duplicates {
    Allowed,
    Forbidden,
}

/// Checks that every acknowledged record is there, at the offset that was acknowledged, and that the records of each
/// partition are in the order in which they were sent.
pub(crate) fn check_read_back(
    acknowledged: &[Acknowledged],
    read: &Read,
    duplicates: Duplicates,
) -> Result<()> {
    for Acknowledged { sent, offset } in acknowledged {
        let records = read.partition(sent.partition);
        let value = sent.value();
        match offset {
            Some(offset) => {
                let found = records.get(offset).map(String::as_str);
                ensure!(
                    found == Some(&value),
                    "{value} was acknowledged at offset {offset}, where {found:?} is"
                );
            }
            None => ensure!(
                records.values().any(|found| *found == value),
                "{value} was acknowledged and is lost"
            ),
        }
    }
    for (partition, records) in read.partitions() {
        let mut seen = 0;
        for (offset, value) in records {
            let sequence: usize = value
                .split_once('-')
                .and_then(|(_, sequence)| sequence.parse().ok())
                .with_context(|| format!("{value} was never sent"))?;
            if sequence == seen {
                seen += 1;
                continue;
            }
            ensure!(
                sequence < seen,
                "partition {partition}: {sequence} at offset {offset}, where {seen} is due"
            );
            ensure!(
                duplicates == Duplicates::Allowed,
                "partition {partition}: {sequence} is there again at offset {offset}"
            );
        }
    }
    Ok(())
}

/// The check itself can fail, and does so for each fault that it is there for.
#[test]
fn faults_in_what_was_read_back_are_found() {
    let acknowledged: Vec<Acknowledged> = (0..3)
        .map(|sequence| Acknowledged {
            sent: Sent {
                partition: 0,
                sequence,
            },
            offset: Some(sequence as i64),
        })
        .collect();
    let check =
        |values: &[&str], duplicates| check_read_back(&acknowledged, &Read::of(values), duplicates);
    assert!(
        check(&["0-0", "0-1", "0-2", "0-3"], Duplicates::Forbidden).is_ok(),
        "one more than was acknowledged"
    );
    assert!(
        check(&["0-0", "0-1", "0-2", "0-1", "0-2"], Duplicates::Allowed).is_ok(),
        "a batch that was sent again"
    );
    assert!(
        check(&["0-0", "0-1", "0-2", "0-2"], Duplicates::Forbidden).is_err(),
        "twice"
    );
    assert!(
        check(&["0-0", "0-1"], Duplicates::Allowed).is_err(),
        "lost at the end"
    );
    assert!(
        check(&["0-0", "0-2"], Duplicates::Allowed).is_err(),
        "lost in between"
    );
    assert!(
        check(&["0-0", "0-2", "0-1"], Duplicates::Allowed).is_err(),
        "out of order"
    );
    assert!(
        check(&["0-0", "0-1", "0-2", "0-4"], Duplicates::Allowed).is_err(),
        "a gap behind"
    );
    assert!(
        check(&["0-0", "0-1", "0-2", "x"], Duplicates::Allowed).is_err(),
        "never sent"
    );
}
