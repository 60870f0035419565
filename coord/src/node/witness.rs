//! Who is told what a node comes to know, before it acts on it: nobody, but for a simulator, which judges it.

use std::fmt;
use std::sync::Arc;

use coord_core::State;

use crate::raft::RaftEvent;

/// What a node comes to know.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// What its disk held.
    Recovered(&'a State),
    /// What Raft tells it.
    Raft(&'a RaftEvent),
}

type Tell = dyn Fn(Told<'_>) + Send + Sync;

/// See the module.
#[derive(Clone, Default)]
pub struct Witness(Option<Arc<Tell>>);

impl Witness {
    /// Has `tell` hear everything.
    pub fn new(tell: impl Fn(Told<'_>) + Send + Sync + 'static) -> Witness {
        Witness(Some(Arc::new(tell)))
    }

    pub(super) fn tell(&self, told: Told<'_>) {
        if let Some(tell) = &self.0 {
            tell(told);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}
