//! TLS configurations: version 1.3 only, our authority only, no session resumption.
//!
//! Resumption is off because a resumed session skips the checks of expiry and revocation. The
//! provider is passed explicitly: the process default depends on what else is linked.

mod verify;

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::verify::{NamedServer, PinnedAuthority};
pub use self::verify::{NotPinned, WrongServer};

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text holds no certificate, or a damaged one.
    #[error("no certificate in the PEM text: {0}")]
    Certificate(String),
    /// The PEM text holds no private key, or a damaged one.
    #[error("no private key in the PEM text")]
    Key,
    /// The parts do not fit together, for instance a key of another certificate.
    #[error("certificate, key and authority do not fit: {0}")]
    Config(String),
}

/// A certificate chain, leaf first, and the key of its leaf.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a chain (leaf first) and a PKCS #8 key from PEM.
    ///
    /// # Errors
    /// [`TlsError::Certificate`] and [`TlsError::Key`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        Ok(Self { chain: certificates(chain)?, key })
    }

    /// The leaf, DER.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map_or(&[], |leaf| leaf.as_ref())
    }
}

/// The certificates of a PEM text; at least one.
///
/// # Errors
/// [`TlsError::Certificate`].
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::Certificate(e.to_string()))?;
    if all.is_empty() {
        return Err(TlsError::Certificate("it has no CERTIFICATE section".to_owned()));
    }
    Ok(all)
}

/// How a certificate is pinned: BLAKE3 of its SubjectPublicKeyInfo, DER. A certificate that is issued
/// again for the same key keeps its fingerprint.
///
/// # Errors
/// [`TlsError::Certificate`]: not a certificate.
pub fn fingerprint(certificate: &[u8]) -> Result<[u8; 32], TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|e| TlsError::Certificate(e.to_string()))?;
    Ok(*blake3::hash(parsed.tbs_certificate.subject_pki.raw).as_bytes())
}

/// A server whose clients must show a certificate of `authority` for client authentication.
///
/// # Errors
/// [`TlsError::Config`].
pub fn server_mutual(
    identity: &Identity,
    authority: &[CertificateDer<'static>],
    alpn: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider())
        .build()
        .map_err(|e| TlsError::Config(e.to_string()))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(config)?
        .with_client_cert_verifier(verifier);
    finish_server(builder, identity, alpn)
}

/// A server that does not ask its clients for a certificate: for enrolment only.
///
/// # Errors
/// [`TlsError::Config`].
pub fn server_anonymous(identity: &Identity, alpn: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(config)?
        .with_no_client_auth();
    finish_server(builder, identity, alpn)
}

/// A client with a certificate, for servers of `authority` that carry the host name dialled **and**
/// exactly one URI name equal to `server_uri`: certificates of other members of the same authority
/// are not servers.
///
/// # Errors
/// [`TlsError::Config`].
pub fn client(
    identity: &Identity,
    authority: &[CertificateDer<'static>],
    server_uri: &str,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = NamedServer::new(roots(authority)?, provider(), server_uri)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(self::config)?;
    Ok(finish_client(config, alpn))
}

/// A client without a certificate that trusts exactly the authority with this [`fingerprint`], which
/// the server must present in its chain. For joining, when nothing else is known yet.
///
/// # Errors
/// [`TlsError::Config`].
pub fn client_pinned(pin: [u8; 32], alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority::new(pin, provider())))
        .with_no_client_auth();
    Ok(finish_client(config, alpn))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Strict: a root that does not parse is an error, not a root that is silently missing.
fn roots(authority: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in authority {
        store.add(certificate.clone()).map_err(config)?;
    }
    Ok(Arc::new(store))
}

fn finish_server(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    identity: &Identity,
    alpn: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut server =
        builder.with_single_cert(identity.chain.clone(), identity.key.clone_key()).map_err(config)?;
    server.alpn_protocols = vec![alpn.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Arc::new(server))
}

fn finish_client(mut client: ClientConfig, alpn: &[u8]) -> Arc<ClientConfig> {
    client.alpn_protocols = vec![alpn.to_vec()];
    client.resumption = Resumption::disabled();
    Arc::new(client)
}

fn config(error: rustls::Error) -> TlsError {
    TlsError::Config(error.to_string())
}
