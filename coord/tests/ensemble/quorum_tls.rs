//! Members that speak TLS to each other, as sslQuorum and the ssl.quorum keys say.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::harness::{DEADLINE, Ensemble, eventually};
use crate::load::Load;

/// Somebody who vouches for members, and the files that say so.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("authority.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { dir, issuer }
    }

    fn trust_store(&self) -> String {
        let path = self.dir.path().join("authority.pem");
        format!("ssl.quorum.trustStore.location={}", path.display())
    }

    /// The line for a key and a certificate for `host`.
    fn key_store(&self, name: &str, host: &str) -> String {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = self.dir.path().join(name);
        let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
        fs::write(&path, pem).unwrap();
        format!("ssl.quorum.keyStore.location={}", path.display())
    }
}

/// Three members, of which the third has this key store.
fn three(authority: &Authority, third: &str, set: &[&str]) -> Ensemble {
    let mut builder = Ensemble::of(3)
        .set("sslQuorum=true")
        .set(&authority.trust_store())
        .set_for(3, third);
    for line in set {
        builder = builder.set(line);
    }
    for member in 1..=2 {
        let own = authority.key_store(&format!("{member}.pem"), "127.0.0.1");
        builder = builder.set_for(member, &own);
    }
    builder.prepare()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_show_certificates_are_an_ensemble() {
    let authority = Authority::new();
    let third = authority.key_store("3.pem", "127.0.0.1");
    let mut ensemble = three(&authority, &third, &[]);
    for member in 1..=3 {
        ensemble.spawn(member);
    }
    for member in 1..=3 {
        ensemble.await_serving(member);
    }
    let load = Load::start(&ensemble).await;
    let leader = ensemble.await_leader();
    ensemble.kill(leader);
    load.goes_on().await;
    ensemble.start(leader);
    // Who speaks no TLS hears nothing, but for an alert, and the end.
    let mut plain = TcpStream::connect(ensemble.quorum_address(leader)).unwrap();
    plain.set_read_timeout(Some(DEADLINE)).unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    // The end may come as a reset.
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.len() < 16, "{answer:?}");
    load.stop().await.is_on_every_member(&ensemble).await;
}

/// Whether the third member is left out by the others, one of which says why; they do without it.
async fn is_left_out(mut ensemble: Ensemble, why: &str) {
    for member in 1..=3 {
        ensemble.spawn(member);
    }
    ensemble.await_serving(1);
    ensemble.await_serving(2);
    let load = Load::start_on(&ensemble, &[1, 2]).await;
    eventually(why, || async {
        let said = (1..=3).any(|member| ensemble.has_said(member, why));
        said.then_some(())
    })
    .await;
    load.goes_on().await;
    assert_eq!(ensemble.mode(3), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_a_stranger_vouches_for_is_left_out() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let third = stranger.key_store("3.pem", "127.0.0.1");
    let ensemble = three(&authority, &third, &[]);
    is_left_out(ensemble, "does not pass for a member").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_the_certificate_of_another_host_is_left_out_where_hosts_are_verified() {
    let authority = Authority::new();
    let third = authority.key_store("3.pem", "elsewhere");
    let ensemble = three(&authority, &third, &[]);
    is_left_out(ensemble, "does not talk to this one").await;

    let unverified = "ssl.quorum.hostnameVerification=false";
    let mut ensemble = three(&authority, &third, &[unverified]);
    for member in 1..=3 {
        ensemble.spawn(member);
    }
    for member in 1..=3 {
        ensemble.await_serving(member);
    }
}

#[test]
fn a_key_store_that_is_missing_is_named() {
    let authority = Authority::new();
    let missing = "ssl.quorum.keyStore.location=nowhere.pem";
    let mut ensemble = three(&authority, missing, &[]);
    ensemble.spawn(3);
    ensemble.await_end(3);
    assert!(ensemble.has_said(3, "nowhere.pem"));
}
