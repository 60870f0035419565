//! TLS on the secure port and between members: the key, its certificates, and whom to believe.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use coord_core::acl::Identity;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::TlsAcceptor;

use crate::config::{ClientAuth, Tls, TlsVersion};
use crate::raft::grpc::QuorumTls;
use crate::server::distinguished_name;

/// The largest PEM file that is read, in bytes.
const PEM_MAX_LEN: u64 = 16 * 1024 * 1024;

/// For clients: reads the files that `tls` names.
pub(super) fn acceptor(tls: &Tls) -> anyhow::Result<TlsAcceptor> {
    Ok(TlsAcceptor::from(Arc::new(server_config(tls)?)))
}

/// For the other members: both sides show the same certificate, whoever calls.
pub(super) fn quorum(tls: &Tls) -> anyhow::Result<QuorumTls> {
    Ok(QuorumTls {
        client: Arc::new(client_config(tls)?),
        server: Arc::new(server_config(tls)?),
        verify_hosts: tls.hostname_verification,
    })
}

fn server_config(tls: &Tls) -> anyhow::Result<ServerConfig> {
    let (chain, key) = identity(tls)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified = certified(chain, key, &provider, tls)?;
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls))?
        .with_client_cert_verifier(verifier(tls, provider)?)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Ok(config)
}

fn client_config(tls: &Tls) -> anyhow::Result<ClientConfig> {
    let (chain, key) = identity(tls)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified = certified(chain, key, &provider, tls)?;
    let roots = tls.trust_store.as_deref().map(roots).transpose()?;
    let roots = Arc::new(roots.unwrap_or_else(RootCertStore::empty));
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(tls))?
        .dangerous();
    let builder = match tls.hostname_verification {
        true => builder.with_custom_certificate_verifier(verifier),
        false => builder.with_custom_certificate_verifier(Arc::new(AnyHost(verifier))),
    };
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
}

/// This server's certificate with the chain behind it, and its key.
fn identity(tls: &Tls) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key_store = read(&tls.key_store)?;
    let chain = certificates(&key_store, &tls.key_store)?;
    let password = tls.key_store_password.as_deref();
    let key = private_key(&key_store, password, &tls.key_store)?;
    Ok((chain, key))
}

fn versions(tls: &Tls) -> Vec<&'static SupportedProtocolVersion> {
    let versions = tls.versions.iter().map(|version| match version {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        TlsVersion::V1_3 => &rustls::version::TLS13,
    });
    versions.collect()
}

fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&read(path)?, path)? {
        roots
            .add(certificate)
            .with_context(|| format!("{}: a certificate cannot be trusted", path.display()))?;
    }
    Ok(roots)
}

/// Believes a certificate that is vouched for, whatever host it is for.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last.
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The key with its certificates. What this program cannot read of its own certificate, such as one of X.509 version 1,
/// its clients may well trust, as they would with ZooKeeper.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
    tls: &Tls,
) -> anyhow::Result<CertifiedKey> {
    let path = tls.key_store.display();
    let key = provider
        .key_provider
        .load_private_key(key)
        .with_context(|| format!("{path}: the private key cannot be used"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(error @ rustls::Error::InvalidCertificate(_)) => {
            tracing::warn!("{path}: whoever connects may refuse the certificate: {error}");
        }
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) | Ok(()) => {}
        Err(error) => {
            return Err(error).with_context(|| {
                format!("{path}: the certificate and the key do not go together")
            });
        }
    }
    Ok(certified)
}

fn verifier(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let Some(path) = tls
        .trust_store
        .as_ref()
        .filter(|_| tls.client_auth != ClientAuth::None)
    else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let roots = Arc::new(roots(path)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
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

fn private_key(
    pem: &[u8],
    password: Option<&str>,
    path: &Path,
) -> anyhow::Result<PrivateKeyDer<'static>> {
    let path = path.display();
    let Some(encrypted) = encrypted_key(pem) else {
        return PrivateKeyDer::from_pem_slice(pem)
            .with_context(|| format!("{path} has no private key in PEM"));
    };
    let password = password.with_context(|| {
        format!(
            "{path}: the private key is encrypted, and the password of the key store is not set"
        )
    })?;
    let (_, encrypted) = pkcs8::SecretDocument::from_pem(encrypted)
        .map_err(|error| anyhow::anyhow!("{path}: the private key is damaged: {error}"))?;
    let key = pkcs8::EncryptedPrivateKeyInfo::try_from(encrypted.as_bytes())
        .and_then(|key| key.decrypt(password))
        .map_err(|error| {
            anyhow::anyhow!(
                "{path}: the key store's password does not open the private key: {error}"
            )
        })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// The first encrypted key in a PEM file.
fn encrypted_key(pem: &[u8]) -> Option<&str> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let pem = std::str::from_utf8(pem).ok()?;
    let key = &pem[pem.find(BEGIN)?..];
    Some(&key[..key.find(END)? + END.len()])
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test by `openssl genpkey -algorithm ed25519`, and by `openssl pkcs8 -topk8` with the password `secret`.
    const PLAIN: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIE3L0GyV12XLkI33R+OHU5eh+s3NHYQhTILl1m0+BOyG\n\
        -----END PRIVATE KEY-----\n";
    const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhQ2x4yEWVHeQICCAAw\n\
        DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEGWd4Gs+iP+QphAACgqqiV8EQD+s\n\
        eQ3H12da7OGUiE+hHuaYlxHmfW9agoeFnuxEvLbZKodY96bKcMt/Zg7mZ3+OH/P0\n\
        +l3/bVTwyZwosCrEDC8=\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";

    fn key(pem: &str, password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
        let key = private_key(pem.as_bytes(), password, Path::new("k.pem"));
        key.map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_may_be_behind_a_password() {
        let plain = key(PLAIN, None).unwrap();
        assert_eq!(key(PLAIN, Some("not needed")), Ok(plain.clone_key()));
        let behind_a_certificate = format!("-----BEGIN X-----\n-----END X-----\n{ENCRYPTED}");
        assert_eq!(key(&behind_a_certificate, Some("secret")), Ok(plain));
        for (pem, password, cause) in [
            (ENCRYPTED, None, "password of the key store is not set"),
            (ENCRYPTED, Some("wrong"), "does not open the private key"),
            (
                &ENCRYPTED.replace("MIGb", "!!!!"),
                Some("secret"),
                "is damaged",
            ),
            ("", None, "no private key"),
        ] {
            let error = key(pem, password).unwrap_err();
            assert!(
                error.starts_with("k.pem") && error.contains(cause),
                "{error}"
            );
        }
    }
}
