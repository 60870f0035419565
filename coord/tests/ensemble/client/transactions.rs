//! Several operations in one: all or nothing, one result each.

use zookeeper_client::{
    CheckWriteError, Client, Error, MultiReadResult, MultiWriteError, MultiWriteResult,
};

use super::{PERSISTENT, on_one_and_on_three};
use crate::harness::Ensemble;

on_one_and_on_three!(transactions);

async fn transactions(ensemble: &Ensemble) {
    let client = ensemble.client().await;
    writes_are_all_or_nothing(&client).await;
    reads_see_one_state(&client).await;
    a_checked_write_depends_on_its_check(&client).await;
}

async fn writes_are_all_or_nothing(client: &Client) {
    let mut writer = client.new_multi_writer();
    writer.add_create("/multi", b"1", &PERSISTENT).unwrap();
    writer.add_create("/multi/child", b"", &PERSISTENT).unwrap();
    writer.add_check_version("/multi", 0).unwrap();
    writer.add_set_data("/multi", b"2", Some(0)).unwrap();
    writer.add_delete("/multi/child", None).unwrap();
    let results = writer.commit().await.unwrap();
    let [
        MultiWriteResult::Create { path, stat },
        MultiWriteResult::Create { .. },
        MultiWriteResult::Check,
        MultiWriteResult::SetData { stat: set },
        MultiWriteResult::Delete,
    ] = results.as_slice()
    else {
        panic!("{results:?}")
    };
    assert_eq!(path, "/multi");
    assert_eq!(
        (stat.czxid, set.version),
        (set.mzxid, 1),
        "one change, one zxid"
    );

    writer.add_set_data("/multi", b"3", None).unwrap();
    writer.add_delete("/multi/child", None).unwrap();
    let error = writer.commit().await.unwrap_err();
    assert_eq!(
        error,
        MultiWriteError::OperationFailed {
            index: 1,
            source: Error::NoNode
        }
    );
    let (data, stat) = client.get_data("/multi").await.unwrap();
    assert_eq!((data.as_slice(), stat.version), (b"2".as_slice(), 1));
}

async fn reads_see_one_state(client: &Client) {
    client.create("/read", b"r", &PERSISTENT).await.unwrap();
    client
        .create("/read/child", b"", &PERSISTENT)
        .await
        .unwrap();
    let mut reader = client.new_multi_reader();
    reader.add_get_data("/read").unwrap();
    reader.add_get_data("/nothing").unwrap();
    reader.add_get_children("/read").unwrap();
    let results = reader.commit().await.unwrap();
    let [
        MultiReadResult::Data { data, stat },
        MultiReadResult::Error { err },
        MultiReadResult::Children { children },
    ] = results.as_slice()
    else {
        panic!("{results:?}")
    };
    assert_eq!((data.as_slice(), stat.num_children), (b"r".as_slice(), 1));
    assert_eq!(
        (err, children.as_slice()),
        (&Error::NoNode, ["child".to_owned()].as_slice())
    );
}

async fn a_checked_write_depends_on_its_check(client: &Client) {
    client.create("/guard", b"", &PERSISTENT).await.unwrap();
    let mut writer = client.new_check_writer("/guard", Some(0)).unwrap();
    writer.add_create("/guarded", b"", &PERSISTENT).unwrap();
    writer.commit().await.unwrap();
    client.set_data("/guard", b"", None).await.unwrap();
    let mut writer = client.new_check_writer("/guard", Some(0)).unwrap();
    writer.add_delete("/guarded", None).unwrap();
    let error = writer.commit().await.unwrap_err();
    assert_eq!(
        error,
        CheckWriteError::CheckFailed {
            source: Error::BadVersion
        }
    );
    assert!(client.check_stat("/guarded").await.unwrap().is_some());
}
