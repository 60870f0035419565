//! TLS on the secure port: the key, its certificates, and whom to believe.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use coord_core::acl::Identity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use crate::config::{ClientAuth, Tls, TlsVersion};
use crate::server::distinguished_name;

/// The largest PEM file that is read, in bytes.
const PEM_MAX_LEN: u64 = 16 * 1024 * 1024;

/// Reads the files that `tls` names.
pub(super) fn acceptor(tls: &Tls) -> anyhow::Result<TlsAcceptor> {
    let key_store = read(&tls.key_store)?;
    let chain = certificates(&key_store, &tls.key_store)?;
    let key = private_key(&key_store, &tls.key_store)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: Vec<&SupportedProtocolVersion> = tls
        .versions
        .iter()
        .map(|version| match version {
            TlsVersion::V1_2 => &rustls::version::TLS12,
            TlsVersion::V1_3 => &rustls::version::TLS13,
        })
        .collect();
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(verifier(tls, provider)?)
        .with_single_cert(chain, key)
        .with_context(|| {
            format!(
                "{}: the certificate and the key do not go together",
                tls.key_store.display()
            )
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn verifier(
    tls: &Tls,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let Some(path) = tls
        .trust_store
        .as_ref()
        .filter(|_| tls.client_auth != ClientAuth::None)
    else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&read(path)?, path)? {
        roots
            .add(certificate)
            .with_context(|| format!("{}: a certificate cannot be trusted", path.display()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match tls.client_auth {
        ClientAuth::Want => builder.allow_unauthenticated(),
        ClientAuth::Need | ClientAuth::None => builder,
    };
    Ok(builder.build()?)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PEM_MAX_LEN).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

fn certificates(pem: &[u8], path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is damaged", path.display()))?;
    if certificates.is_empty() {
        bail!(
            "{} has no certificate in PEM: a JKS or PKCS#12 store has to be turned into PEM first \
             (keytool -importkeystore … -deststoretype PKCS12, openssl pkcs12 -nodes)",
            path.display()
        );
    }
    Ok(certificates)
}

fn private_key(pem: &[u8], path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    PrivateKeyDer::from_pem_slice(pem).with_context(|| {
        let path = path.display();
        if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            format!("{path}: the private key is encrypted; take that away (openssl pkey), and guard the file instead")
        } else {
            format!("{path} has no private key in PEM")
        }
    })
}

/// Whom a client has shown to be by its certificate, which was verified.
pub(super) fn identities(
    certificates: Option<&[CertificateDer<'_>]>,
    super_user: Option<&str>,
) -> Vec<Identity> {
    let Some(name) = certificates
        .and_then(|chain| chain.first())
        .and_then(|certificate| distinguished_name::subject(certificate))
    else {
        return Vec::new();
    };
    let identity = |scheme: &'static str| Identity {
        scheme: scheme.into(),
        id: name.clone().into(),
    };
    if super_user == Some(name.as_str()) {
        vec![identity("super"), identity("x509")]
    } else {
        vec![identity("x509")]
    }
}
