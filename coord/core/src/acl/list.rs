//! An ACL as znodes have it: read once, so that looking at it takes as many steps as who asks has identities.

use std::net::IpAddr;
use std::ops::Deref;

use bytestring::ByteString;

use super::{Acl, Identity};
use crate::error::OpError;

/// The entries of an ACL, in the order in which they were given. It shares no bytes with the request, or the record of the
/// log, that they came in, and which it is going to outlive.
#[derive(Debug)]
pub struct AclList {
    entries: Box<[Acl]>,
    /// What everyone is permitted.
    of_world: i32,
    /// What anyone whom SASL shows is permitted: ZooKeeper's provider takes the user `super` for each of them.
    of_sasl: i32,
    networks: Box<[(IpNetwork, i32)]>,
    /// The place of the first entry of everybody else, in their order, and what all entries of that one permit together.
    by_identity: Box<[(u32, i32)]>,
}

impl PartialEq for AclList {
    fn eq(&self, other: &AclList) -> bool {
        self.entries == other.entries
    }
}

impl Deref for AclList {
    type Target = [Acl];

    fn deref(&self) -> &[Acl] {
        &self.entries
    }
}

impl AclList {
    /// With copies of these entries.
    pub fn new(entries: &[Acl]) -> AclList {
        let entries: Box<[Acl]> = entries.iter().map(own).collect();
        let (mut of_world, mut of_sasl) = (0, 0);
        let mut networks = Vec::new();
        let mut by_identity = Vec::with_capacity(entries.len());
        for (at, Acl { perms, identity }) in entries.iter().enumerate() {
            match (&*identity.scheme, &*identity.id) {
                ("world", "anyone") => of_world |= perms,
                ("world", _) => {}
                ("ip", id) => {
                    networks.extend(IpNetwork::parse(id).map(|network| (network, *perms)))
                }
                (scheme, _) => {
                    if scheme == "sasl" {
                        of_sasl |= perms;
                    }
                    by_identity.push((at as u32, *perms));
                }
            }
        }
        let identity = |at: u32| entries.get(at as usize).map(|entry| &entry.identity);
        by_identity.sort_by_key(|&(at, _)| identity(at));
        by_identity.dedup_by(|(again, more), (first, perms)| {
            let same = identity(*again) == identity(*first);
            if same {
                *perms |= *more;
            }
            same
        });
        AclList {
            by_identity: by_identity.into(),
            networks: networks.into(),
            of_world,
            of_sasl,
            entries,
        }
    }

    /// Whether one of `perms` is permitted to a connection with these identities.
    pub fn check(&self, perms: i32, identities: &[Identity]) -> Result<(), OpError> {
        let permits =
            |identity: &Identity| self.perms_of(identity) & perms != 0 || identity.is_super();
        match self.is_open_to_all(perms) || identities.iter().any(permits) {
            true => Ok(()),
            false => Err(OpError::NoAuth),
        }
    }

    /// Whether one of `perms` is permitted to everyone.
    pub fn is_open_to_all(&self, perms: i32) -> bool {
        self.of_world & perms != 0
    }

    fn perms_of(&self, identity: &Identity) -> i32 {
        match (&*identity.scheme, &*identity.id) {
            ("ip", id) => {
                let Ok(address) = id.parse() else { return 0 };
                let around = self.networks.iter().filter(|(it, _)| it.contains(address));
                around.fold(0, |all, (_, perms)| all | perms)
            }
            ("sasl", "super") => self.of_sasl,
            _ => {
                let order = |&(at, _): &(u32, i32)| match self.entries.get(at as usize) {
                    Some(entry) => entry.identity.cmp(identity),
                    None => std::cmp::Ordering::Greater,
                };
                let found = self.by_identity.binary_search_by(order).ok();
                let found = found.and_then(|found| self.by_identity.get(found));
                found.map_or(0, |(_, perms)| *perms)
            }
        }
    }
}

fn own(acl: &Acl) -> Acl {
    let Identity { scheme, id } = &acl.identity;
    let identity = Identity {
        scheme: ByteString::from(&**scheme),
        id: ByteString::from(&**id),
    };
    Acl { identity, ..*acl }
}

/// An address with its significant bits: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy)]
pub(super) struct IpNetwork {
    address: IpAddr,
    bits: u32,
}

impl IpNetwork {
    pub(super) fn parse(text: &str) -> Option<IpNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |bits| bits.parse().ok())?;
        (bits <= width).then_some(IpNetwork { address, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        let bits = self.bits;
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ADMIN, READ, WRITE};
    use super::*;

    fn identity(scheme: &'static str, id: &'static str) -> Identity {
        Identity {
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    /// The rule read off the entries one by one.
    fn naive(acl: &[Acl], perms: i32, identities: &[Identity]) -> bool {
        let permits = |entry: &Acl, identity: &Identity| {
            let (wanted, shown) = (&entry.identity, identity);
            let is_meant = match &*wanted.scheme {
                "world" => false,
                "ip" => {
                    let network = IpNetwork::parse(&wanted.id);
                    &*shown.scheme == "ip"
                        && network
                            .is_some_and(|network| network.contains(shown.id.parse().unwrap()))
                }
                "sasl" if &*shown.id == "super" => &*shown.scheme == "sasl",
                _ => wanted == shown,
            };
            entry.perms & perms != 0 && is_meant || &*shown.scheme == "super"
        };
        let to_all = acl
            .iter()
            .any(|entry| &*entry.identity.scheme == "world" && entry.perms & perms != 0);
        let mut pairs = acl
            .iter()
            .flat_map(|entry| identities.iter().map(move |identity| (entry, identity)));
        to_all || pairs.any(|(entry, identity)| permits(entry, identity))
    }

    fn wanted() -> impl Strategy<Value = Acl> {
        let known = [
            ("ip", "10.0.0.0/8"),
            ("ip", "10.1.0.0/16"),
            ("ip", "::1"),
            ("digest", "a:h"),
            ("digest", "b:h"),
            ("x509", "a:h"),
            ("sasl", "a:h"),
            ("sasl", "super"),
            ("world", "anyone"),
        ];
        let perms = prop::sample::select(vec![0, READ, WRITE, READ | ADMIN]);
        (perms, prop::sample::select(known.to_vec())).prop_map(|(perms, (scheme, id))| Acl {
            perms,
            identity: identity(scheme, id),
        })
    }

    fn shown() -> impl Strategy<Value = Identity> {
        let known = [
            ("ip", "10.1.2.3"),
            ("ip", "10.2.2.3"),
            ("ip", "::1"),
            ("digest", "a:h"),
            ("digest", "c:h"),
            ("digest", "super"),
            ("x509", "a:h"),
            ("sasl", "a:h"),
            ("sasl", "super"),
            ("super", ""),
        ];
        prop::sample::select(known.to_vec()).prop_map(|(scheme, id)| identity(scheme, id))
    }

    proptest! {
        #[test]
        fn what_was_read_once_says_what_the_entries_say(
            acl in prop::collection::vec(wanted(), 1..8),
            identities in prop::collection::vec(shown(), 0..4),
            perms in 0..32,
        ) {
            let expected = naive(&acl, perms, &identities);
            prop_assert_eq!(AclList::new(&acl).check(perms, &identities).is_ok(), expected);
        }
    }

    #[test]
    fn one_identity_is_one_step_of_the_search_however_many_entries_it_has() {
        let entries: Vec<Acl> = (0..1000)
            .map(|perms| Acl {
                perms: perms << 5 | READ,
                identity: identity("digest", ["b:h", "a:h"][perms as usize % 2]),
            })
            .collect();
        let acl = AclList::new(&entries);
        assert_eq!(
            acl.by_identity
                .iter()
                .map(|(at, _)| *at)
                .collect::<Vec<_>>(),
            [1, 0]
        );
        assert_eq!(*acl, entries[..], "they are shown as they were given");
        assert_eq!(acl.check(READ, &[identity("digest", "a:h")]), Ok(()));
        assert_eq!(
            acl.check(WRITE, &[identity("digest", "a:h")]),
            Err(OpError::NoAuth)
        );
    }

    #[test]
    fn nothing_of_a_frame_is_kept() {
        let frame = bytes::Bytes::from_static(b"digest user");
        let text = |range| ByteString::try_from(frame.slice(range)).unwrap();
        let identity = Identity {
            scheme: text(0..6),
            id: text(7..11),
        };
        let kept = AclList::new(&[Acl {
            perms: READ,
            identity,
        }]);
        for text in [&kept[0].identity.scheme, &kept[0].identity.id] {
            assert!(!frame.as_ptr_range().contains(&text.as_ptr()));
        }
    }
}
