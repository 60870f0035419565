//! Read-only mode: what is left of an ensemble without a majority serves those who asked for it.

use zookeeper_client::{Client, Error, SessionState};

use crate::client::PERSISTENT;
use crate::harness::{DEADLINE, Ensemble, Mode, SESSION_TIMEOUT, patiently};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_serves_reads_to_those_who_asked() {
    let mut ensemble = Ensemble::of(3)
        .set("readonlymode.enabled=true")
        .set("localSessionsEnabled=true")
        .start();
    let writer = ensemble.client().await;
    writer.create("/kept", b"k", &PERSISTENT).await.unwrap();
    let last = ensemble.await_leader();
    let others: Vec<u16> = ensemble
        .members()
        .filter(|&member| member != last)
        .collect();
    let ordinary = ensemble.client_of(last).await;
    ensemble.kill_all(&others);
    ensemble.await_mode(last, |mode| mode == Mode::ReadOnly);

    let connector = Client::connector()
        .with_readonly(true)
        .with_session_timeout(SESSION_TIMEOUT);
    let reader = patiently(&ensemble.connect_string(), connector).await;
    assert_eq!(reader.state(), SessionState::ConnectedReadOnly);
    assert!(reader.session().is_readonly());
    assert_eq!(reader.get_data("/kept").await.unwrap().0, b"k");
    assert_eq!(reader.list_children("/").await.unwrap().len(), 2);
    assert_eq!(
        reader.create("/new", b"", &PERSISTENT).await.unwrap_err(),
        Error::NotReadOnly
    );
    assert_eq!(
        reader.set_data("/kept", b"", None).await.unwrap_err(),
        Error::NotReadOnly
    );
    assert_eq!(
        ordinary.state(),
        SessionState::Disconnected,
        "it did not ask for less"
    );

    for &other in &others {
        ensemble.start(other);
    }
    let mut states = reader.state_watcher();
    let connected = async {
        while states.peek_state() != SessionState::SyncConnected {
            states.changed().await;
        }
    };
    tokio::time::timeout(DEADLINE, connected)
        .await
        .expect("a whole session again");
    reader.create("/new", b"", &PERSISTENT).await.unwrap();
    assert_ne!(ensemble.await_serving(last), Mode::ReadOnly);
}
