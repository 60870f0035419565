//! One member of the ensemble at work: the task that owns the coordinator, between the clients and the log.

mod clients;
mod inbox;
mod look;
mod outgoing;
mod task;
#[cfg(test)]
mod tests;

pub use inbox::Input;
pub use look::Look;
pub use outgoing::{Charge, Outgoing, Receiver, Sender, Size, Unread};
pub(crate) use task::Node;
