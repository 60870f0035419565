//! Nodes: every create mode, data, children, chroots.

use std::time::Duration;

use zookeeper_client::{Acls, Client, CreateMode, Error};

use super::{EPHEMERAL, PERSISTENT, on_one_and_on_three};
use crate::harness::{Ensemble, SESSION_TIMEOUT, eventually};

on_one_and_on_three!(nodes);

async fn nodes(ensemble: &Ensemble) {
    let client = ensemble.client().await;
    stats_tell_the_history(&client).await;
    what_cannot_be_is_refused(&client).await;
    sequences_count_the_parents_changes(&client).await;
    children_and_descendants_are_told(&client).await;
    big_data_passes_up_to_the_limit(&client).await;
    a_chroot_hides_what_is_above(ensemble).await;
    // They wait for the same reaper.
    tokio::join!(
        an_emptied_container_is_reaped(&client),
        a_node_with_a_ttl_is_reaped(&client)
    );
}

async fn stats_tell_the_history(client: &Client) {
    let (created, _) = client
        .create("/history", b"one", &PERSISTENT)
        .await
        .unwrap();
    assert_eq!(created.czxid, created.mzxid);
    assert_eq!(
        (created.version, created.cversion, created.aversion),
        (0, 0, 0)
    );
    assert_eq!(
        (
            created.data_length,
            created.num_children,
            created.ephemeral_owner
        ),
        (3, 0, 0)
    );
    let set = client
        .set_data("/history", b"seven", Some(0))
        .await
        .unwrap();
    assert!(set.mzxid > created.mzxid && set.czxid == created.czxid);
    assert_eq!((set.version, set.data_length), (1, 5));
    let (child, _) = client
        .create("/history/child", b"", &PERSISTENT)
        .await
        .unwrap();
    let stat = client.check_stat("/history").await.unwrap().unwrap();
    assert_eq!(
        (stat.pzxid, stat.cversion, stat.num_children),
        (child.czxid, 1, 1)
    );
    client.delete("/history/child", Some(0)).await.unwrap();
    let (data, stat) = client.get_data("/history").await.unwrap();
    assert_eq!(
        (data.as_slice(), stat.cversion, stat.num_children),
        (b"seven".as_slice(), 2, 0)
    );
    assert!(stat.pzxid > child.czxid);
    assert!(created.ctime > 0 && stat.mtime >= created.mtime);
    assert_eq!(client.check_stat("/nothing").await.unwrap(), None);
}

async fn what_cannot_be_is_refused(client: &Client) {
    client.create("/node", b"", &PERSISTENT).await.unwrap();
    let exists = client.create("/node", b"", &PERSISTENT).await.unwrap_err();
    assert_eq!(exists, Error::NodeExists);
    let orphan = client
        .create("/nothing/child", b"", &PERSISTENT)
        .await
        .unwrap_err();
    assert_eq!(orphan, Error::NoNode);
    client.create("/node/guest", b"", &EPHEMERAL).await.unwrap();
    let child = client
        .create("/node/guest/child", b"", &PERSISTENT)
        .await
        .unwrap_err();
    assert_eq!(child, Error::NoChildrenForEphemerals);
    assert_eq!(
        client.delete("/node", None).await.unwrap_err(),
        Error::NotEmpty
    );
    assert_eq!(
        client.delete("/node/guest", Some(3)).await.unwrap_err(),
        Error::BadVersion
    );
    assert_eq!(
        client.delete("/nothing", None).await.unwrap_err(),
        Error::NoNode
    );
    assert_eq!(
        client.set_data("/node", b"", Some(3)).await.unwrap_err(),
        Error::BadVersion
    );
    assert_eq!(
        client.set_data("/nothing", b"", None).await.unwrap_err(),
        Error::NoNode
    );
    assert_eq!(
        client.get_data("/nothing").await.unwrap_err(),
        Error::NoNode
    );
    assert_eq!(
        client.list_children("/nothing").await.unwrap_err(),
        Error::NoNode
    );
}

async fn sequences_count_the_parents_changes(client: &Client) {
    client.create("/line", b"", &PERSISTENT).await.unwrap();
    let persistent = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    let ephemeral = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    for (n, options) in [&persistent, &ephemeral, &persistent]
        .into_iter()
        .enumerate()
    {
        let (_, sequence) = client.create("/line/n-", b"", options).await.unwrap();
        assert_eq!(sequence.into_i64(), n as i64);
    }
    // A deletion gives no number back.
    client.delete("/line/n-0000000002", None).await.unwrap();
    let (_, sequence) = client.create("/line/n-", b"", &persistent).await.unwrap();
    assert_eq!(sequence.to_string(), "0000000003");
}

async fn children_and_descendants_are_told(client: &Client) {
    client
        .mkdir("/family/branch/twig", &PERSISTENT)
        .await
        .unwrap();
    client
        .mkdir("/family/branch/twig", &PERSISTENT)
        .await
        .unwrap();
    client
        .create("/family/guest", b"", &EPHEMERAL)
        .await
        .unwrap();
    client
        .create("/family/branch/guest", b"", &EPHEMERAL)
        .await
        .unwrap();
    let mut children = client.list_children("/family").await.unwrap();
    children.sort();
    assert_eq!(children, ["branch", "guest"]);
    let (mut children, stat) = client.get_children("/family/branch").await.unwrap();
    children.sort();
    assert_eq!(
        (children, stat.num_children),
        (vec!["guest".to_owned(), "twig".to_owned()], 2)
    );
    assert_eq!(client.count_descendants_number("/family").await.unwrap(), 4);
    let mut guests = client.list_ephemerals("/family").await.unwrap();
    guests.sort();
    assert_eq!(guests, ["/family/branch/guest", "/family/guest"]);
    assert_eq!(
        client.list_ephemerals("/family/branch").await.unwrap(),
        ["/family/branch/guest"]
    );
}

async fn big_data_passes_up_to_the_limit(client: &Client) {
    let data: Vec<u8> = (0..1_000_000).map(|n: u32| n as u8).collect();
    client.create("/big", &data, &PERSISTENT).await.unwrap();
    assert_eq!(client.get_data("/big").await.unwrap().0, data);
}

async fn a_chroot_hides_what_is_above(ensemble: &Ensemble) {
    let client = ensemble.client().await;
    client.create("/root", b"", &PERSISTENT).await.unwrap();
    let inner = Client::connector()
        .with_session_timeout(SESSION_TIMEOUT)
        .connect(&format!("{}/root", ensemble.connect_string()))
        .await
        .unwrap();
    assert_eq!(inner.path(), "/root");
    // Another session on perhaps another member.
    inner.sync("/").await.unwrap();
    inner.create("/inside", b"in", &PERSISTENT).await.unwrap();
    assert_eq!(inner.list_children("/").await.unwrap(), ["inside"]);
    client.sync("/").await.unwrap();
    assert_eq!(client.get_data("/root/inside").await.unwrap().0, b"in");
    let deeper = inner.chroot("/root/inside").unwrap();
    let (_, watcher) = deeper.check_and_watch_stat("/leaf").await.unwrap();
    client
        .create("/root/inside/leaf", b"", &PERSISTENT)
        .await
        .unwrap();
    assert_eq!(watcher.changed().await.path, "/leaf");
}

async fn an_emptied_container_is_reaped(client: &Client) {
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    client.create("/container", b"", &container).await.unwrap();
    client
        .create("/container/child", b"", &PERSISTENT)
        .await
        .unwrap();
    client.create("/fresh", b"", &container).await.unwrap();
    client.delete("/container/child", None).await.unwrap();
    eventually("the end of the container", || async {
        client
            .check_stat("/container")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    // One that never had a child is not one that was emptied.
    assert!(client.check_stat("/fresh").await.unwrap().is_some());
}

async fn a_node_with_a_ttl_is_reaped(client: &Client) {
    let options = PERSISTENT.with_ttl(Duration::from_millis(200));
    client.create("/brief", b"", &options).await.unwrap();
    client
        .create("/brief/child", b"", &PERSISTENT)
        .await
        .unwrap();
    let sequential = CreateMode::PersistentSequential
        .with_acls(Acls::anyone_all())
        .with_ttl(Duration::from_millis(200));
    let (_, sequence) = client.create("/brief-", b"", &sequential).await.unwrap();
    let numbered = format!("/brief-{sequence}");
    eventually("the end of the numbered node", || async {
        client
            .check_stat(&numbered)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    assert!(
        client.check_stat("/brief").await.unwrap().is_some(),
        "its child keeps it"
    );
    client.delete("/brief/child", None).await.unwrap();
    eventually("the end of the node", || async {
        client
            .check_stat("/brief")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}
