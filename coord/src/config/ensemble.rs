//! Who belongs to the ensemble, and which of them this is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use coord_core::server_spec::{ServerRole, ServerSpec};

use super::source::{self, Pairs, resolve};
use super::{ConfigError, Tls};

/// The members as the files list them, and what they agree on. A member that has been started before goes by what its
/// log says of the membership, not by this list.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// The number in the file `myid` of dataDir; 0 where a standalone server has none.
    pub my_id: u64,
    /// `server.N`, by N; from `dynamicConfigFile` if that is set. Empty, or with one entry, if standalone.
    pub servers: BTreeMap<u64, ServerSpec>,
    /// Whether this is a server by itself: no more than one participant is listed and `standaloneEnabled` is not off.
    /// It listens to no other member.
    pub standalone: bool,
    /// `standaloneEnabled`: whether one participant by itself is no ensemble. Then a reconfig has to leave two.
    pub standalone_enabled: bool,
    /// `initLimit`: ticks that a member may take to come up to the leader's state; 10 if not set.
    pub init_limit_ticks: u32,
    /// `syncLimit`: ticks without a sign of life between leader and follower; 5 if not set.
    pub sync_limit_ticks: u32,
    /// `reconfigEnabled`: whether the reconfig operation is there.
    pub reconfig_enabled: bool,
    /// `quorumListenOnAllIPs`: whether members are listened to on every address, and not only on the listed one.
    pub listen_on_all_ips: bool,
    /// `sslQuorum` and `ssl.quorum.*`: TLS between the members, both sides showing a certificate.
    pub tls: Option<Tls>,
}

impl Ensemble {
    /// Takes its keys; what deserves a word goes to `warnings`.
    pub(super) fn take(
        pairs: &mut Pairs,
        data_dir: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<Ensemble, ConfigError> {
        let servers = servers(pairs, warnings)?;
        let standalone_enabled = pairs.switch("standaloneEnabled", true)?;
        let participants = servers
            .values()
            .filter(|server| server.role == ServerRole::Participant)
            .count();
        if participants == 0 && (!servers.is_empty() || !standalone_enabled) {
            return Err(ConfigError::NoParticipants);
        }
        let standalone = participants <= 1 && standalone_enabled;
        if standalone && servers.len() > participants {
            return Err(ConfigError::NoParticipants);
        }
        let my_id = my_id(data_dir)?;
        if !standalone {
            check_me(my_id, &servers, data_dir)?;
            if participants.is_multiple_of(2) {
                warnings.push(format!(
                    "{participants} participants stand no more failures than {} do",
                    participants - 1
                ));
            }
        }
        let me = my_id.and_then(|id| servers.get(&id));
        peer_type(pairs, me, warnings)?;
        let ticks = |ticks: Option<u64>, default| ticks.map_or(default, |ticks| ticks as u32);
        let tls = pairs.switch("sslQuorum", false)?;
        let tls = if tls {
            Some(Tls::of_members(pairs)?)
        } else {
            None
        };
        Ok(Ensemble {
            my_id: my_id.unwrap_or(0),
            servers,
            standalone,
            standalone_enabled,
            init_limit_ticks: ticks(pairs.number("initLimit", 1..=100_000)?, 10),
            sync_limit_ticks: ticks(pairs.number("syncLimit", 1..=100_000)?, 5),
            reconfig_enabled: pairs.switch("reconfigEnabled", false)?,
            listen_on_all_ips: pairs.switch("quorumListenOnAllIPs", false)?,
            tls,
        })
    }

    /// What the list says of this member.
    pub fn me(&self) -> Option<&ServerSpec> {
        self.servers.get(&self.my_id)
    }

    /// Where clients connect: as the list says if it does, else as the keys do. Where both do, they may not differ.
    pub(super) fn client_address(
        &self,
        by_keys: Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(client) = self.me().and_then(|me| me.client.as_ref()) else {
            return Ok(by_keys);
        };
        let key = format!("server.{}", self.my_id);
        let by_list = resolve(&key, &client.host, client.port)?;
        match by_keys {
            Some(by_keys)
                if by_keys.port() != by_list.port()
                    || !by_keys.ip().is_unspecified() && by_keys != by_list =>
            {
                Err(ConfigError::TwoClientAddresses { by_keys, by_list })
            }
            _ => Ok(Some(by_list)),
        }
    }
}

fn servers(
    pairs: &mut Pairs,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<u64, ServerSpec>, ConfigError> {
    let mut listed = pairs.take_all("server.");
    if let Some(file) = pairs.path("dynamicConfigFile") {
        if !listed.is_empty() {
            return Err(ConfigError::TwoLists);
        }
        let mut dynamic = BTreeMap::new();
        source::properties_file(&file, &mut dynamic)?;
        let mut dynamic = Pairs(dynamic);
        listed = dynamic.take_all("server.");
        // ZooKeeper writes it into its own copies; what holds here is in the log.
        dynamic.take("version");
        warn_of_groups(&mut dynamic, warnings);
        if let Some(key) = dynamic.0.into_keys().next() {
            return Err(ConfigError::Malformed {
                path: file.display().to_string(),
                cause: format!("{key} is not a setting of the dynamic file; it has server.N lines"),
            });
        }
    }
    warn_of_groups(pairs, warnings);
    let mut servers = BTreeMap::<u64, ServerSpec>::new();
    for (id, text) in listed {
        let key = format!("server.{id}");
        let id = id
            .parse::<u64>()
            .ok()
            .filter(|&id| i64::try_from(id).is_ok())
            .ok_or_else(|| {
                ConfigError::value(&key, text.clone(), "under a number, as server.N is")
            })?;
        let text = first_address(&key, text, warnings);
        let spec: ServerSpec = text.parse().map_err(|cause| ConfigError::Server {
            key: key.clone(),
            text,
            cause,
        })?;
        let same =
            |other: &ServerSpec| other.host == spec.host && other.quorum_port == spec.quorum_port;
        if let Some((other, _)) = servers.iter().find(|(_, other)| same(other)) {
            let allowed = format!("at an address of its own: server.{other} has this one");
            return Err(ConfigError::value(&key, spec.to_string(), allowed));
        }
        servers.insert(id, spec);
    }
    Ok(servers)
}

fn warn_of_groups(pairs: &mut Pairs, warnings: &mut Vec<String>) {
    if !pairs.take_all("group.").is_empty() | !pairs.take_all("weight.").is_empty() {
        warnings
            .push("group.N and weight.N are not used: every participant has one vote".to_owned());
    }
}

/// Keeps the first of the addresses that `|` joins.
fn first_address(key: &str, text: String, warnings: &mut Vec<String>) -> String {
    let (server, client) = match text.split_once(';') {
        Some((server, client)) => (server, Some(client)),
        None => (text.as_str(), None),
    };
    let Some((first, _)) = server.split_once('|') else {
        return text;
    };
    warnings.push(format!("{key} has several addresses: {first} is used"));
    match client {
        Some(client) => format!("{first};{client}"),
        None => first.to_owned(),
    }
}

fn my_id(data_dir: &Path) -> Result<Option<u64>, ConfigError> {
    let path = data_dir.join("myid");
    if !path.is_file() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&source::read_file(&path)?).into_owned();
    let id = text.lines().next().unwrap_or_default().trim().parse();
    id.ok()
        .filter(|&id: &u64| i64::try_from(id).is_ok())
        .map(Some)
        .ok_or_else(|| ConfigError::Malformed {
            path: path.display().to_string(),
            cause: "it has to hold the number of this server, the N of its server.N".to_owned(),
        })
}

fn check_me(
    my_id: Option<u64>,
    servers: &BTreeMap<u64, ServerSpec>,
    data_dir: &Path,
) -> Result<(), ConfigError> {
    let path = data_dir.join("myid").display().to_string();
    match my_id {
        None => Err(ConfigError::NoMyId { path }),
        Some(id) if !servers.contains_key(&id) => Err(ConfigError::NotListed { id, path }),
        Some(_) => Ok(()),
    }
}

/// `peerType` says again what the list says; where they differ, the list is right.
fn peer_type(
    pairs: &mut Pairs,
    me: Option<&ServerSpec>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let Some(value) = pairs.take("peerType") else {
        return Ok(());
    };
    let role = match value.to_ascii_lowercase().as_str() {
        "participant" => ServerRole::Participant,
        "observer" => ServerRole::Observer,
        _ => {
            return Err(ConfigError::value(
                "peerType",
                value,
                "participant or observer",
            ));
        }
    };
    if let Some(me) = me
        && me.role != role
    {
        warnings.push(format!(
            "peerType={role} is not what the list of servers says, which is {}: the list holds",
            me.role
        ));
    }
    Ok(())
}

/// Every address.
pub(super) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
