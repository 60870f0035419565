//! One member of the ensemble at work: the task that owns the coordinator, between the clients and Raft.
//!
//! It needs no socket, file or clock of its own: what it stands on is handed in, so that a simulator can start as many as
//! it likes.

mod alone;
mod budget;
mod clients;
mod decided;
mod held_back;
mod inbox;
mod look;
mod outgoing;
mod settings;
mod task;
#[cfg(test)]
mod tests;
mod wall_clock;
mod witness;

pub use alone::Alone;
pub use budget::{Allowance, Budget, Held};
pub use inbox::Input;
pub use look::{Look, View};
pub use outgoing::{Charge, Outgoing, Receiver, Sender, Size, Unread};
pub(crate) use settings::BATCH_MAX_LEN;
pub use settings::Settings;
pub use task::{Node, NodeError};
pub use wall_clock::{SystemClock, WallClock};
pub use witness::{Told, Witness};
