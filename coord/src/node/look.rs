//! Questions of an administrator to the node, answered between two events.

use std::fmt;

use coord_core::{Coordinator, Now};
use tokio::sync::{mpsc, oneshot};

use super::inbox::Input;

type See = dyn FnOnce(Now, &Coordinator) + Send;

/// Looks at the coordinator and sends on what it saw.
pub struct Look(Box<See>);

impl Look {
    /// Answers the question.
    pub(super) fn take(self, now: Now, coordinator: &Coordinator) {
        (self.0)(now, coordinator);
    }

    /// What `see` makes of the coordinator; `None` if the node has ended.
    pub async fn ask<T: Send + 'static>(
        node: &mpsc::Sender<Input>,
        see: impl FnOnce(Now, &Coordinator) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone away by then.
        let look = Look(Box::new(|now, coordinator| {
            drop(reply.send(see(now, coordinator)));
        }));
        node.send(Input::Look(look)).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}
