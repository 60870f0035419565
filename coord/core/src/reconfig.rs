//! Changes of the ensemble: what a request asks for, the members that it would leave, and the text of
//! `/zookeeper/config` that tells of them.

use bytestring::ByteString;

use crate::coordinator::Members;
use crate::error::OpError;
use crate::server_spec::{ServerRole, ServerSpec};
use crate::zxid::{NodeId, Zxid};

/// The znode that shows the members.
pub const CONFIG_PATH: &str = "/zookeeper/config";

/// The most members that one request may name; ZooKeeper numbers them up to 255. A request is looked at before its asker is
/// found to be nobody, and each member is compared with all others.
const NAMED_MAX: usize = 255;

/// What reconfig asks for. With new members given, who joins and who leaves is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconfig {
    /// `server.N=…` of each that joins or changes, between commas.
    pub joining: Option<ByteString>,
    /// The number of each that leaves, between commas.
    pub leaving: Option<ByteString>,
    /// `server.N=…` of every member, between commas or newlines.
    pub new_members: Option<ByteString>,
    /// The version that the configuration must have; −1 for any.
    pub config_version: i64,
}

impl Reconfig {
    /// The members after the change. `version` is that of the members now; an ensemble keeps at least `min_voters`.
    ///
    /// [`OpError::BadVersion`] if another version was asked for, [`OpError::BadArguments`] for text that names no
    /// members or too many, for a member without a client address or with one of another's addresses, and for too few voters.
    /// Whether the asker may do so, and whether the new members can be reached, is for the caller to see, in ZooKeeper
    /// after all this.
    pub fn members(
        &self,
        now: &Members,
        version: Zxid,
        min_voters: usize,
    ) -> Result<Members, OpError> {
        if self.config_version != -1 && self.config_version != version.0 {
            return Err(OpError::BadVersion);
        }
        let texts = [&self.joining, &self.leaving, &self.new_members];
        let named = texts.into_iter().flatten();
        if named.flat_map(|text| text.split([',', '\n'])).count() > NAMED_MAX {
            return Err(OpError::BadArguments);
        }
        let members = match &self.new_members {
            Some(text) => all(text)?,
            None => self.changed(now)?,
        };
        let voters = members
            .values()
            .filter(|spec| spec.role == ServerRole::Participant);
        if voters.count() < min_voters {
            return Err(OpError::BadArguments);
        }
        Ok(members)
    }

    fn changed(&self, now: &Members) -> Result<Members, OpError> {
        let mut members = now.clone();
        for leaving in items(self.leaving.as_deref().unwrap_or_default()) {
            let id = leaving.parse().map_err(|_| OpError::Marshalling)?;
            members.remove(&NodeId(id));
        }
        for joining in items(self.joining.as_deref().unwrap_or_default()) {
            let (key, spec) = joining.split_once('=').ok_or(OpError::BadArguments)?;
            let (_, id) = key.rsplit_once('.').unwrap_or(("", key));
            let id = id.trim().parse().map_err(|_| OpError::Marshalling)?;
            let id = NodeId(id);
            let spec: ServerSpec = spec.parse().map_err(|_| OpError::BadArguments)?;
            if spec.client.is_none() {
                return Err(OpError::BadArguments);
            }
            members.remove(&id);
            if members.values().any(|other| share_address(&spec, other)) {
                return Err(OpError::BadArguments);
            }
            members.insert(id, spec);
        }
        Ok(members)
    }
}

/// What stands between commas, without blanks around.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Every member of a text such as `/zookeeper/config` has.
fn all(text: &str) -> Result<Members, OpError> {
    let mut members = Members::new();
    for line in text.split([',', '\n']).map(str::trim) {
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key.trim(), value),
            None if line.is_empty() => continue,
            None => return Err(OpError::BadArguments),
        };
        if key == "version" {
            continue;
        }
        let id = key.strip_prefix("server.").ok_or(OpError::BadArguments)?;
        let id = NodeId(id.parse().map_err(|_| OpError::BadArguments)?);
        let spec: ServerSpec = value.parse().map_err(|_| OpError::BadArguments)?;
        if members.values().any(|other| share_address(&spec, other)) {
            return Err(OpError::BadArguments);
        }
        if members.insert(id, spec).is_some() {
            return Err(OpError::BadArguments);
        }
    }
    Ok(members)
}

/// Whether two members would listen at the same place. `0.0.0.0` is each one's own.
fn share_address(a: &ServerSpec, b: &ServerSpec) -> bool {
    fn addresses(spec: &ServerSpec) -> Vec<(&str, u16)> {
        let client = spec.client.iter();
        let client = client.map(|client| (client.host.as_str(), client.port));
        [spec.quorum_port, spec.election_port]
            .into_iter()
            .map(|port| (spec.host.as_str(), port))
            .chain(client)
            .collect()
    }
    let others = addresses(b);
    addresses(a)
        .iter()
        .any(|address| address.0 != "0.0.0.0" && others.contains(address))
}

/// The text of `/zookeeper/config`: a line for each member, then the version that clients send back.
pub fn config_text(members: &Members, version: Zxid) -> String {
    let lines: String = members
        .iter()
        .map(|(id, spec)| format!("server.{}={spec}\n", id.0))
        .collect();
    format!("{lines}version={:x}", version.0)
}

/// The version that such a text names.
pub fn config_version(text: &[u8]) -> Option<Zxid> {
    let text = std::str::from_utf8(text).ok()?;
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("version="))?;
    i64::from_str_radix(version, 16).ok().map(Zxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Zxid = Zxid(0x1_0000_0000);

    fn members(text: &str) -> Members {
        all(text).unwrap()
    }

    fn three() -> Members {
        members("server.1=a:1:2;5,server.2=b:1:2;5,server.3=c:1:2;5")
    }

    fn incremental(joining: &'static str, leaving: &'static str) -> Reconfig {
        Reconfig {
            joining: Some(joining.into()),
            leaving: Some(leaving.into()),
            new_members: None,
            config_version: -1,
        }
    }

    fn result(reconfig: &Reconfig) -> Result<String, OpError> {
        let members = reconfig.members(&three(), VERSION, 2)?;
        Ok(config_text(&members, Zxid(0x1_0000_000a)))
    }

    #[test]
    fn members_join_change_and_leave() {
        let reconfig = incremental("server.4=d:1:2:observer;5, server.2=b:1:2:observer;6", "3");
        let expected = "server.1=a:1:2:participant;0.0.0.0:5\n\
             server.2=b:1:2:observer;0.0.0.0:6\n\
             server.4=d:1:2:observer;0.0.0.0:5\n\
             version=10000000a";
        assert_eq!(
            reconfig.members(&three(), VERSION, 2),
            Err(OpError::BadArguments),
            "one voter is left"
        );
        let left = reconfig.members(&three(), VERSION, 1).unwrap();
        assert_eq!(config_text(&left, Zxid(0x1_0000_000a)), expected);
    }

    #[test]
    fn a_full_list_replaces_all_and_is_the_text_of_the_znode() {
        let text = config_text(&three(), VERSION);
        let reconfig = Reconfig {
            new_members: Some(text.clone().into()),
            config_version: VERSION.0,
            ..incremental("nonsense", "nonsense")
        };
        assert_eq!(reconfig.members(&Members::new(), VERSION, 2), Ok(three()));
        assert_eq!(members(&text), three());
    }

    #[test]
    fn another_version_is_refused_before_anything_else() {
        let reconfig = Reconfig {
            config_version: VERSION.0 + 1,
            ..incremental("some thing", "")
        };
        assert_eq!(result(&reconfig), Err(OpError::BadVersion));
    }

    #[test]
    fn what_names_no_member_is_refused() {
        for joining in [
            "some thing",
            "server.4=d",
            "server.4=d:1:2",
            "server.4=a:1:9;7",
            "server.4=a:9:2;7",
            "server.4=d:1:2;a:1",
        ] {
            let refused = result(&incremental(joining, ""));
            assert_eq!(refused, Err(OpError::BadArguments), "{joining}");
        }
        assert_eq!(
            result(&incremental("server.x=d:1:2;5", "")),
            Err(OpError::Marshalling)
        );
        assert_eq!(result(&incremental("", "me")), Err(OpError::Marshalling));
        for new_members in ["server.1=a:1:2;5,server.1=b:1:2;5", "a:1:2;5", "group.1=1"] {
            let reconfig = Reconfig {
                new_members: Some(new_members.into()),
                config_version: -1,
                ..Reconfig::default()
            };
            assert_eq!(result(&reconfig), Err(OpError::BadArguments));
        }
    }

    #[test]
    fn a_request_names_so_many_members_at_most() {
        let lines = |count: usize| {
            let line = |n: usize| format!("server.{n}=host-{n}:1:2;5,");
            let text: String = (1..=count).map(line).collect();
            text.trim_end_matches(',').to_owned()
        };
        let full = |count: usize| Reconfig {
            new_members: Some(lines(count).into()),
            config_version: -1,
            ..Reconfig::default()
        };
        let joining = |count: usize| Reconfig {
            joining: Some(lines(count).into()),
            ..incremental("", "")
        };
        for of in [&full as &dyn Fn(usize) -> Reconfig, &joining] {
            assert!(of(NAMED_MAX - 1).members(&three(), VERSION, 2).is_ok());
            let refused = of(50_000).members(&three(), VERSION, 2);
            assert_eq!(refused, Err(OpError::BadArguments));
        }
        let leaving = Reconfig {
            leaving: Some("7,".repeat(NAMED_MAX + 1).into()),
            ..incremental("", "")
        };
        assert_eq!(result(&leaving), Err(OpError::BadArguments));
    }

    #[test]
    fn who_is_not_there_may_leave() {
        assert_eq!(
            result(&incremental("", "9")),
            Ok(config_text(&three(), Zxid(0x1_0000_000a)))
        );
    }
}
