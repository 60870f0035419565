//! The storage engine as the broker sees it: on a real directory, through its public face.

mod append;
mod broker;
mod compaction;
mod crash;
mod damage;
mod directories;
mod gaps;
mod histories;
mod idempotence;
mod model;
mod moves;
mod of_old_formats;
mod offline;
mod reading;
mod retention;
mod running_damage;
mod segments;
mod test_file_system;
mod timestamps;
mod transactions;
mod validation;
