//! What a broker does from time to time, unasked.

use std::time::{Duration, Instant};

use crate::client::{batch, idempotent_batch};
use crate::cluster::{Cluster, eventually};

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_producer_that_fell_silent_is_forgotten() {
    let cluster = Cluster::start(1, &[("producer.id.expiration.ms", "1")]).await;
    let mut client = cluster.client(1).await;
    let deadline = Instant::now() + DEADLINE;
    // As long as the producer is known, what it sends again is where it was.
    loop {
        let produced = client.produce(1, idempotent_batch(9, 0, &["a"])).await;
        assert_eq!(produced.error_code, 0);
        if produced.base_offset > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "the producer is still known");
    }
}

#[tokio::test]
async fn a_log_is_flushed_when_its_time_has_come() {
    let properties = [
        ("log.flush.scheduler.interval.ms", "1"),
        ("log.flush.offset.checkpoint.interval.ms", "1"),
    ];
    let cluster = Cluster::start(1, &properties).await;
    let mut client = cluster.client(1).await;
    assert_eq!(client.produce(1, batch(&["a", "b"])).await.error_code, 0);
    let checkpoint = cluster
        .log_directory(1)
        .join("recovery-point-offset-checkpoint");
    eventually("the recovery point", || {
        std::fs::read_to_string(&checkpoint).is_ok_and(|text| text == "0\n1\nt 0 2\n")
    })
    .await;
}
