//! Questions of an administrator to the node, answered between two events.

use std::fmt;

use coord_core::{Coordinator, Now};
use tokio::sync::{mpsc, oneshot};

use super::inbox::Input;
use crate::raft::RaftHandle;

/// What there is to see.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The time.
    pub now: Now,
    /// The state, the sessions and the watches.
    pub coordinator: &'a Coordinator,
    /// The other members.
    pub raft: &'a RaftHandle,
}

type See = dyn FnOnce(View<'_>) + Send;

/// Looks at the coordinator and sends on what it saw.
pub struct Look(Box<See>);

impl Look {
    /// Answers the question.
    pub(super) fn take(self, view: View<'_>) {
        (self.0)(view);
    }

    /// What `see` makes of the node; `None` if the node has ended.
    pub async fn ask<T: Send + 'static>(
        node: &mpsc::Sender<Input>,
        see: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone away by then.
        let look = Look(Box::new(|view| drop(reply.send(see(view)))));
        node.send(Input::Look(look)).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}
