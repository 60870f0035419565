//! Several log directories, of which one fails.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kafka_wire::TopicPartition;
use log::{
    FileSystem, GetOrCreateError, LoadProgress, LogConfig, LogError, LogManager, LogManagerConfig,
    OpenError, SharedLog, StdFileSystem,
};
use tempfile::TempDir;

use crate::broker::{NOW_MS, batch, locked, open, temporary_directory};
use crate::test_file_system::TestFileSystem;

fn start(directories: &[&Arc<TempDir>], fs: Arc<dyn FileSystem>) -> Result<LogManager, OpenError> {
    open(directories, fs, &LogConfig::default())
}

fn paths(directories: &[&Arc<TempDir>]) -> Vec<PathBuf> {
    let paths = directories.iter().map(|directory| directory.path());
    paths.map(ToOwned::to_owned).collect()
}

fn get(manager: &LogManager, index: i32) -> Result<SharedLog, GetOrCreateError> {
    let partition = TopicPartition::new("t", index);
    manager.get_or_create(&partition, None, LogConfig::default(), NOW_MS)
}

fn append(log: &SharedLog) -> bool {
    let appended = locked(log).append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS);
    appended.is_ok()
}

/// Two directories with a log each, the first of which is broken now.
struct Halved {
    broken: Arc<TempDir>,
    good: Arc<TempDir>,
    fs: TestFileSystem,
    manager: LogManager,
    in_broken: SharedLog,
    in_good: SharedLog,
}

fn halved() -> Halved {
    let (broken, good) = (temporary_directory(), temporary_directory());
    let fs = TestFileSystem::default();
    let manager = start(&[&broken, &good], Arc::new(fs.clone())).unwrap();
    let (in_broken, in_good) = (get(&manager, 0).unwrap(), get(&manager, 1).unwrap());
    assert!(append(&in_broken) && append(&in_good));
    manager
        .checkpoint_high_watermarks(&[(in_broken.clone(), 1), (in_good.clone(), 1)])
        .unwrap();
    fs.break_directory(broken.path());
    Halved {
        broken,
        good,
        fs,
        manager,
        in_broken,
        in_good,
    }
}

impl Halved {
    fn check_that_one_is_offline(&self) {
        let offline = self.manager.offline_directories();
        assert_eq!(offline.len(), 1, "{offline:?}");
        assert_eq!(offline[0].path, self.broken.path());
        assert!(
            offline[0].reason.contains("the disk is gone"),
            "{offline:?}"
        );
        assert!(!self.manager.all_offline());
        // The disk works again, but what was written before is in doubt.
        self.fs.repair();
        assert!(!append(&self.in_broken));
        assert!(locked(&self.in_broken).offline().is_some());
        assert!(append(&self.in_good));
        assert!(locked(&self.in_good).offline().is_none());
    }
}

#[test]
fn a_failed_write_takes_its_directory_offline_and_no_other() {
    let halved = halved();
    assert!(!append(&halved.in_broken));
    halved.check_that_one_is_offline();
}

#[test]
fn a_failed_sync_takes_its_directory_offline_and_no_other() {
    let halved = halved();
    assert!(locked(&halved.in_good).flush(NOW_MS).is_ok());
    assert!(locked(&halved.in_broken).flush(NOW_MS).is_err());
    halved.check_that_one_is_offline();
}

#[test]
fn a_failed_read_takes_its_directory_offline_and_no_other() {
    let halved = halved();
    assert!(locked(&halved.in_good).read(0, 100, i64::MAX, true).is_ok());
    let read = locked(&halved.in_broken).read(0, 100, i64::MAX, true);
    assert!(read.is_err());
    halved.check_that_one_is_offline();
}

#[test]
fn a_checkpoint_that_cannot_be_written_takes_its_directory_offline_and_the_others_are_written() {
    let halved = halved();
    assert!(append(&halved.in_good));
    let high_watermarks = [(halved.in_broken.clone(), 1), (halved.in_good.clone(), 2)];
    // Nothing changed in the first, so that nothing is written there.
    halved
        .manager
        .checkpoint_high_watermarks(&high_watermarks)
        .unwrap();
    let high_watermarks = [(halved.in_broken.clone(), 2), (halved.in_good.clone(), 3)];
    let written = halved.manager.checkpoint_high_watermarks(&high_watermarks);
    assert!(written.is_err());
    let file = halved.good.path().join("replication-offset-checkpoint");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "0\n1\nt 1 3\n");
    halved.check_that_one_is_offline();
}

#[test]
fn recovery_points_are_written_where_they_can_be() {
    let halved = halved();
    locked(&halved.in_good).flush(NOW_MS).unwrap();
    assert!(!append(&halved.in_broken));
    halved.manager.checkpoint_recovery_points(NOW_MS).unwrap();
    let file = halved.good.path().join("recovery-point-offset-checkpoint");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "0\n1\nt 1 1\n");
    halved.check_that_one_is_offline();
}

#[test]
fn a_new_log_passes_over_a_directory_that_fails_and_a_known_one_is_not_made_anew() {
    let halved = halved();
    // The first of two that hold as many.
    let log = get(&halved.manager, 2).unwrap();
    assert!(locked(&log).directory().starts_with(halved.good.path()));
    let error = get(&halved.manager, 0).unwrap_err();
    assert!(
        matches!(error, GetOrCreateError::Log(LogError::Offline(_))),
        "{error}"
    );
    assert!(
        halved
            .manager
            .delete(&TopicPartition::new("t", 0), NOW_MS)
            .is_err()
    );
    halved.check_that_one_is_offline();
}

#[test]
fn the_listener_hears_of_each_directory_once() {
    let halved = halved();
    assert!(!append(&halved.in_broken));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    halved
        .manager
        .on_offline(move |directory| hearing.lock().unwrap().push(directory.path.clone()));
    assert_eq!(*heard.lock().unwrap(), [halved.broken.path()]);
    assert!(!append(&halved.in_broken));
    halved.fs.break_directory(halved.good.path());
    assert!(!append(&halved.in_good));
    assert_eq!(
        *heard.lock().unwrap(),
        paths(&[&halved.broken, &halved.good])
    );
    assert!(halved.manager.all_offline());
    let error = get(&halved.manager, 3).unwrap_err();
    assert!(matches!(error, GetOrCreateError::AllOffline), "{error}");
}

#[test]
fn a_shutdown_is_clean_where_it_can_be_and_all_is_back_after_the_next_start() {
    let halved = halved();
    assert!(!append(&halved.in_broken));
    halved.manager.shutdown(7).unwrap();
    let note = |directory: &TempDir| directory.path().join(".kafka_cleanshutdown").exists();
    assert_eq!((note(&halved.broken), note(&halved.good)), (false, true));
    let Halved {
        broken,
        good,
        fs,
        manager,
        in_broken,
        in_good,
    } = halved;
    drop((manager, in_broken, in_good));
    fs.repair();
    let manager = start(&[&broken, &good], Arc::new(fs)).unwrap();
    assert_eq!(manager.offline_directories(), []);
    assert_eq!(manager.high_watermarks().len(), 2);
    for index in [0, 1] {
        assert_eq!(locked(&get(&manager, index).unwrap()).log_end_offset(), 1);
    }
}

#[test]
fn a_directory_that_cannot_be_opened_is_offline_from_the_start() {
    let Halved {
        broken,
        good,
        fs,
        manager,
        in_broken,
        in_good,
    } = halved();
    drop((manager, in_broken, in_good));
    let manager = start(&[&broken, &good], Arc::new(fs.clone())).unwrap();
    assert_eq!(manager.offline_directories().len(), 1);
    assert!(manager.get(&TopicPartition::new("t", 0)).is_none());
    assert_eq!(manager.high_watermarks().len(), 1);
    drop(manager);
    let error = start(&[&broken], Arc::new(fs)).unwrap_err().to_string();
    let path = broken.path().display();
    let expected = format!(
        "no log directory can be used: {path} is offline: cannot create a directory in it: the disk is gone"
    );
    assert_eq!(error, expected);
}

#[test]
fn a_directory_that_is_no_directory_is_offline_from_the_start() {
    let (bad, good) = (temporary_directory(), temporary_directory());
    let file = bad.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = LogManagerConfig {
        log_dirs: vec![file.join("logs"), good.path().to_owned()],
        broker_id: 1,
        cluster_id: "cluster".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &|_| LogConfig::default(),
        progress: &LoadProgress::default(),
    };
    let manager = LogManager::open(config, Arc::new(StdFileSystem), NOW_MS).unwrap();
    assert_eq!(manager.offline_directories()[0].path, file.join("logs"));
}

#[test]
fn all_directories_must_be_this_brokers_before_any_is_touched() {
    let (mine, others) = (temporary_directory(), temporary_directory());
    let fs: Arc<dyn FileSystem> = Arc::new(StdFileSystem);
    start(&[&mine], fs.clone()).unwrap().shutdown(7).unwrap();
    let meta = others.path().join("meta.properties");
    std::fs::write(&meta, "version=0\nbroker.id=2\ncluster.id=cluster\n").unwrap();
    let error = start(&[&mine, &others], fs.clone()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::OtherOwner {
                what: "broker.id",
                ..
            }
        ),
        "{error}"
    );
    assert!(mine.path().join(".kafka_cleanshutdown").exists());
    std::fs::write(&meta, "version=1\nnode.id=1\ncluster.id=cluster\n").unwrap();
    let error = start(&[&mine, &others], fs.clone()).unwrap_err();
    assert!(error.to_string().contains("KRaft"), "{error}");
    // A new directory gets an identity.
    std::fs::remove_file(&meta).unwrap();
    drop(start(&[&mine, &others], fs.clone()).unwrap());
    let identity = std::fs::read_to_string(&meta).unwrap();
    assert!(identity.contains("broker.id=1\n"), "{identity}");
    let error = start(&[&mine, &mine], fs).unwrap_err();
    assert!(matches!(error, OpenError::NamedTwice { .. }), "{error}");
}

#[test]
fn a_partition_that_is_in_two_directories_stops_the_start() {
    let (one, two) = (temporary_directory(), temporary_directory());
    let fs: Arc<dyn FileSystem> = Arc::new(StdFileSystem);
    for directory in [&one, &two] {
        get(&start(&[directory], fs.clone()).unwrap(), 0).unwrap();
    }
    let error = start(&[&one, &two], fs).unwrap_err();
    assert!(matches!(error, OpenError::TwoLogs { .. }), "{error}");
}

#[test]
fn a_name_leads_nowhere_else() {
    let directory = temporary_directory();
    let inner = Arc::new(TempDir::new_in(directory.path()).unwrap());
    let manager = start(&[&inner], Arc::new(StdFileSystem)).unwrap();
    for (topic, partition) in [
        ("../t", 0),
        ("..", 0),
        (".", 0),
        ("a/b", 0),
        ("/t", 0),
        ("", 0),
        ("t", -1),
    ] {
        let partition = TopicPartition::new(topic, partition);
        let made = manager.get_or_create(&partition, None, LogConfig::default(), NOW_MS);
        assert!(
            matches!(made, Err(GetOrCreateError::InvalidName { .. })),
            "{partition}"
        );
    }
    assert_eq!(manager.all().len(), 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_log_that_cannot_open_its_file_takes_no_directory_along() {
    let directory = temporary_directory();
    let fs = TestFileSystem::default();
    let manager = start(&[&directory], Arc::new(fs.clone())).unwrap();
    let (unlucky, other) = (get(&manager, 0).unwrap(), get(&manager, 1).unwrap());
    assert!(append(&unlucky) && append(&other));
    fs.run_out_of_files_after(0);
    locked(&unlucky)
        .truncate_fully_and_start_at(7, NOW_MS)
        .unwrap_err();
    fs.repair();
    assert!(!append(&unlucky), "nobody knows what its files hold");
    assert!(append(&other));
    assert!(!manager.any_offline());
}

/// It may be the original of a log whose copy lies in the directory that is offline, and has not got its name yet.
#[test]
fn nothing_is_deleted_at_the_start_while_a_directory_is_offline() {
    let (good, broken) = (temporary_directory(), temporary_directory());
    let replaced = good.path().join(format!("t-0.{}-delete", "0".repeat(32)));
    std::fs::create_dir(&replaced).unwrap();
    let fs = TestFileSystem::default();
    fs.break_directory(broken.path());
    let manager = start(&[&good, &broken], Arc::new(fs.clone())).unwrap();
    assert_eq!(manager.delete_due(i64::MAX).unwrap(), 0);
    assert!(replaced.exists());
    drop(manager);
    fs.repair();
    let manager = start(&[&good, &broken], Arc::new(fs)).unwrap();
    assert_eq!(manager.delete_due(i64::MAX).unwrap(), 1);
    assert!(!replaced.exists());
}

/// The controller takes a broker for restarted since the earliest of them.
#[test]
fn of_the_broker_epochs_of_a_clean_shutdown_the_least_is_told() {
    let directories = [temporary_directory(), temporary_directory()];
    for (epochs, told) in [
        ([Some(5), Some(7)], Some(5)),
        ([Some(9), Some(7)], Some(7)),
        ([Some(9), None], None),
    ] {
        for (directory, epoch) in directories.iter().zip(epochs) {
            if let Some(epoch) = epoch {
                let note = format!("{{\"version\":0,\"brokerEpoch\":{epoch}}}");
                std::fs::write(directory.path().join(".kafka_cleanshutdown"), note).unwrap();
            }
        }
        let [one, other] = &directories;
        let manager = start(&[one, other], Arc::new(StdFileSystem)).unwrap();
        assert_eq!(manager.clean_shutdown_broker_epoch(), told);
    }
}
