//! Access control lists: who may do what to one znode. They are not inherited.

use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;

use crate::error::OpError;

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `world`, `ip`, `digest` or `auth`.
    pub scheme: ByteString,
    /// Who, in the scheme's own writing.
    pub id: ByteString,
}

/// One entry: whom it permits what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acl {
    /// Bits of [`READ`], [`WRITE`], [`CREATE`], [`DELETE`] and [`ADMIN`].
    pub perms: i32,
    /// Whom.
    pub identity: Identity,
}

fn world(perms: i32) -> Arc<[Acl]> {
    let identity = Identity {
        scheme: ByteString::from_static("world"),
        id: ByteString::from_static("anyone"),
    };
    Arc::new([Acl { perms, identity }])
}

/// Everyone may do everything.
pub fn open() -> Arc<[Acl]> {
    world(ALL)
}

/// Everyone may read.
pub fn read_only() -> Arc<[Acl]> {
    world(READ)
}

/// Checks `acl`, puts the connection's own identities in place of the scheme `auth` and drops duplicates.
/// [`OpError::InvalidAcl`] if nothing is left or an entry is malformed.
pub fn normalize(acl: &[Acl], identities: &[Identity]) -> Result<Arc<[Acl]>, OpError> {
    let mut normalized: Vec<Acl> = Vec::with_capacity(acl.len());
    let mut push = |entry: Acl| {
        if !normalized.contains(&entry) {
            normalized.push(entry);
        }
    };
    for entry in acl {
        let id: &str = &entry.identity.id;
        match &*entry.identity.scheme {
            "world" if id == "anyone" => push(entry.clone()),
            "auth" => {
                let authenticated = identities
                    .iter()
                    .filter(|identity| &*identity.scheme != "ip");
                let mut any = false;
                for identity in authenticated {
                    any = true;
                    push(Acl {
                        perms: entry.perms,
                        identity: identity.clone(),
                    });
                }
                if !any {
                    return Err(OpError::InvalidAcl);
                }
            }
            "ip" if ip_network(id).is_some() => push(entry.clone()),
            "digest" if id.split(':').count() == 2 => push(entry.clone()),
            _ => return Err(OpError::InvalidAcl),
        }
    }
    if normalized.is_empty() {
        Err(OpError::InvalidAcl)
    } else {
        Ok(normalized.into())
    }
}

/// Whether one of `perms` is permitted to a connection with these identities.
pub fn check(acl: &[Acl], perms: i32, identities: &[Identity]) -> Result<(), OpError> {
    let permits = |entry: &Acl| entry.perms & perms != 0 && matches(&entry.identity, identities);
    if acl.iter().any(permits) {
        Ok(())
    } else {
        Err(OpError::NoAuth)
    }
}

fn matches(wanted: &Identity, identities: &[Identity]) -> bool {
    match &*wanted.scheme {
        "world" => &*wanted.id == "anyone",
        "ip" => identities.iter().any(|identity| {
            &*identity.scheme == "ip"
                && identity.id.parse().is_ok_and(|address| {
                    ip_network(&wanted.id).is_some_and(|network| contains(network, address))
                })
        }),
        _ => identities.contains(wanted),
    }
}

/// An address with its significant bits: `10.0.0.0/8`, `::1`.
fn ip_network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(width), |bits| bits.parse().ok())?;
    (bits <= width).then_some((address, bits))
}

fn contains((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

/// What a reader without [`ADMIN`] gets to see: password digests blanked (CVE-2019-0201).
pub fn without_digests(acl: &[Acl]) -> Arc<[Acl]> {
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
    acl.iter().map(blank).collect()
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
        let normalized = normalize(
            &[entry(READ, "auth", ""), entry(READ, "digest", "u:h")],
            &client,
        )
        .unwrap();
        assert_eq!(&*normalized, [entry(READ, "digest", "u:h")]);
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
            &*shown,
            [entry(READ, "digest", "u:x"), entry(READ, "ip", "::1")]
        );
    }
}
