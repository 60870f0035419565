//! Watches: one-shot, persistent, recursive; each event once, in order, with the zxid of its change.

use zookeeper_client::{AddWatchMode, Client, EventType, PersistentWatcher};

use super::{PERSISTENT, on_one_and_on_three};
use crate::harness::{DEADLINE, Ensemble};

on_one_and_on_three!(watches);

async fn watches(ensemble: &Ensemble) {
    let client = ensemble.client().await;
    let other = ensemble.client().await;
    one_shot_watches_tell_the_first_change(&client, &other).await;
    a_persistent_watch_tells_of_the_node_and_its_children(&client, &other).await;
    a_recursive_watch_tells_of_everything_below(&client, &other).await;
}

async fn one_shot_watches_tell_the_first_change(client: &Client, other: &Client) {
    client.create("/bell", b"", &PERSISTENT).await.unwrap();
    let (_, _, data) = client.get_and_watch_data("/bell").await.unwrap();
    let (_, children) = client.list_and_watch_children("/bell").await.unwrap();
    let (_, _, both) = client.get_and_watch_children("/bell").await.unwrap();
    let (_, created) = client.check_and_watch_stat("/bell/string").await.unwrap();
    other.sync("/").await.unwrap();
    let set = other.set_data("/bell", b"1", None).await.unwrap();
    let (child, _) = other
        .create("/bell/string", b"", &PERSISTENT)
        .await
        .unwrap();

    let event = tokio::time::timeout(DEADLINE, data.changed())
        .await
        .unwrap();
    assert_eq!(
        (event.event_type, event.path.as_str()),
        (EventType::NodeDataChanged, "/bell")
    );
    assert_eq!(event.zxid, set.mzxid);
    for watcher in [children, both] {
        let event = watcher.changed().await;
        assert_eq!(
            (event.event_type, event.path.as_str()),
            (EventType::NodeChildrenChanged, "/bell")
        );
        assert_eq!(event.zxid, child.czxid);
    }
    let event = created.changed().await;
    assert_eq!(
        (event.event_type, event.path.as_str()),
        (EventType::NodeCreated, "/bell/string")
    );

    let (_, deleted) = client.check_and_watch_stat("/bell/string").await.unwrap();
    let (_, children) = client
        .list_and_watch_children("/bell/string")
        .await
        .unwrap();
    other.delete("/bell/string", None).await.unwrap();
    for watcher in [deleted, children] {
        let event = watcher.changed().await;
        assert_eq!(
            (event.event_type, event.path.as_str()),
            (EventType::NodeDeleted, "/bell/string")
        );
    }
}

async fn expect(watcher: &mut PersistentWatcher, events: &[(EventType, &str)]) {
    let mut last_zxid = 0;
    for &(event_type, path) in events {
        let event = tokio::time::timeout(DEADLINE, watcher.changed()).await;
        let event = event.unwrap_or_else(|_| panic!("{event_type} of {path} is not told"));
        assert_eq!((event.event_type, event.path.as_str()), (event_type, path));
        assert!(
            event.zxid >= last_zxid,
            "events come in the order of their changes"
        );
        last_zxid = event.zxid;
    }
}

async fn a_persistent_watch_tells_of_the_node_and_its_children(client: &Client, other: &Client) {
    // It need not be there yet.
    let mut watcher = client
        .watch("/diary", AddWatchMode::Persistent)
        .await
        .unwrap();
    other.create("/diary", b"", &PERSISTENT).await.unwrap();
    other.create("/diary/page", b"", &PERSISTENT).await.unwrap();
    other.set_data("/diary/page", b"", None).await.unwrap();
    other.set_data("/diary", b"1", None).await.unwrap();
    other.set_data("/diary", b"2", None).await.unwrap();
    other.delete("/diary/page", None).await.unwrap();
    other.delete("/diary", None).await.unwrap();
    other.create("/diary", b"", &PERSISTENT).await.unwrap();
    let told = [
        (EventType::NodeCreated, "/diary"),
        (EventType::NodeChildrenChanged, "/diary"),
        (EventType::NodeDataChanged, "/diary"),
        (EventType::NodeDataChanged, "/diary"),
        (EventType::NodeChildrenChanged, "/diary"),
        (EventType::NodeDeleted, "/diary"),
        (EventType::NodeCreated, "/diary"),
    ];
    expect(&mut watcher, &told).await;
}

async fn a_recursive_watch_tells_of_everything_below(client: &Client, other: &Client) {
    let mut watcher = client
        .watch("/tree", AddWatchMode::PersistentRecursive)
        .await
        .unwrap();
    other.create("/tree", b"", &PERSISTENT).await.unwrap();
    other.create("/tree/a", b"", &PERSISTENT).await.unwrap();
    other.create("/tree/a/b", b"", &PERSISTENT).await.unwrap();
    other.set_data("/tree/a/b", b"1", None).await.unwrap();
    other.create("/treehouse", b"", &PERSISTENT).await.unwrap();
    other.delete("/tree/a/b", None).await.unwrap();
    other.delete("/tree/a", None).await.unwrap();
    other.set_data("/tree", b"1", None).await.unwrap();
    let told = [
        (EventType::NodeCreated, "/tree"),
        (EventType::NodeCreated, "/tree/a"),
        (EventType::NodeCreated, "/tree/a/b"),
        (EventType::NodeDataChanged, "/tree/a/b"),
        (EventType::NodeDeleted, "/tree/a/b"),
        (EventType::NodeDeleted, "/tree/a"),
        (EventType::NodeDataChanged, "/tree"),
    ];
    expect(&mut watcher, &told).await;
}
