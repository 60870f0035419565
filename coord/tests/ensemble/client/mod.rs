//! What the crate zookeeper-client offers, topic by topic, each on a coord alone and on an ensemble of three.

mod access;
mod locks;
mod nodes;
mod sessions;
mod transactions;
mod watches;

/// Two tests for a story: on one coord, and on three.
macro_rules! on_one_and_on_three {
    ($story:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_one() {
            $story(&$crate::harness::Ensemble::of(1).start()).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_three() {
            $story(&$crate::harness::Ensemble::of(3).start()).await;
        }
    };
}
use on_one_and_on_three;

use zookeeper_client::{Acls, CreateMode, CreateOptions};

/// A node that anyone may do anything with.
pub(crate) const PERSISTENT: CreateOptions<'static> =
    CreateMode::Persistent.with_acls(Acls::anyone_all());
/// One that goes with its session.
pub(crate) const EPHEMERAL: CreateOptions<'static> =
    CreateMode::Ephemeral.with_acls(Acls::anyone_all());
