//! Who clients show to be: by a certificate, or by SASL.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use zookeeper_wire::{Acl, CreateRequest, PathWatch, Request};

use crate::process::{Coord, refused};
use crate::raw::{self, RawClient};

const AUTH_FAILED: i32 = -115;
const NO_AUTH: i32 = -102;
const SASL_REQUIRED: i32 = -124;

/// Files of an authority, of a server and of a client that it vouches for, and of another client.
struct Certificates {
    _dir: tempfile::TempDir,
    authority: PathBuf,
    server: PathBuf,
    client: PathBuf,
    stranger: PathBuf,
}

fn certificates() -> Certificates {
    let dir = tempfile::tempdir().unwrap();
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let issued = |name: &str, issuer: &Issuer<'_, KeyPair>| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "a, b");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        write(
            name,
            &format!("{}{}", key.serialize_pem(), certificate.pem()),
        )
    };
    let (pem, issuer) = authority();
    let (_, other) = authority();
    Certificates {
        authority: write("authority", &pem),
        server: issued("server", &issuer),
        client: issued("client", &issuer),
        stranger: issued("stranger", &other),
        _dir: dir,
    }
}

impl Certificates {
    fn start(&self, set: &[&str]) -> Coord {
        let key_store = format!("ssl.keyStore.location={}", self.server.display());
        let trust_store = format!("ssl.trustStore.location={}", self.authority.display());
        let own = ["secureClientPort=0", &key_store, &trust_store];
        Coord::start_with(&[&own, set].concat())
    }

    /// A client that trusts the authority, with a certificate or without.
    fn dial(&self, address: SocketAddr, own: Option<&Path>) -> Option<TlsClient> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&self.authority).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let chain = CertificateDer::pem_file_iter(path).unwrap();
                let chain = chain.map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_file(path).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = StreamOwned::new(tls, raw::open(address));
        RawClient::resume_on(stream, 20_000, 0, Bytes::from_static(&[0; 16]), 0)
    }
}

type TlsClient = RawClient<StreamOwned<ClientConnection, TcpStream>>;

/// Creates a znode that only `scheme`'s `id` may do anything with.
fn create_for(path: &str, scheme: &str, id: &str) -> Request {
    let acl = Acl {
        perms: 31,
        scheme: scheme.to_owned().into(),
        id: id.to_owned().into(),
    };
    Request::Create(CreateRequest {
        path: path.to_owned().into(),
        data: None,
        acl: vec![acl],
        flags: 0,
    })
}

fn get(path: &'static str) -> Request {
    Request::GetData(PathWatch {
        path: path.into(),
        watch: false,
    })
}

/// `version_1.pem` is what `openssl x509 -req -signkey` makes of a key without being told of extensions: a certificate
/// that rustls cannot read, and that clients may trust all the same.
#[test]
fn a_certificate_of_version_1_is_served() {
    let coord = Coord::start_with(&[
        "secureClientPort=0",
        "ssl.clientAuth=none",
        concat!(
            "ssl.keyStore.location=",
            env!("CARGO_MANIFEST_DIR"),
            "/tests/server/version_1.pem"
        ),
    ]);
    assert_ne!(coord.listens("secureClientPort").port(), 0);
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    let certificates = certificates();
    let key = std::fs::read_to_string(&certificates.stranger).unwrap();
    let (key, _) = key.split_once("-----BEGIN CERTIFICATE-----").unwrap();
    let server = std::fs::read_to_string(&certificates.server).unwrap();
    let at = server.find("-----BEGIN CERTIFICATE-----").unwrap();
    let mixed = certificates.server.with_extension("mixed");
    std::fs::write(&mixed, format!("{key}{}", &server[at..])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key_store = format!("ssl.keyStore.location={}", mixed.display());
    let output = refused(
        dir.path(),
        &["secureClientPort=0", "ssl.clientAuth=none", &key_store],
    );
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("do not go together"), "{complaint}");
}

#[test]
fn a_certificate_shows_who_a_client_is() {
    let certificates = certificates();
    let coord = certificates.start(&[]);
    let secure = coord.listens("secureClientPort");
    let mut plain = RawClient::connect(coord.address, 20_000);
    let for_client = create_for("/x509", "x509", r"CN=client,O=a\, b");
    assert_eq!(plain.ask(1, &for_client).error, 0);
    assert_eq!(plain.ask(2, &get("/x509")).error, NO_AUTH);

    let mut client = certificates
        .dial(secure, Some(&certificates.client))
        .unwrap();
    assert_eq!(client.ask(1, &get("/x509")).error, 0);
    // Many frames at once, and large ones: TLS has records of its own.
    let large = Request::SetData(zookeeper_wire::SetDataRequest {
        path: "/x509".into(),
        data: Some(vec![7; 700_000].into()),
        version: -1,
    });
    assert_eq!(client.ask(2, &large).error, 0);
    for xid in 3..23 {
        client.send(xid, &get("/x509"));
    }
    for xid in 3..23 {
        let mut reply = client.receive().unwrap();
        assert_eq!((reply.xid, reply.error), (xid, 0));
        assert_eq!(reply.body.buffer().unwrap().unwrap().len(), 700_000);
    }

    let mut server = certificates
        .dial(secure, Some(&certificates.server))
        .unwrap();
    assert_eq!(server.ask(1, &get("/x509")).error, NO_AUTH);
}

#[test]
fn without_a_good_certificate_nobody_comes_in() {
    let certificates = certificates();
    let coord = certificates.start(&[]);
    let secure = coord.listens("secureClientPort");
    assert!(certificates.dial(secure, None).is_none());
    assert!(
        certificates
            .dial(secure, Some(&certificates.stranger))
            .is_none()
    );
    let mut plain = raw::open(secure);
    std::io::Write::write_all(&mut plain, b"ruok").unwrap();
    assert!(raw::read_frame(&mut plain).is_none());
    assert!(
        certificates
            .dial(secure, Some(&certificates.client))
            .is_some()
    );
}

#[test]
fn a_certificate_may_be_optional_and_its_holder_the_super_user() {
    let certificates = certificates();
    let coord = certificates.start(&[
        "ssl.clientAuth=want",
        r"X509AuthenticationProvider.superUser=CN=client,O=a\, b",
        "ssl.protocol=TLSv1.2",
    ]);
    let secure = coord.listens("secureClientPort");
    let mut nobody = certificates.dial(secure, None).unwrap();
    assert_eq!(nobody.ask(1, &create_for("/a", "digest", "a:b")).error, 0);
    assert_eq!(nobody.ask(2, &get("/a")).error, NO_AUTH);
    assert!(
        certificates
            .dial(secure, Some(&certificates.stranger))
            .is_none()
    );
    let mut root = certificates
        .dial(secure, Some(&certificates.client))
        .unwrap();
    assert_eq!(root.ask(1, &get("/a")).error, 0);
}

#[test]
fn bad_stores_are_one_clear_line() {
    let certificates = certificates();
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.pem");
    std::fs::write(&none, "nothing").unwrap();
    let trust = format!(
        "ssl.trustStore.location={}",
        certificates.authority.display()
    );
    for (store, cause) in [
        (dir.path().join("missing.pem"), "cannot read"),
        (none, "has no certificate in PEM"),
        (certificates.authority.clone(), "has no private key in PEM"),
    ] {
        let key_store = format!("ssl.keyStore.location={}", store.display());
        let data_dir = dir.path().join("data");
        std::fs::create_dir_all(&data_dir).unwrap();
        let output = refused(
            &data_dir,
            &["clientPort=0", "secureClientPort=0", &key_store, &trust],
        );
        let stderr = String::from_utf8(output.stderr).unwrap();
        let last = stderr.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("coord: ") && last.contains(cause),
            "{stderr}"
        );
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What RFC 2831 has a client answer to `nonce`, and what the server then shows.
fn digest_response(user: &str, password: &str, nonce: &str) -> (String, String) {
    const URI: &str = "zookeeper/zk-sasl-md5";
    let md5 = |text: &[u8]| Md5::digest(text);
    let mut a1 = md5(format!("{user}:zk-sasl-md5:{password}").as_bytes()).to_vec();
    a1.extend(format!(":{nonce}:c").as_bytes());
    let a1 = hex(md5(&a1));
    let response = |a2: &str| {
        let a2 = hex(md5(a2.as_bytes()));
        hex(md5(format!("{a1}:{nonce}:00000001:c:auth:{a2}").as_bytes()))
    };
    let token = format!(
        "username=\"{user}\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",cnonce=\"c\",nc=00000001,qop=auth,\
         digest-uri=\"{URI}\",response={}",
        response(&format!("AUTHENTICATE:{URI}"))
    );
    (token, format!("rspauth={}", response(&format!(":{URI}"))))
}

fn sasl(client: &mut RawClient, xid: i32, token: &str) -> (i32, Option<Bytes>) {
    let token = Some(Bytes::copy_from_slice(token.as_bytes()));
    let mut reply = client.ask(xid, &Request::Sasl(token));
    let token = match reply.error {
        0 => reply.body.buffer().unwrap(),
        _ => None,
    };
    (reply.error, token)
}

/// Goes through the exchange; the error at its end, and whether the server has shown that it knows the password.
fn log_in(client: &mut RawClient, user: &str, password: &str) -> (i32, bool) {
    let (error, challenge) = sasl(client, 1, "");
    assert_eq!(error, 0);
    let challenge = String::from_utf8(challenge.unwrap().to_vec()).unwrap();
    let nonce = challenge
        .split("nonce=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let (token, expected) = digest_response(user, password, nonce);
    let (error, shown) = sasl(client, 2, &token);
    (error, shown.is_some_and(|shown| shown == expected))
}

#[test]
fn sasl_shows_who_a_client_is() {
    let dir = tempfile::tempdir().unwrap();
    let jaas = dir.path().join("jaas.conf");
    std::fs::write(
        &jaas,
        "Server { x required user_bob=\"b\" user_root=\"r\"; };",
    )
    .unwrap();
    let login = format!("java.security.auth.login.config={}", jaas.display());
    let coord = Coord::start_with(&[&login, "zookeeper.superUser=root"]);
    let connect = || RawClient::connect(coord.address, 20_000);

    let mut bob = connect();
    assert_eq!(bob.ask(7, &create_for("/bob", "sasl", "bob")).error, 0);
    assert_eq!(bob.ask(8, &get("/bob")).error, NO_AUTH);
    assert_eq!(log_in(&mut bob, "bob", "b"), (0, true));
    assert_eq!(bob.ask(9, &get("/bob")).error, 0);
    assert_eq!(bob.ask(10, &create_for("/root", "sasl", "root")).error, 0);
    assert_eq!(bob.ask(11, &get("/root")).error, NO_AUTH);

    let mut root = connect();
    assert_eq!(log_in(&mut root, "root", "r"), (0, true));
    assert_eq!(root.ask(9, &get("/bob")).error, 0);

    for (user, password) in [("bob", "r"), ("eve", ""), ("bob", "")] {
        let mut wrong = connect();
        assert_eq!(log_in(&mut wrong, user, password), (AUTH_FAILED, false));
        assert!(wrong.receive().is_none(), "the connection is closed");
    }
    let mut again = connect();
    assert_eq!(log_in(&mut again, "bob", "b").0, 0);
    assert_eq!(sasl(&mut again, 3, "").0, AUTH_FAILED);
}

#[test]
fn without_users_sasl_is_answered_with_nothing_and_the_session_goes_on() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    assert_eq!(sasl(&mut client, 1, ""), (0, None));
    assert_eq!(client.ask(2, &Request::Ping).error, 0);
}

#[test]
fn a_failed_exchange_may_be_forgiven() {
    let coord = Coord::start_with(&["sasl.user.bob=b", "allowSaslFailedClients=true"]);
    let mut client = RawClient::connect(coord.address, 20_000);
    assert_eq!(log_in(&mut client, "bob", "wrong"), (0, false));
    assert_eq!(client.ask(3, &Request::Ping).error, 0);
}

#[test]
fn a_session_may_have_to_show_who_it_is() {
    let coord = Coord::start_with(&["sasl.user.bob=b", "sessionRequireClientSASLAuth=true"]);
    let connect = || RawClient::connect(coord.address, 20_000);
    let mut nobody = connect();
    assert_eq!(nobody.ask(1, &get("/")).error, SASL_REQUIRED);
    assert!(nobody.receive().is_none(), "the connection is closed");
    let mut wrong = connect();
    assert_eq!(log_in(&mut wrong, "bob", "c"), (SASL_REQUIRED, false));
    assert!(wrong.receive().is_none(), "the connection is closed");
    let mut bob = connect();
    assert_eq!(log_in(&mut bob, "bob", "b"), (0, true));
    assert_eq!(bob.ask(3, &get("/")).error, 0);
}
