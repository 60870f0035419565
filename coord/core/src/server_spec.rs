//! A member of an ensemble as `server.N=…` names it, in zoo.cfg, in reconfig requests and in `/zookeeper/config`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest host name that DNS knows, in bytes.
const HOST_MAX_LEN: usize = 253;

/// Whether a member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerRole {
    /// It votes, and may lead.
    #[default]
    Participant,
    /// It follows, and serves reads; it never votes.
    Observer,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port; 0 takes a free one where it is listened on.
    pub port: u16,
}

/// What stands behind `server.N=`: `host:port:port[:role][;[host:]port]`.
///
/// It prints as ZooKeeper does: the role always, and a client address with its host. The default is what an ensemble of one
/// has without a `server.N` line: a participant that no other member has to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServerSpec {
    /// Where the other members reach it: a name or an address; IPv6 without brackets.
    pub host: String,
    /// The port of the members among each other.
    pub quorum_port: u16,
    /// ZooKeeper's port for elections; kept and shown, as tools and other members expect it.
    pub election_port: u16,
    /// Whether it votes.
    pub role: ServerRole,
    /// Where its clients connect, if this says so and not its own `clientPort`.
    pub client: Option<HostPort>,
}

/// Why a text is no [`ServerSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerSpecError {
    /// It has other parts.
    #[error(
        "it has to be host:port:port, host:port:port:role or one of them with ;port or ;host:port behind"
    )]
    Shape,
    /// A host is empty, too long or has characters that no host has.
    #[error("{0:?} is no host name and no address (IPv6 stands in brackets)")]
    Host(String),
    /// A port is no number up to 65535, or 0 between members.
    #[error("{0:?} is no port")]
    Port(String),
    /// A role is not known.
    #[error("{0:?} is no role: it has to be participant or observer")]
    Role(String),
    /// Both ports between members are the same.
    #[error("its two ports have to differ")]
    SamePorts,
    /// It has several addresses, joined by `|`.
    #[error("it has several addresses, and one is taken")]
    SeveralAddresses,
}

impl FromStr for ServerSpec {
    type Err = ServerSpecError;

    fn from_str(text: &str) -> Result<ServerSpec, ServerSpecError> {
        let (server, client) = match text.split_once(';') {
            Some((server, client)) => (server, Some(client)),
            None => (text, None),
        };
        if server.contains('|') {
            return Err(ServerSpecError::SeveralAddresses);
        }
        let (host, rest) = split_host(server.trim())?;
        let mut parts = rest.split(':');
        let quorum_port = member_port(parts.next())?;
        let election_port = member_port(parts.next())?;
        let role = match parts.next().map(str::trim) {
            None => ServerRole::Participant,
            Some(role) if role.eq_ignore_ascii_case("participant") => ServerRole::Participant,
            Some(role) if role.eq_ignore_ascii_case("observer") => ServerRole::Observer,
            Some(role) => return Err(ServerSpecError::Role(role.to_owned())),
        };
        if parts.next().is_some() {
            return Err(ServerSpecError::Shape);
        }
        if quorum_port == election_port {
            return Err(ServerSpecError::SamePorts);
        }
        let client = client.map(|client| client_address(client.trim()));
        Ok(ServerSpec {
            host,
            quorum_port,
            election_port,
            role,
            client: client.transpose()?,
        })
    }
}

/// `[host:]port`; without a host it is every address.
fn client_address(text: &str) -> Result<HostPort, ServerSpecError> {
    let (host, port) = if text.contains(':') {
        split_host(text)?
    } else {
        ("0.0.0.0".to_owned(), text)
    };
    Ok(HostPort {
        host,
        port: port_number(port)?,
    })
}

/// The host, and what stands behind its colon.
fn split_host(text: &str) -> Result<(String, &str), ServerSpecError> {
    let Some(bracketed) = text.strip_prefix('[') else {
        let (host, rest) = text.split_once(':').ok_or(ServerSpecError::Shape)?;
        return if is_host_name(host) {
            Ok((host.to_owned(), rest))
        } else {
            Err(ServerSpecError::Host(host.to_owned()))
        };
    };
    let (host, rest) = bracketed.split_once(']').ok_or(ServerSpecError::Shape)?;
    let rest = rest.strip_prefix(':').ok_or(ServerSpecError::Shape)?;
    match host.parse::<Ipv6Addr>() {
        Ok(address) => Ok((address.to_string(), rest)),
        Err(_) => Err(ServerSpecError::Host(host.to_owned())),
    }
}

fn is_host_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=HOST_MAX_LEN).contains(&host.len()) && host.bytes().all(allowed)
}

fn member_port(text: Option<&str>) -> Result<u16, ServerSpecError> {
    let text = text.ok_or(ServerSpecError::Shape)?;
    match port_number(text)? {
        0 => Err(ServerSpecError::Port(text.to_owned())),
        port => Ok(port),
    }
}

fn port_number(text: &str) -> Result<u16, ServerSpecError> {
    let text = text.trim();
    text.parse()
        .map_err(|_| ServerSpecError::Port(text.to_owned()))
}

/// IPv6 in brackets and with all its eight groups, as Java prints it.
fn write_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => {
            let [a, b, c, d, e, g, h, i] = address.segments();
            write!(f, "[{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{g:x}:{h:x}:{i:x}]")
        }
        Err(_) => f.write_str(host),
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        write!(f, ":{}", self.port)
    }
}

impl fmt::Display for ServerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerRole::Participant => "participant",
            ServerRole::Observer => "observer",
        })
    }
}

impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        write!(
            f,
            ":{}:{}:{}",
            self.quorum_port, self.election_port, self.role
        )?;
        match &self.client {
            Some(client) => write!(f, ";{client}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_zookeeper_does() {
        for (text, printed) in [
            ("a:2888:3888", "a:2888:3888:participant"),
            ("a:2888:3888;2181", "a:2888:3888:participant;0.0.0.0:2181"),
            (
                "10.0.0.1:2888:3888:observer;localhost:2181",
                "10.0.0.1:2888:3888:observer;localhost:2181",
            ),
            (
                " a:1:2:PARTICIPANT ; [::1]:2181",
                "a:1:2:participant;[0:0:0:0:0:0:0:1]:2181",
            ),
            (
                "[2001:db8::7]:1:2:Observer",
                "[2001:db8:0:0:0:0:0:7]:1:2:observer",
            ),
        ] {
            let spec: ServerSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), printed);
            assert_eq!(printed.parse(), Ok(spec), "{printed}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        use ServerSpecError as E;
        for (text, error) in [
            ("", E::Shape),
            ("a", E::Shape),
            ("a:2888", E::Shape),
            ("a:1:2:participant:x", E::Shape),
            ("[::1", E::Shape),
            ("[::1]", E::Shape),
            ("[::1]2888:3888", E::Shape),
            ("[a]:1:2", E::Host("a".to_owned())),
            (":1:2", E::Host(String::new())),
            ("a b:1:2", E::Host("a b".to_owned())),
            ("a\nversion=7:1:2", E::Host("a\nversion=7".to_owned())),
            ("a:0:2", E::Port("0".to_owned())),
            ("a:65536:2", E::Port("65536".to_owned())),
            ("a:1:two", E::Port("two".to_owned())),
            ("a:1:2;x", E::Port("x".to_owned())),
            ("a:1:2;b:-1", E::Port("-1".to_owned())),
            ("a:1:2;1;2", E::Port("1;2".to_owned())),
            ("a:1:2:leader", E::Role("leader".to_owned())),
            ("a:1:1", E::SamePorts),
            ("a:1:2|b:1:2", E::SeveralAddresses),
        ] {
            assert_eq!(text.parse::<ServerSpec>(), Err(error), "{text:?}");
        }
        let long = format!("{}:1:2", "a".repeat(HOST_MAX_LEN + 1));
        assert!(matches!(long.parse::<ServerSpec>(), Err(E::Host(_))));
    }
}
