//! What long ACLs say to one connection, found out once for each of them in a request that meets them over and over.

use std::collections::HashMap;
use std::sync::Arc;

use super::{AclList, Identity};
use crate::error::OpError;

/// ACLs of more entries than this are remembered; to look at a shorter one again takes no longer than to find it again.
const SHORT: usize = 4;

/// One connection's permissions while one of its requests is carried out.
#[derive(Debug)]
pub struct Verdicts<'a> {
    identities: &'a [Identity],
    /// By the address of the list, which its owner beside it keeps from being anyone else's, and the permissions asked for.
    known: HashMap<(usize, i32), (Arc<AclList>, bool)>,
}

impl<'a> Verdicts<'a> {
    /// Of a connection with these identities.
    pub fn new(identities: &'a [Identity]) -> Verdicts<'a> {
        Verdicts {
            identities,
            known: HashMap::new(),
        }
    }

    /// Whether one of `perms` is permitted to it.
    pub fn check(&mut self, acl: &Arc<AclList>, perms: i32) -> Result<(), OpError> {
        if acl.len() <= SHORT || acl.is_open_to_all(perms) {
            return acl.check(perms, self.identities);
        }
        let key = (Arc::as_ptr(acl).addr(), perms);
        let found = || (acl.clone(), acl.check(perms, self.identities).is_ok());
        match self.known.entry(key).or_insert_with(found) {
            (_, true) => Ok(()),
            (_, false) => Err(OpError::NoAuth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Acl, READ, WRITE};
    use super::*;

    #[test]
    fn a_long_acl_is_looked_at_once() {
        let user = |user: u8| Identity {
            scheme: "digest".into(),
            id: format!("{user}:h").into(),
        };
        let acl = |users: std::ops::Range<u8>| {
            let entries: Vec<Acl> = users
                .map(|number| Acl {
                    perms: READ,
                    identity: user(number),
                })
                .collect();
            Arc::new(AclList::new(&entries))
        };
        let identities = [user(3)];
        let mut verdicts = Verdicts::new(&identities);
        let (long, other, short) = (acl(0..10), acl(4..10), acl(3..4));
        for _ in 0..3 {
            assert_eq!(verdicts.check(&long, READ), Ok(()));
            assert_eq!(verdicts.check(&long, WRITE), Err(OpError::NoAuth));
            assert_eq!(verdicts.check(&other, READ), Err(OpError::NoAuth));
            assert_eq!(verdicts.check(&short, READ), Ok(()));
        }
        assert_eq!(verdicts.known.len(), 3);
        // Its address cannot become that of another list, which would be taken for it.
        assert_eq!(Arc::strong_count(&long), 3);
    }
}
