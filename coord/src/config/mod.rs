//! The settings: ZooKeeper's names and defaults, from a zoo.cfg as it stands or a TOML file, and `--set key=value`.
//!
//! What ZooKeeper takes as a JVM property is a line like any other, with or without `zookeeper.` in front.

mod ensemble;
mod jaas;
mod security;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use coord_core::server_spec::ServerSpecError;

pub use ensemble::Ensemble;
pub use security::{Auth, ClientAuth, Tls, TlsVersion};
pub use source::load;

use source::Pairs;

/// The keys, for `--help`.
pub(crate) const HELP: &str = "\
Keys, as in ZooKeeper, with or without `zookeeper.` in front (times in milliseconds):
  dataDir                    where myid is, and the log and the snapshots; has no default
  dataLogDir                 where the log and the snapshots are instead
  clientPort                 2181, or none if there is a secureClientPort; 0 takes a free one, which stderr tells
  clientPortAddress          0.0.0.0
  secureClientPort           none; TLS, with ssl.keyStore.location, ssl.keyStore.password, ssl.trustStore.location
                             (PEM), ssl.clientAuth (none, want, need), ssl.enabledProtocols
  secureClientPortAddress    0.0.0.0
  tickTime                   2000; the unit of the session timeouts' defaults, initLimit and syncLimit
  minSessionTimeout          2 * tickTime
  maxSessionTimeout          20 * tickTime
  maxClientCnxns             60 connections per client address; 0 is unlimited
  maxCnxns                   0; connections in all; 0 is as many as the limit of open files (ulimit -Hn) has room for
  jute.maxbuffer             1048575 bytes in the largest request, 48 MiB at most
  largeRequestMaxBytes       256 MiB, or 8 * jute.maxbuffer if that is more: what requests above 64 KiB and answers hold
  snapCount                  100000 log entries between two snapshots; more where snapshots are long
  server.N                   host:port:port[:participant|observer][;[host:]port]; N is what dataDir/myid says
  dynamicConfigFile          a file with the server.N lines
  initLimit, syncLimit       10, 5 ticks
  standaloneEnabled          true; whether a single participant is a server by itself
  reconfigEnabled            false
  quorumListenOnAllIPs       false; whether members are listened to on every address, not only on that of server.N
  sslQuorum, ssl.quorum.*    false; TLS between the members, with the keys of ssl.*
  4lw.commands.whitelist     srvr,ruok,mntr; * is all
  admin.serverPort           off, or 8080 with admin.enableServer=true; /commands, /metrics, /livez and /readyz over HTTP
  admin.serverAddress        127.0.0.1
  admin.commandURL           /commands
  metricsProvider.httpPort   none; /metrics once more, on metricsProvider.httpHost (127.0.0.1)
  DigestAuthenticationProvider.superDigest, .enabled; X509AuthenticationProvider.superUser; superUser (of SASL)
  java.security.auth.login.config, or sasl.user.NAME=PASSWORD: the users of SASL DIGEST-MD5
  enforce.auth.enabled, enforce.auth.schemes, sessionRequireClientSASLAuth, allowSaslFailedClients, skipACL
  extendedTypesEnabled, enforceQuota, readonlymode.enabled    false
  znode.container.checkIntervalMs, .maxPerMinute, .maxNeverUsedIntervalMs    60000, 10000, 0";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `dataDir`: where `myid` is, and everything else if there is no `dataLogDir`. Has no default.
    pub data_dir: PathBuf,
    /// `dataLogDir`: where the log and the snapshots are; `dataDir` if not set. ZooKeeper keeps the log apart so that its
    /// snapshots do not hold up its syncs. Here a snapshot is written seldom and beside everything else, and both lie
    /// together, so that neither can be lost without the other.
    pub data_log_dir: PathBuf,
    /// `clientPort` and `clientPortAddress`, or the client's part of this member's `server.N`: where clients connect in
    /// plain. Port 0 takes a free one. `None` if there is a secure port only.
    pub client_address: Option<SocketAddr>,
    /// `secureClientPort` and `secureClientPortAddress`: where clients connect with TLS.
    pub secure_client_address: Option<SocketAddr>,
    /// `ssl.*`: there if there is a secure port.
    pub client_tls: Option<Tls>,
    /// `tickTime`, in milliseconds: the unit of `initLimit` and `syncLimit`.
    pub tick_time_ms: u32,
    /// `minSessionTimeout`, in milliseconds; twice `tickTime` if not set.
    pub min_session_timeout_ms: u32,
    /// `maxSessionTimeout`, in milliseconds; twenty times `tickTime` if not set.
    pub max_session_timeout_ms: u32,
    /// `maxClientCnxns`: connections per client address; 0 is unlimited.
    pub max_client_cnxns: usize,
    /// `maxCnxns`: connections in all; 0 is as many as the limit of open files has room for.
    pub max_cnxns: usize,
    /// `jute.maxbuffer`: the largest request, in bytes; 48 MiB at most.
    pub jute_maxbuffer: usize,
    /// `largeRequestMaxBytes`: what the requests above 64 KiB of all clients, and the answers that are copies, may hold
    /// together, in bytes; one connection a quarter of it. Who sends such a request when it is spent waits, where ZooKeeper
    /// closes the connection, which happens here only in the midst of one above 1 MiB.
    pub large_request_max_bytes: u64,
    /// `snapCount`: log entries between two snapshots; more where snapshots are long.
    pub snap_count: u64,
    /// Who belongs to the ensemble, and which of them this is.
    pub ensemble: Ensemble,
    /// `4lw.commands.whitelist`: the four-letter words that are answered.
    pub four_letter_words: BTreeSet<&'static str>,
    /// `admin.*`: HTTP; off unless it is asked for.
    pub admin: Option<Admin>,
    /// `metricsProvider.httpHost` and `metricsProvider.httpPort`: where `/metrics` is served too.
    pub metrics_address: Option<SocketAddr>,
    /// How clients show who they are, and who needs no permission.
    pub auth: Auth,
    /// `extendedTypesEnabled`: whether znodes may have a time to live.
    pub extended_types_enabled: bool,
    /// `enforceQuota`: whether what is above a hard limit of `/zookeeper/quota` is refused.
    pub enforce_quota: bool,
    /// `readonlymode.enabled`: whether a member without a majority serves reads to those that asked for that.
    pub read_only_mode_enabled: bool,
    /// `znode.container.*`: how containers and outlived znodes are removed.
    pub containers: Containers,
}

/// The HTTP server of the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `admin.serverAddress` and `admin.serverPort`; loopback if no address is set.
    pub address: SocketAddr,
    /// `admin.commandURL`: the path of the commands, without a slash at its end.
    pub command_url: String,
}

/// When empty containers and znodes past their time to live are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containers {
    /// `znode.container.checkIntervalMs`: between two looks, in milliseconds.
    pub check_interval_ms: u64,
    /// `znode.container.maxPerMinute`: the most that are removed in a minute.
    pub max_per_minute: u32,
    /// `znode.container.maxNeverUsedIntervalMs`: after how long a container that never had a child is removed too, in
    /// milliseconds; 0 is never.
    pub max_never_used_interval_ms: u64,
}

/// What to tell the user, in one line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },
    /// A file was read and is not what it has to be.
    #[error("{path}: {cause}")]
    Malformed {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },
    /// A `--set` without a value.
    #[error("--set {line:?} is not of the form key=value")]
    NotAPair {
        /// What stands there.
        line: String,
    },
    /// A value that is not allowed.
    #[error("{key}={value} is not allowed: it must be {allowed}")]
    Value {
        /// Of which key.
        key: String,
        /// What was set.
        value: String,
        /// What may be set.
        allowed: String,
    },
    /// A value that is not allowed and that nobody should read over a shoulder or in a log.
    #[error("what {key} is set to is not allowed: it must be {allowed}")]
    Secret {
        /// Of which key.
        key: &'static str,
        /// What may be set.
        allowed: &'static str,
    },
    /// Nobody could come in.
    #[error("{key} asks for {scheme}, which nobody can show here: {way_out}")]
    NobodyCanShow {
        /// The key.
        key: &'static str,
        /// The scheme.
        scheme: &'static str,
        /// What would let somebody show it.
        way_out: &'static str,
    },
    /// A `server.N` that is none.
    #[error("{key}={text} is no server: {cause}")]
    Server {
        /// Which.
        key: String,
        /// What was set.
        text: String,
        /// What is wrong with it.
        cause: ServerSpecError,
    },
    /// There is nowhere to write to.
    #[error(
        "dataDir is not set: name a directory for the log and the snapshots, in the file or by --set dataDir=DIR"
    )]
    NoDataDir,
    /// Nobody is there to observe.
    #[error(
        "the list of servers has too few participants: an ensemble needs one, and two before it has observers; or leave the list and standaloneEnabled=false away"
    )]
    NoParticipants,
    /// The list is in two places.
    #[error("server.N lines stand beside dynamicConfigFile: move them into that file")]
    TwoLists,
    /// A member that does not know which.
    #[error("{path} is missing: write the number of this server into it, the N of its server.N")]
    NoMyId {
        /// The file.
        path: String,
    },
    /// A member that the others do not know.
    #[error("{path} says {id}, but there is no server.{id}: correct one of them")]
    NotListed {
        /// What the file says.
        id: u64,
        /// The file.
        path: String,
    },
    /// Two places that say differently where clients connect.
    #[error(
        "clientPort stands for {by_keys}, but the list of servers says {by_list}: leave clientPort and clientPortAddress away"
    )]
    TwoClientAddresses {
        /// By the keys.
        by_keys: SocketAddr,
        /// By the list.
        by_list: SocketAddr,
    },
    /// An address without its port.
    #[error("{address} is set, but {port} is not: set both or none")]
    AddressWithoutPort {
        /// The address's key.
        address: &'static str,
        /// The port's key.
        port: &'static str,
    },
    /// TLS without a certificate.
    #[error("{key} is not set: TLS needs a PEM file with the private key and its certificates")]
    NoKeyStore {
        /// What is missing.
        key: String,
    },
    /// Certificates are asked for, and nobody vouches for any.
    #[error(
        "{key} is not set: certificates of the other side cannot be checked; name a PEM file{or_else}"
    )]
    NoTrustStore {
        /// What is missing.
        key: String,
        /// What would do without it, if anything does.
        or_else: String,
    },
}

impl ConfigError {
    fn value(key: &str, value: String, allowed: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            key: key.to_owned(),
            value,
            allowed: allowed.into(),
        }
    }
}

/// The four-letter words that exist here.
pub(crate) const FOUR_LETTER_WORDS: [&str; 15] = [
    "ruok", "srvr", "stat", "mntr", "cons", "dump", "conf", "envi", "wchs", "wchc", "wchp", "dirs",
    "isro", "crst", "srst",
];

/// The port of ZooKeeper's `PrometheusMetricsProvider`.
const METRICS_PORT: u16 = 7000;

/// The port of ZooKeeper's AdminServer.
const ADMIN_PORT: u16 = 8080;

/// The port that every ZooKeeper client tries.
const CLIENT_PORT: u16 = 2181;

/// The largest request that can be allowed, in bytes: its transaction has to fit into a message between members
/// (`raft::grpc`), or the log would stop at it.
const JUTE_MAXBUFFER_MAX: u64 = 48 * 1024 * 1024;

/// What requests and answers may hold if nothing is set, in bytes: more than all the connections of one address can get,
/// 60 with 4 MiB each, so that nobody alone keeps the others waiting.
const LARGE_REQUEST_MAX_BYTES: u64 = 256 * 1024 * 1024;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Config {
    /// Checks every key, and reads the files that they name (`myid`, `dynamicConfigFile`, a JAAS file); what the user
    /// should hear of without being stopped comes with it, one line each.
    pub fn from_pairs(
        pairs: BTreeMap<String, String>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        const MS: std::ops::RangeInclusive<u64> = 1..=24 * 3600 * 1000;
        let mut warnings = Vec::new();
        let mut pairs = Pairs(pairs);
        let data_dir = pairs.path("dataDir").ok_or(ConfigError::NoDataDir)?;
        let data_log_dir = pairs.path("dataLogDir").unwrap_or_else(|| data_dir.clone());
        let ensemble = Ensemble::take(&mut pairs, &data_dir, &mut warnings)?;

        let secure_client_address =
            listener(&mut pairs, "secureClientPort", "secureClientPortAddress")?;
        let client_tls = match secure_client_address {
            Some(_) => Some(Tls::of_clients(&mut pairs)?),
            None => None,
        };
        let client = listener(&mut pairs, "clientPort", "clientPortAddress")?;
        let client_address = ensemble.client_address(client)?;
        let client_address = match secure_client_address {
            None => client_address.or(Some(SocketAddr::new(ensemble::ANY, CLIENT_PORT))),
            Some(_) => client_address,
        };

        let tick_time_ms = pairs.number("tickTime", 1..=600_000)?.unwrap_or(2000);
        let min = pairs
            .number("minSessionTimeout", MS)?
            .unwrap_or(2 * tick_time_ms);
        let max_value = pairs.number("maxSessionTimeout", MS)?;
        let max = max_value.unwrap_or((20 * tick_time_ms).max(min));
        if max < min {
            let allowed = format!("at least minSessionTimeout, which is {min}");
            return Err(ConfigError::value(
                "maxSessionTimeout",
                max.to_string(),
                allowed,
            ));
        }
        let read_only_mode_enabled = pairs.switch("readonlymode.enabled", false)?;
        let jute_maxbuffer = jute_maxbuffer(&mut pairs, &mut warnings)?;
        let auth = Auth::take(&mut pairs, client_tls.as_ref(), &mut warnings)?;
        let config = Config {
            data_dir,
            data_log_dir,
            client_address,
            secure_client_address,
            client_tls,
            tick_time_ms: tick_time_ms as u32,
            min_session_timeout_ms: min as u32,
            max_session_timeout_ms: max as u32,
            max_client_cnxns: pairs.number("maxClientCnxns", 0..=1_000_000)?.unwrap_or(60) as usize,
            max_cnxns: pairs.number("maxCnxns", 0..=10_000_000)?.unwrap_or(0) as usize,
            jute_maxbuffer,
            large_request_max_bytes: pairs
                .number("largeRequestMaxBytes", 1..=i64::MAX as u64)?
                .unwrap_or(LARGE_REQUEST_MAX_BYTES.max(8 * jute_maxbuffer as u64)),
            snap_count: pairs
                .number("snapCount", 2..=1_000_000_000)?
                .unwrap_or(100_000),
            ensemble,
            four_letter_words: four_letter_words(&mut pairs, read_only_mode_enabled),
            admin: admin(&mut pairs)?,
            metrics_address: metrics_address(&mut pairs)?,
            auth,
            extended_types_enabled: pairs.switch("extendedTypesEnabled", false)?,
            enforce_quota: pairs.switch("enforceQuota", false)?,
            read_only_mode_enabled,
            containers: Containers {
                check_interval_ms: pairs
                    .number("znode.container.checkIntervalMs", MS)?
                    .unwrap_or(60_000),
                max_per_minute: pairs
                    .number("znode.container.maxPerMinute", 1..=10_000_000)?
                    .unwrap_or(10_000) as u32,
                max_never_used_interval_ms: pairs
                    .number(
                        "znode.container.maxNeverUsedIntervalMs",
                        0..=i64::MAX as u64,
                    )?
                    .unwrap_or(0),
            },
        };
        let rest: Vec<String> = pairs.0.into_keys().collect();
        if !rest.is_empty() {
            warnings.push(format!("settings without effect here: {}", rest.join(", ")));
        }
        Ok((config, warnings))
    }
}

/// Where to listen, by the keys of a port and an address.
fn listener(
    pairs: &mut Pairs,
    port: &'static str,
    address: &'static str,
) -> Result<Option<SocketAddr>, ConfigError> {
    let is_bound = pairs.0.contains_key(address);
    let ip = pairs.address(address, ensemble::ANY)?;
    match pairs.port(port)? {
        Some(port) => Ok(Some(SocketAddr::new(ip, port))),
        None if is_bound => Err(ConfigError::AddressWithoutPort { address, port }),
        None => Ok(None),
    }
}

fn jute_maxbuffer(pairs: &mut Pairs, warnings: &mut Vec<String>) -> Result<usize, ConfigError> {
    let asked = pairs.number("jute.maxbuffer", 1024..=i32::MAX as u64)?;
    let asked = asked.unwrap_or(0xf_ffff);
    if asked > JUTE_MAXBUFFER_MAX {
        warnings.push(format!(
            "jute.maxbuffer={asked} is {JUTE_MAXBUFFER_MAX} here: more does not fit into a message between members"
        ));
    }
    Ok(asked.min(JUTE_MAXBUFFER_MAX) as usize)
}

fn admin(pairs: &mut Pairs) -> Result<Option<Admin>, ConfigError> {
    let ip = pairs.address("admin.serverAddress", LOOPBACK)?;
    let port = pairs.port("admin.serverPort")?;
    let enabled = pairs.switch("admin.enableServer", port.is_some())?;
    let command_url = pairs.take("admin.commandURL");
    let command_url = command_url.as_deref().unwrap_or("/commands");
    let command_url = command_url.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    let is_taken = ["/livez", "/readyz", "/metrics"].contains(&command_url);
    if !command_url.starts_with('/') || !command_url.chars().all(plain) || is_taken {
        let allowed = "a path of letters, digits and -_. that begins with / and is not /livez, /readyz or /metrics";
        return Err(ConfigError::value(
            "admin.commandURL",
            command_url.to_owned(),
            allowed,
        ));
    }
    Ok(enabled.then(|| Admin {
        address: SocketAddr::new(ip, port.unwrap_or(ADMIN_PORT)),
        command_url: command_url.to_owned(),
    }))
}

fn metrics_address(pairs: &mut Pairs) -> Result<Option<SocketAddr>, ConfigError> {
    let ip = pairs.address("metricsProvider.httpHost", LOOPBACK)?;
    let prometheus = pairs
        .take("metricsProvider.className")
        .is_some_and(|class| class.ends_with("PrometheusMetricsProvider"));
    let port = pairs.port("metricsProvider.httpPort")?;
    Ok(port
        .or(prometheus.then_some(METRICS_PORT))
        .map(|port| SocketAddr::new(ip, port)))
}

/// As in ZooKeeper `srvr` is always among them, for its own scripts need it, and so is `isro` where clients look for a
/// server to read from.
fn four_letter_words(pairs: &mut Pairs, read_only_mode: bool) -> BTreeSet<&'static str> {
    let list = pairs.take("4lw.commands.whitelist");
    let list = list.as_deref().unwrap_or("srvr,ruok,mntr");
    let listed = |word: &str| {
        let mut entries = list.split(',').map(str::trim);
        entries.any(|entry| entry == word || entry == "*")
    };
    let mut words = BTreeSet::from(FOUR_LETTER_WORDS);
    words.retain(|&word| listed(word) || word == "srvr" || word == "isro" && read_only_mode);
    words
}
