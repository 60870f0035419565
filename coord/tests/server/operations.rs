//! Operations through the client that the broker uses.

use std::time::Duration;

use zookeeper_client::{Acls, CreateMode, Error, EventType, MultiWriteError, MultiWriteResult};

use crate::process::{Coord, DEADLINE};

const OPEN: Acls<'static> = Acls::anyone_all();

#[tokio::test(flavor = "multi_thread")]
async fn create_read_write_delete() {
    let coord = Coord::start();
    let client = coord.client(Duration::from_secs(10)).await;
    let persistent = CreateMode::Persistent.with_acls(OPEN);
    let (created, _) = client.create("/a", b"1", &persistent).await.unwrap();
    assert_eq!(
        client.get_data("/a").await.unwrap(),
        (b"1".to_vec(), created)
    );
    let set = client.set_data("/a", b"22", Some(0)).await.unwrap();
    assert_eq!(
        (set.version, set.data_length, set.czxid),
        (1, 2, created.czxid)
    );
    assert_eq!(
        client.set_data("/a", b"", Some(0)).await.unwrap_err(),
        Error::BadVersion
    );
    client.create("/a/b", b"", &persistent).await.unwrap();
    let (children, stat) = client.get_children("/a").await.unwrap();
    assert_eq!(
        (children, stat.num_children, stat.cversion),
        (vec!["b".to_owned()], 1, 1)
    );
    assert_eq!(
        client.delete("/a", None).await.unwrap_err(),
        Error::NotEmpty
    );
    client.delete("/a/b", Some(0)).await.unwrap();
    client.delete("/a", Some(1)).await.unwrap();
    assert_eq!(client.check_stat("/a").await.unwrap(), None);
    assert_eq!(
        client.create("/no/a", b"", &persistent).await.unwrap_err(),
        Error::NoNode
    );
    assert_eq!(
        client.list_children("/zookeeper").await.unwrap(),
        ["config", "quota"]
    );
    client.sync("/").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_names_go_by_the_parent() {
    let coord = Coord::start();
    let client = coord.client(Duration::from_secs(10)).await;
    client
        .create("/p", b"", &CreateMode::Persistent.with_acls(OPEN))
        .await
        .unwrap();
    for (expected, mode) in (0..).zip([
        CreateMode::PersistentSequential,
        CreateMode::EphemeralSequential,
    ]) {
        let (stat, sequence) = client
            .create("/p/n-", b"", &mode.with_acls(OPEN))
            .await
            .unwrap();
        assert_eq!(sequence.into_i64(), expected);
        assert_eq!(stat.ephemeral_owner != 0, expected == 1);
    }
    let ephemeral = CreateMode::Ephemeral.with_acls(OPEN);
    let error = client
        .create("/p/n-0000000001/c", b"", &ephemeral)
        .await
        .unwrap_err();
    assert_eq!(error, Error::NoChildrenForEphemerals);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multi_is_all_or_nothing() {
    let coord = Coord::start();
    let client = coord.client(Duration::from_secs(10)).await;
    let persistent = CreateMode::Persistent.with_acls(OPEN);
    client.create("/epoch", b"7", &persistent).await.unwrap();

    let mut multi = client.new_multi_writer();
    multi.add_check_version("/epoch", 0).unwrap();
    multi.add_create("/a", b"", &persistent).unwrap();
    multi.add_create("/a/b", b"", &persistent).unwrap();
    multi.add_set_data("/epoch", b"8", Some(0)).unwrap();
    multi.add_delete("/a/b", None).unwrap();
    let results = multi.commit().await.unwrap();
    assert!(matches!(
        &results[..],
        [
            MultiWriteResult::Check,
            MultiWriteResult::Create { path, .. },
            MultiWriteResult::Create { .. },
            MultiWriteResult::SetData { stat },
            MultiWriteResult::Delete,
        ] if path == "/a" && stat.version == 1
    ));

    let mut multi = client.new_multi_writer();
    multi.add_create("/c", b"", &persistent).unwrap();
    multi.add_check_version("/epoch", 0).unwrap();
    multi.add_delete("/a", None).unwrap();
    let error = multi.commit().await.unwrap_err();
    assert_eq!(
        error,
        MultiWriteError::OperationFailed {
            index: 1,
            source: Error::BadVersion
        }
    );
    assert_eq!(client.check_stat("/c").await.unwrap(), None);
    assert!(client.check_stat("/a").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_tell_of_creation_data_children_and_deletion() {
    let coord = Coord::start();
    let watcher = coord.client(Duration::from_secs(10)).await;
    let client = coord.client(Duration::from_secs(10)).await;
    let persistent = CreateMode::Persistent.with_acls(OPEN);
    let (_, created) = watcher.check_and_watch_stat("/a").await.unwrap();
    let (_, _, root) = watcher.get_and_watch_children("/").await.unwrap();
    let (stat, _) = client.create("/a", b"", &persistent).await.unwrap();
    let expect = async |watch: zookeeper_client::OneshotWatcher, event_type, path: &str| {
        let event = tokio::time::timeout(DEADLINE, watch.changed())
            .await
            .expect("an event in time");
        assert_eq!((event.event_type, event.path.as_str()), (event_type, path));
        event.zxid
    };
    assert_eq!(
        expect(created, EventType::NodeCreated, "/a").await,
        stat.czxid
    );
    expect(root, EventType::NodeChildrenChanged, "/").await;

    let (_, _, data) = watcher.get_and_watch_data("/a").await.unwrap();
    let set = client.set_data("/a", b"1", None).await.unwrap();
    assert_eq!(
        expect(data, EventType::NodeDataChanged, "/a").await,
        set.mzxid
    );

    let (_, _, data) = watcher.get_and_watch_data("/a").await.unwrap();
    let (_, _, children) = watcher.get_and_watch_children("/a").await.unwrap();
    client.delete("/a", None).await.unwrap();
    expect(data, EventType::NodeDeleted, "/a").await;
    expect(children, EventType::NodeDeleted, "/a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acls_are_kept_returned_and_enforced() {
    let coord = Coord::start();
    let client = coord.client(Duration::from_secs(10)).await;
    client
        .create("/a", b"", &CreateMode::Persistent.with_acls(OPEN))
        .await
        .unwrap();
    let (acl, stat) = client.get_acl("/a").await.unwrap();
    assert_eq!(
        (acl, stat.aversion),
        (zookeeper_client::Acls::anyone_all().to_vec(), 0)
    );
    let read_only = Acls::anyone_read();
    let stat = client.set_acl("/a", &read_only, Some(0)).await.unwrap();
    assert_eq!(stat.aversion, 1);
    let (acl, _) = client.get_acl("/a").await.unwrap();
    assert_eq!(acl, read_only.to_vec());
    assert_eq!(
        client.set_data("/a", b"", None).await.unwrap_err(),
        Error::NoAuth
    );
    let create = client.create("/a/b", b"", &CreateMode::Persistent.with_acls(OPEN));
    assert_eq!(create.await.unwrap_err(), Error::NoAuth);
    client.get_data("/a").await.unwrap();
}
