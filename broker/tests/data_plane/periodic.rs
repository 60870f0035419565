//! What a broker does from time to time, unasked.

use std::time::{Duration, Instant};

use crate::client::idempotent_batch;
use crate::cluster::Cluster;

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
