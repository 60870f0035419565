//! The controller's shell: elects, loads, and for the length of its term performs what the core decides.
//!
//! Every broker runs the [`Electorate`] in every session. It watches `/controller`; where nobody is the
//! controller it tries to be. The winner's term is one task that owns the core: it takes one signal
//! at a time from a bounded queue, reads what the signal is about (watches say that something
//! changed, never what), and performs the core's actions until the core is idle. The term ends with
//! the session, with `/controller`, or with the first write that coord refuses because of a newer
//! controller; whoever waits for an answer then hears NOT_CONTROLLER.

mod admin;
mod channels;
mod convert;
mod coord_io;
mod electorate;
mod requests;
mod term;

use std::sync::{Arc, Mutex, PoisonError};

use broker_core::config::{BrokerConfig, Properties};
use broker_core::controller::{Event, Reply, RequestId};
use broker_core::znode::ProducerIdBlock;
use kafka_wire::{ByteString, ErrorCode};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::admin::Admin;
pub(crate) use self::electorate::Electorate;
use crate::config_store::ConfigListener;

/// What wakes the controller.
enum Signal {
    /// The children of `/brokers/ids` changed.
    Brokers,
    /// The children of `/brokers/topics` changed.
    Topics,
    /// The children of `/admin/delete_topics` changed.
    Deletions,
    /// The children of `/log_dir_event_notification` changed.
    LogDirEvents,
    /// Something that needs no reading.
    Event(Event),
    /// Somebody asks, and waits.
    Request(
        Box<dyn FnOnce(RequestId) -> Event + Send>,
        oneshot::Sender<Reply>,
    ),
    /// A broker wants producer ids.
    ProducerIds(
        ProducerIdsWanted,
        oneshot::Sender<Result<ProducerIdBlock, ErrorCode>>,
    ),
}

impl Signal {
    /// For the log.
    fn name(&self) -> &'static str {
        match self {
            Self::Brokers => "brokers changed",
            Self::Topics => "topics changed",
            Self::Deletions => "deletions were requested",
            Self::LogDirEvents => "a log directory failed",
            Self::Event(_) => "event",
            Self::Request(..) => "request",
            Self::ProducerIds(..) => "producer ids",
        }
    }
}

/// Which life of which broker wants producer ids.
#[derive(Debug, Clone, Copy)]
struct ProducerIdsWanted {
    broker_id: i32,
    broker_epoch: i64,
}

/// This broker is not the controller, or ceased to be while it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this broker is not the controller")]
pub(crate) struct NotController;

/// The way to the controller, while this broker is it. Also follows the configuration for it.
#[derive(Default)]
pub(crate) struct ControllerHandle {
    term: Mutex<Option<mpsc::Sender<Signal>>>,
}

impl ControllerHandle {
    fn signals(&self) -> Option<mpsc::Sender<Signal>> {
        self.term
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, term: Option<mpsc::Sender<Signal>>) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    async fn ask(
        &self,
        event: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Reply, NotController> {
        let (answer, answered) = oneshot::channel();
        let signals = self.signals().ok_or(NotController)?;
        signals
            .send(Signal::Request(Box::new(event), answer))
            .await
            .map_err(|_| NotController)?;
        answered.await.map_err(|_| NotController)
    }

    async fn producer_ids(
        &self,
        wanted: ProducerIdsWanted,
    ) -> Result<Result<ProducerIdBlock, ErrorCode>, NotController> {
        let (answer, answered) = oneshot::channel();
        let signals = self.signals().ok_or(NotController)?;
        signals
            .send(Signal::ProducerIds(wanted, answer))
            .await
            .map_err(|_| NotController)?;
        answered.await.map_err(|_| NotController)
    }

    fn unclean_enabled(&self, topic: Option<ByteString>) {
        let Some(signals) = self.signals() else {
            return;
        };
        // Aside, for the queue may be full, and whoever follows the configuration has more to do.
        tokio::spawn(async move {
            // An error says that the term is over.
            let _ = signals
                .send(Signal::Event(Event::UncleanElectionEnabled(topic)))
                .await;
        });
    }
}

impl ConfigListener for ControllerHandle {
    fn topic_changed(&self, topic: &str, overrides: &Arc<Properties>) {
        if overrides
            .get("unclean.leader.election.enable")
            .is_some_and(|value| value == "true")
        {
            self.unclean_enabled(Some(topic.into()));
        }
    }

    fn broker_changed(&self, config: &Arc<BrokerConfig>) {
        if config.unclean_leader_election_enable {
            self.unclean_enabled(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_controller_hears_of_unclean_elections_later() {
        let handle = ControllerHandle::default();
        let (signals, mut queue) = mpsc::channel(1);
        signals.try_send(Signal::Brokers).unwrap();
        handle.set(Some(signals));
        handle.broker_changed(&Arc::new(unclean_config()));
        assert!(matches!(queue.recv().await, Some(Signal::Brokers)));
        let second = tokio::time::timeout(std::time::Duration::from_secs(10), queue.recv()).await;
        assert!(matches!(
            second,
            Ok(Some(Signal::Event(Event::UncleanElectionEnabled(None))))
        ));
    }

    fn unclean_config() -> BrokerConfig {
        let properties = [
            ("broker.id", "1"),
            ("zookeeper.connect", "localhost:1"),
            ("unclean.leader.election.enable", "true"),
        ];
        let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
        BrokerConfig::from_properties(&properties.into()).unwrap().0
    }
}
