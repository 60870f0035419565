//! Access control lists: who may do what to one znode. They are not inherited.

mod list;
mod verdicts;

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytestring::ByteString;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq;

use crate::error::OpError;
pub use list::AclList;
use list::IpNetwork;
pub use verdicts::Verdicts;

/// May read data and list children.
pub const READ: i32 = 1;
/// May set data.
pub const WRITE: i32 = 2;
/// May create children.
pub const CREATE: i32 = 4;
/// May delete children.
pub const DELETE: i32 = 8;
/// May set the ACL.
pub const ADMIN: i32 = 16;
/// All of them.
pub const ALL: i32 = 31;

/// Someone, as a scheme and an id within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `world`, `ip`, `digest`, `x509`, `sasl`, `auth`, or `super` of a connection that may do everything.
    pub scheme: ByteString,
    /// Who, in the scheme's own writing.
    pub id: ByteString,
}

impl Identity {
    /// Whether its connection may do everything.
    pub fn is_super(&self) -> bool {
        &*self.scheme == "super"
    }
}

/// One entry: whom it permits what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acl {
    /// Bits of [`READ`], [`WRITE`], [`CREATE`], [`DELETE`] and [`ADMIN`].
    pub perms: i32,
    /// Whom.
    pub identity: Identity,
}

fn world(perms: i32) -> Arc<AclList> {
    let identity = Identity {
        scheme: ByteString::from_static("world"),
        id: ByteString::from_static("anyone"),
    };
    Arc::new(AclList::new(&[Acl { perms, identity }]))
}

static OPEN: LazyLock<Arc<AclList>> = LazyLock::new(|| world(ALL));

/// Everyone may do everything: the one that nearly every znode has, always the same allocation.
pub fn open() -> Arc<AclList> {
    OPEN.clone()
}

/// Everyone may read.
pub fn read_only() -> Arc<AclList> {
    world(READ)
}

/// The most entries of one ACL: every access to its znode goes through them.
pub const MAX_ENTRIES: usize = 1000;

/// Checks `acl`, drops duplicates and puts the connection's own identities in place of the scheme `auth`.
/// [`OpError::InvalidAcl`] if nothing is left, more than [`MAX_ENTRIES`] are, or an entry is malformed.
pub fn normalize(acl: &[Acl], identities: &[Identity]) -> Result<Arc<AclList>, OpError> {
    if *acl == ***OPEN {
        return Ok(open());
    }
    if acl.len() > MAX_ENTRIES {
        return Err(OpError::InvalidAcl);
    }
    let mut seen = HashSet::with_capacity(acl.len());
    let mut normalized: Vec<Acl> = Vec::with_capacity(acl.len());
    for entry in acl {
        if !seen.insert(entry) {
            continue;
        }
        let valid = match (&*entry.identity.scheme, &*entry.identity.id) {
            ("auth", _) => {
                let before = normalized.len();
                let own = identities
                    .iter()
                    .filter(|identity| authenticates(&identity.scheme));
                normalized.extend(own.map(|identity| Acl {
                    perms: entry.perms,
                    identity: identity.clone(),
                }));
                if normalized.len() == before || normalized.len() > MAX_ENTRIES {
                    return Err(OpError::InvalidAcl);
                }
                continue;
            }
            ("world", id) => id == "anyone",
            ("ip", id) => IpNetwork::parse(id).is_some(),
            ("digest", id) => {
                let mut parts = id.trim_end_matches(':').split(':');
                parts.next().is_some() && parts.next().is_some() && parts.next().is_none()
            }
            ("sasl" | "x509", id) => !id.is_empty(),
            _ => false,
        };
        if !valid {
            return Err(OpError::InvalidAcl);
        }
        normalized.push(entry.clone());
    }
    if normalized.is_empty() {
        Err(OpError::InvalidAcl)
    } else {
        Ok(Arc::new(AclList::new(&normalized)))
    }
}

/// Whether someone of this scheme has shown who it is; an address has not, and `super` is in no ACL.
fn authenticates(scheme: &str) -> bool {
    matches!(scheme, "digest" | "sasl" | "x509")
}

/// Who may do everything.
pub fn super_user() -> Identity {
    Identity {
        scheme: ByteString::from_static("super"),
        id: ByteString::new(),
    }
}

/// Whom the credentials of the scheme `digest`, `user:password`, show: the user with the password's digest, and `super`
/// too if that is the digest that the server is set up with.
pub fn digest_identities(credentials: &[u8], super_digest: Option<&str>) -> Vec<Identity> {
    let text = String::from_utf8_lossy(credentials);
    let user = text.split(':').next().unwrap_or_default();
    let hash = Sha1::digest(text.as_bytes());
    let id = format!("{user}:{}", BASE64_STANDARD.encode(hash));
    let mut identities = Vec::new();
    // In the same time however much of it is right.
    if super_digest.is_some_and(|digest| digest.as_bytes().ct_eq(id.as_bytes()).into()) {
        identities.push(super_user());
    }
    identities.push(Identity {
        scheme: ByteString::from_static("digest"),
        id: id.into(),
    });
    identities
}

/// Who an identity is, without any secret: of a digest the user alone.
pub fn user(identity: &Identity) -> ByteString {
    match &*identity.scheme {
        "digest" => {
            let end = identity.id.find(':').unwrap_or(identity.id.len());
            identity.id.slice_ref(&identity.id[..end])
        }
        "super" => ByteString::new(),
        _ => identity.id.clone(),
    }
}

/// What a reader without [`ADMIN`] gets to see: password digests blanked (CVE-2019-0201).
pub fn without_digests(acl: &[Acl]) -> Arc<AclList> {
    let blank = |entry: &Acl| match entry.identity.id.split_once(':') {
        Some((user, _)) if &*entry.identity.scheme == "digest" => Acl {
            perms: entry.perms,
            identity: Identity {
                scheme: entry.identity.scheme.clone(),
                id: format!("{user}:x").into(),
            },
        },
        _ => entry.clone(),
    };
    let shown: Vec<Acl> = acl.iter().map(blank).collect();
    Arc::new(AclList::new(&shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(perms: i32, scheme: &'static str, id: &'static str) -> Acl {
        Acl {
            perms,
            identity: Identity {
                scheme: scheme.into(),
                id: id.into(),
            },
        }
    }

    fn check(acl: &[Acl], perms: i32, identities: &[Identity]) -> Result<(), OpError> {
        AclList::new(acl).check(perms, identities)
    }

    fn from_ip(address: &'static str) -> Vec<Identity> {
        vec![Identity {
            scheme: "ip".into(),
            id: address.into(),
        }]
    }

    #[test]
    fn malformed_lists_are_refused() {
        let client = from_ip("10.1.2.3");
        for bad in [
            vec![],
            vec![entry(ALL, "world", "me")],
            vec![entry(ALL, "ip", "10.0.0.0/33")],
            vec![entry(ALL, "ip", "ten")],
            vec![entry(ALL, "digest", "user")],
            vec![entry(ALL, "digest", "user:")],
            vec![entry(ALL, "digest", "user:hash:more")],
            vec![entry(ALL, "sasl", "")],
            vec![entry(ALL, "super", "")],
            vec![entry(ALL, "ip", "::1/129")],
            vec![entry(ALL, "auth", "")],
            vec![entry(ALL, "nonsense", "x")],
        ] {
            assert_eq!(
                normalize(&bad, &client),
                Err(OpError::InvalidAcl),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn auth_stands_for_the_connections_own_identities() {
        let mut client = from_ip("10.1.2.3");
        client.push(Identity {
            scheme: "digest".into(),
            id: "u:h".into(),
        });
        client.push(Identity {
            scheme: "x509".into(),
            id: "CN=u".into(),
        });
        let normalized = normalize(&[entry(READ, "auth", "ignored")], &client).unwrap();
        assert_eq!(
            **normalized,
            [entry(READ, "digest", "u:h"), entry(READ, "x509", "CN=u")]
        );
        let superuser = [Identity {
            scheme: "super".into(),
            id: "".into(),
        }];
        assert_eq!(
            normalize(&[entry(READ, "auth", "")], &superuser),
            Err(OpError::InvalidAcl)
        );
    }

    #[test]
    fn an_acl_has_so_many_entries_and_auth_does_not_multiply_them() {
        let of = |scheme, id, count: usize| -> Vec<Acl> {
            let perms = 0..count as i32;
            perms.map(|perms| entry(perms, scheme, id)).collect()
        };
        let entries = |count| of("auth", "", count);
        assert_eq!(
            normalize(&of("ip", "::1", MAX_ENTRIES + 1), &[]),
            Err(OpError::InvalidAcl)
        );
        let two = digest_identities(b"a:b", None)
            .into_iter()
            .chain(digest_identities(b"c:d", None))
            .collect::<Vec<_>>();
        assert!(normalize(&entries(MAX_ENTRIES), &two[..1]).is_ok());
        assert!(normalize(&entries(MAX_ENTRIES / 2), &two).is_ok());
        for (entries, identities) in [
            (entries(MAX_ENTRIES + 1), &two[..1]),
            (entries(MAX_ENTRIES / 2 + 1), &two[..]),
        ] {
            let refused = normalize(&entries, identities);
            assert_eq!(refused, Err(OpError::InvalidAcl));
        }
    }

    #[test]
    fn what_is_kept_shares_nothing_with_the_request() {
        let asked = [entry(READ, "digest", "u:h")];
        let kept = normalize(&asked, &[]).unwrap();
        assert_eq!(**kept, asked);
        assert_ne!(kept[0].identity.id.as_ptr(), asked[0].identity.id.as_ptr());
        let open = normalize(&[entry(ALL, "world", "anyone")], &[]).unwrap();
        assert!(Arc::ptr_eq(&open, &super::open()));
    }

    #[test]
    fn duplicates_are_dropped() {
        let twice = [
            entry(READ, "ip", "::1"),
            entry(ALL, "ip", "::1"),
            entry(READ, "ip", "::1"),
        ];
        assert_eq!(**normalize(&twice, &[]).unwrap(), twice[..2]);
    }

    #[test]
    fn networks_of_ipv6_match_by_their_bits() {
        let acl = [entry(READ, "ip", "2001:db8::/33")];
        assert_eq!(check(&acl, READ, &from_ip("2001:db8:7fff::1")), Ok(()));
        assert_eq!(
            check(&acl, READ, &from_ip("2001:db8:8000::1")),
            Err(OpError::NoAuth)
        );
        let everyone = [entry(READ, "ip", "::/0")];
        assert_eq!(check(&everyone, READ, &from_ip("ff::1")), Ok(()));
    }

    #[test]
    fn credentials_become_a_digest_and_the_super_user_may_do_everything() {
        // The digest that ZooKeeper's own documentation gives for super:test.
        let digest = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
        let identities = digest_identities(b"super:test", Some(digest));
        assert_eq!(identities.len(), 2);
        assert_eq!(
            check(&[entry(READ, "ip", "::1")], ADMIN, &identities),
            Ok(())
        );
        let other = digest_identities(b"super:tost", Some(digest));
        assert_eq!(other.len(), 1);
        assert!(!other[0].is_super());
        assert_eq!(digest_identities(b"super:test", None), identities[1..]);
    }

    #[test]
    fn a_user_is_named_without_its_secret() {
        let named = |scheme: &'static str, id: &'static str| {
            user(&Identity {
                scheme: scheme.into(),
                id: id.into(),
            })
        };
        assert_eq!(&*named("digest", "u:hash"), "u");
        assert_eq!(&*named("ip", "::1"), "::1");
        assert_eq!(&*named("super", ""), "");
    }

    #[test]
    fn permissions_go_by_bits_and_networks() {
        let acl = [
            entry(READ, "world", "anyone"),
            entry(WRITE, "ip", "10.0.0.0/8"),
        ];
        assert_eq!(check(&acl, READ, &[]), Ok(()));
        assert_eq!(check(&acl, WRITE, &from_ip("10.200.0.1")), Ok(()));
        assert_eq!(
            check(&acl, WRITE, &from_ip("11.0.0.1")),
            Err(OpError::NoAuth)
        );
        assert_eq!(check(&acl, WRITE, &from_ip("::1")), Err(OpError::NoAuth));
        assert_eq!(
            check(&acl, ADMIN, &from_ip("10.0.0.1")),
            Err(OpError::NoAuth)
        );
    }

    #[test]
    fn cve_2019_0201_digests_are_blanked() {
        let shown = without_digests(&[entry(READ, "digest", "u:secret"), entry(READ, "ip", "::1")]);
        assert_eq!(
            **shown,
            [entry(READ, "digest", "u:x"), entry(READ, "ip", "::1")]
        );
    }
}
