//! TLS, and who may show how that they are who.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coord_core::required_schemes::RequiredSchemes;

use super::source::{self, Pairs};
use super::{ConfigError, jaas};

/// What a listener asks of a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// There is no asking for one.
    None,
    /// One that is shown has to be good; none need be.
    Want,
    /// A good one has to be shown.
    Need,
}

/// What `ssl.clientAuth` may be.
const CLIENT_AUTHS: [(&str, ClientAuth); 3] = [
    ("none", ClientAuth::None),
    ("want", ClientAuth::Want),
    ("need", ClientAuth::Need),
];

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Certificates and keys of a listener: the `ssl.` keys, or the `ssl.quorum.` keys. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `keyStore.location`: the private key, and its certificate with the chain behind it.
    pub key_store: PathBuf,
    /// `keyStore.password`, or the content of the file `keyStore.passwordPath`.
    pub key_store_password: Option<String>,
    /// `trustStore.location`: the certificates of those who may vouch for the other side.
    pub trust_store: Option<PathBuf>,
    /// `clientAuth`.
    pub client_auth: ClientAuth,
    /// `enabledProtocols`, or `protocol`: both versions if neither is set.
    pub versions: BTreeSet<TlsVersion>,
    /// `hostnameVerification`: whether a member's certificate has to be for the host that was called.
    pub hostname_verification: bool,
}

impl Tls {
    /// Takes `ssl.*`, of the secure port.
    pub(super) fn of_clients(pairs: &mut Pairs) -> Result<Tls, ConfigError> {
        Tls::take(pairs, "ssl.", &CLIENT_AUTHS)
    }

    /// Takes `ssl.quorum.*`. Members show certificates to each other: nothing else says that a caller is a member.
    pub(super) fn of_members(pairs: &mut Pairs) -> Result<Tls, ConfigError> {
        Tls::take(pairs, "ssl.quorum.", &[("need", ClientAuth::Need)])
    }

    fn take(
        pairs: &mut Pairs,
        prefix: &str,
        client_auths: &[(&str, ClientAuth)],
    ) -> Result<Tls, ConfigError> {
        let key = |name: &str| format!("{prefix}{name}");
        for check in ["crl", "ocsp"] {
            pairs.refuse_true(&key(check))?;
        }
        let location = key("keyStore.location");
        let key_store = pairs
            .path(&location)
            .ok_or(ConfigError::NoKeyStore { key: location })?;
        let mut client_auth = ClientAuth::Need;
        if let Some(value) = pairs.take(&key("clientAuth")) {
            let named = |(name, _): &&(&str, ClientAuth)| value.eq_ignore_ascii_case(name);
            let Some((_, named)) = client_auths.iter().find(named) else {
                let names: Vec<_> = client_auths.iter().map(|(name, _)| *name).collect();
                let allowed = names.join(" or ");
                return Err(ConfigError::value(&key("clientAuth"), value, allowed));
            };
            client_auth = *named;
        }
        let trust_store = pairs.path(&key("trustStore.location"));
        if trust_store.is_none() && client_auth != ClientAuth::None {
            let none = client_auths.iter().find(|(_, it)| *it == ClientAuth::None);
            let or_else = none.map(|(name, _)| format!(", or set {}={name}", key("clientAuth")));
            return Err(ConfigError::NoTrustStore {
                key: key("trustStore.location"),
                or_else: or_else.unwrap_or_default(),
            });
        }
        // Certificates are no secret: a PEM file of them has no password to open it with.
        pairs.take(&key("trustStore.password"));
        pairs.take(&key("trustStore.passwordPath"));
        Ok(Tls {
            key_store,
            key_store_password: password(pairs, &key("keyStore"))?,
            trust_store,
            client_auth,
            versions: versions(pairs, prefix)?,
            hostname_verification: pairs.switch(&key("hostnameVerification"), true)?,
        })
    }
}

fn password(pairs: &mut Pairs, store: &str) -> Result<Option<String>, ConfigError> {
    let file = pairs.path(&format!("{store}.passwordPath"));
    let direct = pairs.take(&format!("{store}.password"));
    match file {
        None => Ok(direct),
        Some(file) => Ok(Some(line(&file)?)),
    }
}

fn line(path: &Path) -> Result<String, ConfigError> {
    let text = String::from_utf8_lossy(&source::read_file(path)?).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn versions(pairs: &mut Pairs, prefix: &str) -> Result<BTreeSet<TlsVersion>, ConfigError> {
    let one = pairs.take(&format!("{prefix}protocol"));
    let several = pairs.take(&format!("{prefix}enabledProtocols"));
    let (key, value) = match (several, one) {
        (Some(several), _) => ("enabledProtocols", several),
        (None, Some(one)) => ("protocol", one),
        (None, None) => return Ok(BTreeSet::from([TlsVersion::V1_2, TlsVersion::V1_3])),
    };
    let known = |name: &str| match name.trim() {
        "TLSv1.2" => Some(TlsVersion::V1_2),
        "TLSv1.3" => Some(TlsVersion::V1_3),
        // What Java calls any version; the older ones are not safe.
        _ => None,
    };
    if value.trim() == "TLS" {
        return Ok(BTreeSet::from([TlsVersion::V1_2, TlsVersion::V1_3]));
    }
    let versions: BTreeSet<TlsVersion> = value.split(',').filter_map(known).collect();
    if versions.is_empty() {
        let allowed = "TLSv1.2, TLSv1.3 or both with a comma";
        return Err(ConfigError::value(
            &format!("{prefix}{key}"),
            value,
            allowed,
        ));
    }
    Ok(versions)
}

/// How clients show who they are, and who needs no permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `DigestAuthenticationProvider.enabled`: whether there is a scheme `digest`.
    pub digest_enabled: bool,
    /// `DigestAuthenticationProvider.superDigest`: `super:` and the digest of who may do everything.
    pub super_digest: Option<String>,
    /// `X509AuthenticationProvider.superUser`: the subject of the certificate whose holder may do everything.
    pub x509_super_user: Option<String>,
    /// Users of SASL DIGEST-MD5 with their passwords: `sasl.user.NAME=PASSWORD`, or the `user_NAME` entries of a JAAS
    /// file's section. There is no SASL if it is empty.
    pub sasl_users: BTreeMap<String, String>,
    /// `superUser`, `superUser.N`: users of SASL who may do everything.
    pub sasl_super_users: BTreeSet<String>,
    /// `allowSaslFailedClients`: whether a connection lives on when its SASL exchange fails.
    pub allow_sasl_failed_clients: bool,
    /// `enforce.auth.enabled` with `enforce.auth.schemes`, or `sessionRequireClientSASLAuth`: a session does nothing
    /// before it has shown an identity of one of these schemes. None by default.
    pub required_schemes: RequiredSchemes,
    /// `skipACL`: whether access control lists are not looked at.
    pub skip_acl: bool,
}

impl Auth {
    /// Takes its keys; what deserves a word goes to `warnings`. `tls` is that of the secure port.
    pub(super) fn take(
        pairs: &mut Pairs,
        tls: Option<&Tls>,
        warnings: &mut Vec<String>,
    ) -> Result<Auth, ConfigError> {
        pairs.refuse_true("quorum.auth.enableSasl")?;
        // Which of ZooKeeper's providers there are follows from the other keys here.
        for (key, class) in pairs.take_all("authProvider.") {
            if !class.starts_with("org.apache.zookeeper.server.auth.") {
                warnings.push(format!(
                    "authProvider.{key}={class} is not there: nobody is authenticated by it"
                ));
            }
        }
        pairs.take("ssl.authProvider");
        let digest_enabled = pairs.switch("DigestAuthenticationProvider.enabled", true)?;
        let mut sasl_super_users: BTreeSet<String> = pairs
            .take_all("superUser.")
            .into_iter()
            .map(|(_, user)| user)
            .collect();
        sasl_super_users.extend(pairs.take("superUser"));
        let sasl_users = sasl_users(pairs, warnings)?;
        let can_show = |scheme: &str| match scheme {
            "digest" => digest_enabled,
            "sasl" => !sasl_users.is_empty(),
            "x509" => tls.is_some_and(|tls| tls.client_auth != ClientAuth::None),
            _ => true,
        };
        let required_schemes = required_schemes(pairs, can_show)?;
        Ok(Auth {
            digest_enabled,
            super_digest: super_digest(pairs)?,
            x509_super_user: pairs.take("X509AuthenticationProvider.superUser"),
            sasl_users,
            sasl_super_users,
            allow_sasl_failed_clients: pairs.switch("allowSaslFailedClients", false)?,
            required_schemes,
            skip_acl: pairs.yes_or_no("skipACL", false)?,
        })
    }
}

fn super_digest(pairs: &mut Pairs) -> Result<Option<String>, ConfigError> {
    const KEY: &str = "DigestAuthenticationProvider.superDigest";
    // Only the digest that clients compute too is there.
    if let Some(algorithm) = pairs.take("DigestAuthenticationProvider.digestAlg")
        && !algorithm.eq_ignore_ascii_case("SHA1")
    {
        let key = "DigestAuthenticationProvider.digestAlg";
        return Err(ConfigError::value(key, algorithm, "SHA1"));
    }
    match pairs.take(KEY) {
        Some(value) if value.split(':').count() != 2 => {
            let allowed = "of the form user:digest";
            Err(ConfigError::Secret { key: KEY, allowed })
        }
        value => Ok(value),
    }
}

fn sasl_users(
    pairs: &mut Pairs,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let section = pairs.take("sasl.serverconfig");
    let section = section.as_deref().unwrap_or("Server");
    let mut users = BTreeMap::new();
    if let Some(file) = pairs.path("java.security.auth.login.config") {
        let text = String::from_utf8_lossy(&source::read_file(&file)?).into_owned();
        users = jaas::users(&text, section).map_err(|cause| ConfigError::Malformed {
            path: file.display().to_string(),
            cause: cause.to_string(),
        })?;
        if users.is_empty() {
            warnings.push(format!(
                "{}: its section {section} names no user for DIGEST-MD5, so it lets nobody in by SASL",
                file.display()
            ));
        }
    }
    users.extend(pairs.take_all("sasl.user."));
    if let Some(password) = pairs.take("SASLAuthenticationProvider.superPassword") {
        users.insert("super".to_owned(), password);
    }
    Ok(users)
}

/// What each scheme that can be asked for needs, beside `ip`, which everybody shows.
const WAYS_OUT: [(&str, &str); 3] = [
    (
        "digest",
        "set DigestAuthenticationProvider.enabled=true, or ask for another",
    ),
    (
        "sasl",
        "name its users by java.security.auth.login.config or sasl.user.NAME=PASSWORD, or ask for another",
    ),
    (
        "x509",
        "set secureClientPort, with ssl.clientAuth=want or need, or ask for another",
    ),
];

fn required_schemes(
    pairs: &mut Pairs,
    can_show: impl Fn(&str) -> bool,
) -> Result<RequiredSchemes, ConfigError> {
    const ENFORCED: &str = "enforce.auth.schemes";
    const SASL: &str = "sessionRequireClientSASLAuth";
    let enforced = pairs.switch("enforce.auth.enabled", false)?;
    let schemes = pairs.take(ENFORCED).unwrap_or_default();
    let sasl = pairs.switch(SASL, false)?;
    let (key, names) = match (sasl, enforced) {
        (true, _) => (SASL, "sasl"),
        (false, true) => (ENFORCED, &*schemes),
        (false, false) => return Ok(RequiredSchemes::default()),
    };
    let Ok(required) = RequiredSchemes::any_of(names.split(',').map(str::trim)) else {
        let allowed = "a list of ip, digest, sasl and x509, if enforce.auth.enabled is set";
        return Err(ConfigError::value(ENFORCED, schemes, allowed));
    };
    for (scheme, way_out) in WAYS_OUT {
        if required.contains(scheme) && !can_show(scheme) {
            return Err(ConfigError::NobodyCanShow {
                key,
                scheme,
                way_out,
            });
        }
    }
    Ok(required)
}
