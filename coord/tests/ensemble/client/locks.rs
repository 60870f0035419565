//! The crate's lock, which is also its election: one holder at a time, the next one when the holder goes.

use zookeeper_client::{Acls, Client, CreateMode, LockOptions, LockPrefix};

use super::{PERSISTENT, on_one_and_on_three};
use crate::harness::{DEADLINE, Ensemble};

on_one_and_on_three!(locks);

async fn locks(ensemble: &Ensemble) {
    let (first, second) = (ensemble.client().await, ensemble.client().await);
    a_lock_has_one_holder(&first, &second).await;
    a_holder_writes_under_its_lock(&first).await;
    a_lock_goes_with_its_session(ensemble, first).await;
}

fn options() -> LockOptions<'static> {
    LockOptions::new(Acls::anyone_all())
        .with_ancestor_options(CreateMode::Container.with_acls(Acls::anyone_all()))
        .expect("containers can be ancestors")
}

fn prefix() -> LockPrefix<'static> {
    LockPrefix::new_curator("/locks/one", "latch-").expect("a good prefix")
}

async fn a_lock_has_one_holder(first: &Client, second: &Client) {
    let held = first.lock(prefix(), b"first", options()).await.unwrap();
    let mut waiting = Box::pin(second.lock(prefix(), b"second", options()));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("two hold one lock"),
        () = queued(first) => {}
    }
    drop(held);
    let held = tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        second.get_data(held.lock_path()).await.unwrap().0,
        b"second"
    );
}

/// Two are in line for the lock.
async fn queued(client: &Client) {
    crate::harness::eventually("two in line", || async {
        (client.list_children("/locks/one").await.unwrap().len() == 2).then_some(())
    })
    .await;
}

async fn a_holder_writes_under_its_lock(client: &Client) {
    let held = client.lock(prefix(), b"", options()).await.unwrap();
    held.create("/under-lock", b"1", &PERSISTENT).await.unwrap();
    client.delete(held.lock_path(), None).await.unwrap();
    assert!(
        held.set_data("/under-lock", b"2", None).await.is_err(),
        "the lock is gone"
    );
    assert_eq!(client.get_data("/under-lock").await.unwrap().0, b"1");
}

async fn a_lock_goes_with_its_session(ensemble: &Ensemble, first: Client) {
    let held = first
        .lock(prefix(), b"", options())
        .await
        .unwrap()
        .into_owned();
    let second = ensemble.client().await;
    let waiting = second.lock(prefix(), b"", options());
    drop(first);
    drop(held);
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap()
        .unwrap();
}
