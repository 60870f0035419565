//! What lies in the log directories.

use std::path::PathBuf;

use kafka_wire::TopicPartition;

use super::{LogManager, SharedLog, locked};
use crate::file_system::Space;
use crate::offline::OfflineDirectory;

/// A log directory that works, and what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryDescription {
    /// The directory.
    pub path: PathBuf,
    /// The volume that holds it, if the system tells.
    pub space: Option<Space>,
    /// Its logs.
    pub logs: Vec<LogDescription>,
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDescription {
    /// Whose log.
    pub partition: TopicPartition,
    /// The record batches in all its segments, in bytes.
    pub size: u64,
    /// The offset that the next record gets.
    pub log_end_offset: i64,
    /// Whether it is made to replace the partition's log in another directory.
    pub is_future: bool,
}

impl LogManager {
    /// Describes all directories: those that work, and those that do not.
    pub fn describe(&self) -> (Vec<DirectoryDescription>, Vec<OfflineDirectory>) {
        let describe = |(partition, shared): &(TopicPartition, SharedLog), is_future| {
            let log = locked(shared);
            let directory = log.log_directory().path().to_owned();
            let description = LogDescription {
                partition: partition.clone(),
                size: log.size(),
                log_end_offset: log.log_end_offset(),
                is_future,
            };
            (directory, description)
        };
        let present = self.all();
        let future = self.future_logs();
        let mut logs: Vec<_> = present.iter().map(|log| describe(log, false)).collect();
        logs.extend(future.iter().map(|log| describe(log, true)));
        let directories = self.online().map(|directory| {
            let path = directory.path();
            let here = logs.iter().filter(|(directory, _)| directory == path);
            DirectoryDescription {
                path: path.to_owned(),
                space: directory.fs().space(path).ok(),
                logs: here.map(|(_, log)| log.clone()).collect(),
            }
        });
        (directories.collect(), self.offline_directories())
    }
}
