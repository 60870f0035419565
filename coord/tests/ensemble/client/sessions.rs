//! Sessions: made, negotiated, resumed, detached, closed, expired.

use std::time::Duration;

use zookeeper_client::{Client, Error, SessionState};

use super::{EPHEMERAL, on_one_and_on_three};
use crate::harness::{DEADLINE, Ensemble, SESSION_TIMEOUT, connect, eventually, patiently};

on_one_and_on_three!(sessions);

async fn sessions(ensemble: &Ensemble) {
    timeouts_are_negotiated(ensemble).await;
    a_session_is_resumed_with_its_ephemerals(ensemble).await;
    a_dropped_client_ends_its_session(ensemble).await;
    a_session_without_signs_of_life_expires(ensemble).await;
}

async fn timeouts_are_negotiated(ensemble: &Ensemble) {
    for (asked_ms, granted_ms) in [(10, 500), (7000, 7000), (3_600_000, 60_000)] {
        let client = connect(&ensemble.connect_string(), Duration::from_millis(asked_ms)).await;
        assert_eq!(client.session_timeout(), Duration::from_millis(granted_ms));
        assert_eq!(client.state(), SessionState::SyncConnected);
        assert_ne!(client.session_id().0, 0);
        assert!(!client.session().is_readonly());
    }
}

fn detached() -> zookeeper_client::Connector {
    Client::connector()
        .with_session_timeout(SESSION_TIMEOUT)
        .with_detached()
}

async fn a_session_is_resumed_with_its_ephemerals(ensemble: &Ensemble) {
    let servers = ensemble.connect_string();
    let client = detached().connect(&servers).await.unwrap();
    let (stat, _) = client.create("/resumed", b"", &EPHEMERAL).await.unwrap();
    let session = client.into_session();
    assert_eq!(stat.ephemeral_owner, session.id().0);

    // On whichever member: each takes it.
    for member in ensemble.members() {
        let again = detached()
            .with_session(session.clone())
            .connect(&ensemble.address(member).to_string())
            .await
            .unwrap();
        assert_eq!(again.session_id(), session.id());
        again.sync("/").await.unwrap();
        let stat = again.check_stat("/resumed").await.unwrap();
        assert_eq!(stat.unwrap().ephemeral_owner, session.id().0);
    }

    let last = Client::connector()
        .with_session(session.clone())
        .connect(&servers)
        .await
        .unwrap();
    drop(last);
    let other = ensemble.client().await;
    gone(&other, "/resumed").await;
    let refused = detached().with_session(session).connect(&servers).await;
    assert_eq!(refused.unwrap_err(), Error::SessionExpired);
}

/// Returns when nothing is at `path`, as `client` sees it.
async fn gone(client: &Client, path: &str) {
    eventually(&format!("the end of {path}"), || async move {
        client
            .check_stat(path)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

async fn a_dropped_client_ends_its_session(ensemble: &Ensemble) {
    let other = ensemble.client().await;
    let client = ensemble.client().await;
    client.create("/dropped", b"", &EPHEMERAL).await.unwrap();
    other.sync("/").await.unwrap();
    let (_, watcher) = other.check_and_watch_stat("/dropped").await.unwrap();
    drop(client);
    let event = tokio::time::timeout(DEADLINE, watcher.changed())
        .await
        .unwrap();
    assert_eq!(event.path, "/dropped");
    assert!(other.check_stat("/dropped").await.unwrap().is_none());
}

/// A detached client says nothing when it goes, so that its session lives for its timeout, and no longer.
async fn a_session_without_signs_of_life_expires(ensemble: &Ensemble) {
    let timeout = Duration::from_millis(500);
    let connector = detached().with_session_timeout(timeout);
    let client = patiently(&ensemble.connect_string(), connector).await;
    client.create("/silent", b"", &EPHEMERAL).await.unwrap();
    let other = ensemble.client().await;
    // Kept alive by its pings.
    let started = tokio::time::Instant::now();
    eventually("four timeouts", || async {
        assert!(
            other.check_stat("/silent").await.unwrap().is_some() || started.elapsed() < timeout
        );
        (started.elapsed() > 4 * timeout).then_some(())
    })
    .await;
    let session = client.into_session();
    gone(&other, "/silent").await;
    let refused = detached()
        .with_session(session)
        .connect(&ensemble.connect_string())
        .await;
    assert_eq!(refused.unwrap_err(), Error::SessionExpired);
}
