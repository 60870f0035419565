use std::path::Path;

use coord_core::required_schemes::RequiredSchemes;
use coord_core::server_spec::ServerRole;

use super::*;

fn from(set: &[&str]) -> Result<(Config, Vec<String>), ConfigError> {
    let set: Vec<String> = set.iter().map(|pair| pair.to_string()).collect();
    Config::from_pairs(load(None, &set)?)
}

/// Of a server by itself.
fn config(set: &[&str]) -> Result<Config, ConfigError> {
    let set = [&["dataDir=/nowhere"], set].concat();
    from(&set).map(|(config, _)| config)
}

fn refusal(set: &[&str]) -> String {
    config(set).unwrap_err().to_string()
}

/// A file zoo.cfg with `lines` and a dataDir that says `my_id`.
fn member(dir: &Path, my_id: &str, lines: &str) -> Result<(Config, Vec<String>), ConfigError> {
    std::fs::write(dir.join("myid"), my_id).unwrap();
    let path = dir.join("zoo.cfg");
    std::fs::write(&path, format!("dataDir={}\n{lines}", dir.display())).unwrap();
    Config::from_pairs(load(Some(&path), &[])?)
}

#[test]
fn defaults_are_zookeepers() {
    let (config, warnings) = from(&["dataDir=/nowhere"]).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.data_log_dir, config.data_dir);
    assert_eq!(config.client_address, Some("0.0.0.0:2181".parse().unwrap()));
    assert_eq!(
        (config.min_session_timeout_ms, config.max_session_timeout_ms),
        (4000, 40_000)
    );
    assert_eq!(
        (
            config.max_client_cnxns,
            config.snap_count,
            config.jute_maxbuffer
        ),
        (60, 100_000, 0xf_ffff)
    );
    assert_eq!(config.four_letter_words, ["srvr", "ruok", "mntr"].into());
    assert_eq!((config.admin, config.metrics_address), (None, None));
    assert_eq!(
        (config.secure_client_address, config.client_tls),
        (None, None)
    );
    assert!(config.ensemble.standalone && config.ensemble.servers.is_empty());
    assert!(config.auth.digest_enabled && config.auth.sasl_users.is_empty());
    assert!(!config.read_only_mode_enabled && !config.extended_types_enabled);
    assert_eq!(
        config.containers,
        Containers {
            check_interval_ms: 60_000,
            max_per_minute: 10_000,
            max_never_used_interval_ms: 0
        }
    );
}

#[test]
fn a_bad_value_names_key_value_and_what_is_allowed() {
    assert_eq!(
        refusal(&["clientPort=99999"]),
        "clientPort=99999 is not allowed: it must be a whole number from 0 to 65535"
    );
    assert_eq!(
        refusal(&["maxSessionTimeout=10"]),
        "maxSessionTimeout=10 is not allowed: it must be at least minSessionTimeout, which is 4000"
    );
    assert_eq!(
        refusal(&["readonlymode.enabled=maybe"]),
        "readonlymode.enabled=maybe is not allowed: it must be true or false"
    );
    assert!(refusal(&["clientPort"]).starts_with("--set \"clientPort\" is not of the form"));
    assert!(refusal(&["clientPortAddress=::1"]).starts_with("clientPortAddress is set, but"));
    assert!(refusal(&["clientPort=1", "clientPortAddress=no such host"]).contains("IPv4 or IPv6"));
    assert_eq!(
        Config::from_pairs(BTreeMap::new()),
        Err(ConfigError::NoDataDir)
    );
}

#[test]
fn jvm_properties_are_keys_with_or_without_their_prefix() {
    for prefix in ["", "zookeeper."] {
        let set = [
            "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
            "extendedTypesEnabled=true",
            "readonlymode.enabled=True",
            "znode.container.checkIntervalMs=100",
            "jute.maxbuffer=0x400000",
            "skipACL=yes",
            "X509AuthenticationProvider.superUser=CN=admin",
            "superUser=root",
            "superUser.1=bob",
        ]
        .map(|pair| format!("{prefix}{pair}"));
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let config = config(&set).unwrap();
        let auth = &config.auth;
        assert_eq!(
            auth.super_digest.as_deref(),
            Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
        );
        assert_eq!(auth.x509_super_user.as_deref(), Some("CN=admin"));
        assert_eq!(
            auth.sasl_super_users,
            ["bob", "root"].map(str::to_owned).into()
        );
        assert!(auth.skip_acl && config.extended_types_enabled && config.read_only_mode_enabled);
        assert_eq!(config.containers.check_interval_ms, 100);
        assert_eq!(config.jute_maxbuffer, 0x40_0000);
    }
}

#[test]
fn yes_is_no_truth_value_as_in_zookeeper() {
    for key in ["reconfigEnabled", "standaloneEnabled", "sslQuorum"] {
        let pair = format!("{key}=yes");
        assert_eq!(
            refusal(&[&pair]),
            format!("{pair} is not allowed: it must be true or false")
        );
    }
}

#[test]
fn what_means_nothing_here_is_named_in_one_warning() {
    let (_, warnings) = from(&[
        "dataDir=/nowhere",
        "tickTime=100",
        "autopurge.purgeInterval=1",
        "zookeeper.forceSync=no",
    ])
    .unwrap();
    assert_eq!(
        warnings,
        ["settings without effect here: autopurge.purgeInterval, forceSync"]
    );
}

#[test]
fn both_file_formats_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let properties = dir.path().join("zoo.cfg");
    std::fs::write(
        &properties,
        "# a comment\n! another\ndataDir = /nowhere\nadmin.serverPort: 8080\n4lw.commands.whitelist=srvr,\\\n  ruok\n",
    )
    .unwrap();
    let toml = dir.path().join("coord.toml");
    std::fs::write(
        &toml,
        "dataDir = '/nowhere'\n\"4lw.commands.whitelist\" = ['srvr', 'ruok']\n[admin]\nserverPort = 8080\n",
    )
    .unwrap();
    let pairs = |path| Config::from_pairs(load(Some(path), &[]).unwrap()).unwrap();
    let (config, _) = pairs(&properties);
    assert_eq!(config, pairs(&toml).0);
    let admin = config.admin.unwrap();
    assert_eq!(admin.address, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(admin.command_url, "/commands");
    assert_eq!(config.four_letter_words, ["srvr", "ruok"].into());
}

#[test]
fn an_ensemble_as_the_documentation_of_zookeeper_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "tickTime=2000\ndataLogDir=/log\nclientPort=2181\ninitLimit=5\nsyncLimit=2\n\
        server.1=zoo1:2888:3888\nserver.2=zoo2:2888:3888:participant;2182\nserver.3=[::1]:2888:3888:observer;127.0.0.1:2183\n\
        server.4=zoo4:2888:3888|zoo5:2889:3889\n";
    let (config, warnings) = member(dir.path(), "1\n", lines).unwrap();
    assert_eq!(config.data_log_dir, Path::new("/log"));
    assert_eq!(config.client_address, Some("0.0.0.0:2181".parse().unwrap()));
    let ensemble = config.ensemble;
    assert_eq!((ensemble.my_id, ensemble.standalone), (1, false));
    assert_eq!(
        (ensemble.init_limit_ticks, ensemble.sync_limit_ticks),
        (5, 2)
    );
    let servers: Vec<_> = ensemble
        .servers
        .iter()
        .map(|(id, server)| format!("server.{id}={server}"))
        .collect();
    assert_eq!(
        servers,
        [
            "server.1=zoo1:2888:3888:participant",
            "server.2=zoo2:2888:3888:participant;0.0.0.0:2182",
            "server.3=[0:0:0:0:0:0:0:1]:2888:3888:observer;127.0.0.1:2183",
            "server.4=zoo4:2888:3888:participant",
        ]
    );
    assert_eq!(
        warnings,
        ["server.4 has several addresses: zoo4:2888:3888 is used"]
    );

    let (config, warnings) = member(
        dir.path(),
        "3",
        &lines.replace("clientPort=2181", "peerType=participant"),
    )
    .unwrap();
    assert_eq!(
        config.client_address,
        Some("127.0.0.1:2183".parse().unwrap())
    );
    assert_eq!(config.ensemble.me().unwrap().role, ServerRole::Observer);
    assert!(
        warnings
            .iter()
            .any(|line| line.starts_with("peerType=participant is not what"))
    );
    let error = member(dir.path(), "3", lines).unwrap_err();
    assert!(
        matches!(error, ConfigError::TwoClientAddresses { .. }),
        "{error}"
    );
}

#[test]
fn a_member_has_to_know_which_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n";
    let error = |my_id| member(dir.path(), my_id, lines).unwrap_err().to_string();
    assert!(error("4").contains("but there is no server.4"));
    for text in ["", "one", "-1", "9223372036854775808"] {
        assert!(
            error(text).contains("myid: it has to hold the number"),
            "{text}"
        );
    }
    let set = ["server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2"];
    assert!(refusal(&set).starts_with("/nowhere/myid is missing"));
    assert!(refusal(&["server.x=a:1:2"]).starts_with("server.x="));
    assert_eq!(
        refusal(&["server.1=a:1:1"]),
        "server.1=a:1:1 is no server: its two ports have to differ"
    );
    let twice = ["server.1=a:1:2", "server.2=a:3:2", "server.3=a:1:4"];
    assert_eq!(
        refusal(&twice),
        "server.3=a:1:4:participant is not allowed: it must be at an address of its own: server.1 has this one"
    );
}

#[test]
fn one_participant_is_a_server_by_itself_unless_that_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let one = "server.7=localhost:1:2;0";
    let (config, _) = member(dir.path(), "7", one).unwrap();
    assert!(config.ensemble.standalone);
    assert_eq!(config.ensemble.my_id, 7);
    let off = format!("{one}\nstandaloneEnabled=false");
    assert!(!member(dir.path(), "7", &off).unwrap().0.ensemble.standalone);
    for lines in [
        "standaloneEnabled=false",
        "server.7=localhost:1:2:observer",
        "server.7=localhost:1:2\nserver.8=localhost:3:4:observer",
    ] {
        let error = member(dir.path(), "7", lines).unwrap_err();
        assert_eq!(error, ConfigError::NoParticipants, "{lines}");
    }
}

#[test]
fn the_list_may_be_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = dir.path().join("zoo.cfg.dynamic.100000000");
    let list = "server.1=a:1:2;2181\nserver.2=b:1:2;2181\nserver.3=c:1:2;2181\nversion=100000000\n";
    std::fs::write(&dynamic, list).unwrap();
    let key = format!("dynamicConfigFile={}\n", dynamic.display());
    let (config, warnings) = member(dir.path(), "2", &key).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.ensemble.servers.len(), 3);
    let both = format!("{key}server.1=a:1:2");
    assert_eq!(
        member(dir.path(), "2", &both).unwrap_err(),
        ConfigError::TwoLists
    );
    std::fs::write(&dynamic, format!("{list}clientPort=1\n")).unwrap();
    let error = member(dir.path(), "2", &key).unwrap_err().to_string();
    assert!(
        error.contains("clientPort is not a setting of the dynamic file"),
        "{error}"
    );
    std::fs::remove_file(&dynamic).unwrap();
    let error = member(dir.path(), "2", &key).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
}

#[test]
fn tls_needs_its_files() {
    assert!(refusal(&["secureClientPort=2281"]).starts_with("ssl.keyStore.location is not set"));
    let key_store = "ssl.keyStore.location=/k.pem";
    assert!(
        refusal(&["secureClientPort=2281", key_store])
            .starts_with("ssl.trustStore.location is not set")
    );
    let secure = config(&["secureClientPort=2281", key_store, "ssl.clientAuth=none"]).unwrap();
    assert_eq!(secure.client_address, None);
    let tls = secure.client_tls.unwrap();
    assert_eq!(tls.client_auth, ClientAuth::None);
    assert_eq!(tls.versions.len(), 2);

    let both = [
        "secureClientPort=2281",
        "clientPort=2181",
        key_store,
        "ssl.keyStore.password=p",
        "ssl.trustStore.location=/t.pem",
        "ssl.trustStore.password=p",
        "ssl.enabledProtocols=TLSv1.1,TLSv1.2",
    ];
    let both = config(&both).unwrap();
    assert_eq!(both.client_address.unwrap().port(), 2181);
    let tls = both.client_tls.unwrap();
    assert_eq!(tls.client_auth, ClientAuth::Need);
    assert_eq!(tls.versions, [TlsVersion::V1_2].into());
    assert_eq!(tls.key_store_password.as_deref(), Some("p"));
    for bad in [
        "ssl.protocol=SSLv3",
        "ssl.clientAuth=perhaps",
        "ssl.crl=true",
    ] {
        let key = bad.split('=').next().unwrap();
        let refusal = refusal(&[
            "secureClientPort=2281",
            key_store,
            "ssl.trustStore.location=/t.pem",
            bad,
        ]);
        assert!(refusal.starts_with(key), "{refusal}");
    }
}

#[test]
fn who_may_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let jaas = dir.path().join("jaas.conf");
    std::fs::write(
        &jaas,
        "Server { m required user_super=\"s\" user_bob=\"b\"; };",
    )
    .unwrap();
    let login = format!("java.security.auth.login.config={}", jaas.display());
    let users = |set: &[&str]| {
        config(set)
            .unwrap()
            .auth
            .sasl_users
            .into_iter()
            .collect::<Vec<_>>()
    };
    let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
    assert_eq!(
        users(&[&login, "sasl.user.eve=e"]),
        [pair("bob", "b"), pair("eve", "e"), pair("super", "s")]
    );
    let other = ["dataDir=/nowhere", &login, "sasl.serverconfig=Other"];
    let (other, warnings) = from(&other).unwrap();
    assert!(other.auth.sasl_users.is_empty());
    assert!(
        matches!(&warnings[..], [warning] if warning.contains("section Other names no user")),
        "{warnings:?}"
    );

    let schemes = |set: &[&str]| config(set).unwrap().auth.required_schemes;
    let any_of = |names: &[&'static str]| RequiredSchemes::any_of(names.iter().copied()).unwrap();
    assert_eq!(schemes(&["enforce.auth.schemes=sasl"]), any_of(&[]));
    let bob = "sasl.user.bob=b";
    let tls = [
        "secureClientPort=2281",
        "ssl.keyStore.location=k",
        "ssl.trustStore.location=t",
        "ssl.clientAuth=want",
    ];
    let enforced = |schemes: &'static str| ["enforce.auth.enabled=true", schemes];
    let set = [
        &enforced("enforce.auth.schemes=sasl, x509")[..],
        &tls,
        &[bob],
    ]
    .concat();
    assert_eq!(schemes(&set), any_of(&["sasl", "x509"]));
    let require_sasl = "sessionRequireClientSASLAuth=true";
    assert_eq!(schemes(&[require_sasl, bob]), any_of(&["sasl"]));
    // Nobody could come in, or not as one of those that are named.
    let refused = refusal(&[require_sasl]);
    assert!(
        refused.starts_with("sessionRequireClientSASLAuth asks for sasl, which nobody can show")
            && refused.contains("sasl.user.NAME=PASSWORD"),
        "{refused}"
    );
    let refused = refusal(&enforced("enforce.auth.schemes=digest,sasl"));
    assert!(
        refused.starts_with("enforce.auth.schemes asks for sasl"),
        "{refused}"
    );
    for set in [
        enforced("enforce.auth.schemes=x509").to_vec(),
        [
            &enforced("enforce.auth.schemes=x509")[..],
            &tls[..2],
            &["ssl.clientAuth=none"],
        ]
        .concat(),
    ] {
        let refused = refusal(&set);
        assert!(
            refused.contains("x509") && refused.contains("ssl.clientAuth=want or need"),
            "{refused}"
        );
    }
    let no_digest = "DigestAuthenticationProvider.enabled=false";
    let set = [&enforced("enforce.auth.schemes=digest")[..], &[no_digest]].concat();
    assert!(refusal(&set).contains("asks for digest"));
    assert!(refusal(&["enforce.auth.enabled=true"]).starts_with("enforce.auth.schemes="));
    assert!(
        refusal(&[
            "enforce.auth.enabled=true",
            "enforce.auth.schemes=sasl,magic"
        ])
        .starts_with("enforce.auth.schemes=")
    );
    let refused = refusal(&["DigestAuthenticationProvider.superDigest=hash"]);
    assert!(
        refused.contains("superDigest") && refused.ends_with("user:digest"),
        "{refused}"
    );
    assert!(!refused.contains("hash"), "{refused}");
}

#[test]
fn a_provider_that_is_not_there_is_named() {
    let zookeepers = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
    let own = "authProvider.own=com.example.Own";
    let (_, warnings) = from(&["dataDir=/nowhere", zookeepers, own]).unwrap();
    assert!(
        matches!(&warnings[..], [warning] if warning.starts_with(own)),
        "{warnings:?}"
    );
}

#[test]
fn members_always_show_certificates_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let lines =
        "server.1=a:1:2\nserver.2=b:1:2\nsslQuorum=true\nssl.quorum.keyStore.location=k.pem\n";
    let refusal = |more: &str| {
        let refused = member(dir.path(), "1", &format!("{lines}{more}"));
        refused.unwrap_err().to_string()
    };
    for auth in ["none", "want"] {
        let refused = refusal(&format!("ssl.quorum.clientAuth={auth}"));
        assert!(refused.ends_with("it must be need"), "{refused}");
    }
    let refused = refusal("");
    assert!(
        refused.starts_with("ssl.quorum.trustStore.location is not set")
            && refused.ends_with("name a PEM file"),
        "{refused}"
    );
    let more = "ssl.quorum.trustStore.location=t.pem\nssl.quorum.clientAuth=NEED";
    assert!(member(dir.path(), "1", &format!("{lines}{more}")).is_ok());
}

#[test]
fn a_request_is_never_longer_than_members_can_tell_each_other() {
    let (config, warnings) = from(&["dataDir=/nowhere", "jute.maxbuffer=0x7fffffff"]).unwrap();
    assert_eq!(config.jute_maxbuffer, 48 << 20);
    assert!(
        matches!(&warnings[..], [warning] if warning.starts_with("jute.maxbuffer=2147483647 is 50331648")),
        "{warnings:?}"
    );
}

#[test]
fn http_is_off_unless_it_is_asked_for() {
    let admin = |set: &[&str]| config(set).unwrap().admin;
    assert_eq!(
        admin(&["admin.serverPort=9", "admin.enableServer=false"]),
        None
    );
    assert_eq!(
        admin(&["admin.enableServer=true"]).unwrap().address.port(),
        8080
    );
    let set = [
        "admin.serverPort=9",
        "admin.serverAddress=0.0.0.0",
        "admin.commandURL=/zk/",
    ];
    let both = admin(&set).unwrap();
    assert_eq!(both.address, "0.0.0.0:9".parse().unwrap());
    assert_eq!(both.command_url, "/zk");
    for url in ["{x}", "/metrics", "/livez/", "/readyz"] {
        let set = format!("admin.commandURL={url}");
        assert!(refusal(&[&set]).starts_with("admin.commandURL="), "{url}");
    }
    let metrics = |set: &[&str]| config(set).unwrap().metrics_address;
    let class = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
    assert_eq!(metrics(&[class]), Some("127.0.0.1:7000".parse().unwrap()));
    assert_eq!(
        metrics(&[class, "metricsProvider.httpPort=7"]),
        Some("127.0.0.1:7".parse().unwrap())
    );
}

#[test]
fn the_whitelist_is_as_in_zookeeper() {
    let words = |set: &[&str]| config(set).unwrap().four_letter_words;
    assert_eq!(
        words(&["4lw.commands.whitelist=nope, ruok"]),
        ["ruok", "srvr"].into()
    );
    let all = words(&["4lw.commands.whitelist=ruok,*"]);
    assert_eq!(all, FOUR_LETTER_WORDS.into());
    let set = ["4lw.commands.whitelist=conf", "readonlymode.enabled=true"];
    assert_eq!(words(&set), ["conf", "isro", "srvr"].into());
}

#[test]
fn hostile_lines_are_refused_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    for lines in [
        "server.1=\\u00zz",
        "server.=a:1:2",
        "server.99999999999999999999=a:1:2",
        "server.1=[:1:2",
        "server.1=;;;",
        "server.1=a:1:2\\nversion=7",
        "tickTime=-1",
        "tickTime=0x",
        "jute.maxbuffer=99999999999999999999999",
    ] {
        assert!(member(dir.path(), "1", lines).is_err(), "{lines}");
    }
    let large = dir.path().join("large.cfg");
    std::fs::File::create(&large)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    assert!(matches!(
        load(Some(&large), &[]),
        Err(ConfigError::Unreadable { .. })
    ));
    let not_toml = dir.path().join("coord.toml");
    std::fs::write(&not_toml, "dataDir").unwrap();
    assert!(matches!(
        load(Some(&not_toml), &[]),
        Err(ConfigError::Malformed { .. })
    ));
}
