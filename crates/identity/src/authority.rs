//! The certificate authority of one federation.

use std::{net::IpAddr, path::Path, time::Duration};

use params::Name;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use service::{
    files::{self, FileError},
    random, tls,
};
use time::OffsetDateTime;
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519},
    prelude::{FromDer, X509Certificate},
    x509::SubjectPublicKeyInfo as RequestedKey,
};
use zeroize::Zeroizing;

use crate::{Principal, Role, role};

/// The longest signing request that is read, in bytes.
pub const SIGNING_REQUEST_MAX: usize = 4 << 10;

const KEY_FILE: &str = "ca.key.pem";
const CERTIFICATE_FILE: &str = "ca.pem";

/// How long the authority itself is valid.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Certificates start a little in the past, for members whose clock is behind.
const BACKDATE_SECONDS: i64 = 60;

/// Bytes of a serial number; RFC 5280 allows 20.
const SERIAL_BYTES: usize = 16;

/// Signs the certificates of one federation. ECDSA with P-256; no authority below it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    trust_domain: String,
    fingerprint: [u8; 32],
}

/// A certificate with its private key, for the server itself.
pub struct Credentials {
    /// The leaf, then the authority: members that join look for it in the server's chain.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: Zeroizing<String>,
}

/// A certificate for a key that stays with its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedLeaf {
    /// The certificate.
    pub pem: String,
    /// When it ends, in seconds since 1970.
    pub not_after_unix: u64,
    /// BLAKE3 of the public key (SubjectPublicKeyInfo, DER).
    pub spki: [u8; 32],
    /// Random, unique.
    pub serial: [u8; SERIAL_BYTES],
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the authority.
    #[error(transparent)]
    File(#[from] FileError),
    /// An authority is there already; making another would lock every member out.
    #[error("{0} holds a certificate authority already")]
    Exists(String),
    /// The files are damaged or do not fit together.
    #[error("certificate authority in {folder}: {why}")]
    Damaged {
        /// The folder.
        folder: String,
        /// What is wrong.
        why: String,
    },
    /// The trust domain is not a name.
    #[error("trust domain: {0}")]
    TrustDomain(#[from] params::ParseNameError),
    /// A name of the server is neither a DNS name nor an IP address.
    #[error("'{0}' is neither a DNS name nor an IP address")]
    ServerName(String),
    /// Randomness or the cryptography itself failed.
    #[error("make a certificate: {0}")]
    Crypto(String),
}

/// Why a signing request is refused.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Longer than [`SIGNING_REQUEST_MAX`].
    #[error("signing request of {0} bytes, at most {SIGNING_REQUEST_MAX} are read")]
    TooLong(usize),
    /// Not a PKCS #10 request in DER.
    #[error("not a signing request (PKCS #10, DER)")]
    Malformed,
    /// It is not signed by the key that it names.
    #[error("the signing request is not signed by its own key")]
    Possession,
    /// A kind of key that we do not sign.
    #[error("the key of the signing request is neither P-256 nor Ed25519")]
    KeyType,
    /// There is one coordinator, and its certificate is for servers.
    #[error("a certificate of the coordinator is not signed on request")]
    Coordinator,
    /// Randomness or the cryptography itself failed.
    #[error("sign: {0}")]
    Crypto(String),
}

impl Authority {
    /// Makes an authority in `dir` (created with mode 0700): `ca.key.pem` (mode 0600) and `ca.pem`, valid
    /// for ten years from `now_unix_ms`. `trust_domain` names the federation, as [`Name`].
    ///
    /// # Errors
    /// [`AuthorityError::Exists`] when one is there: it is never replaced.
    pub fn create(dir: &Path, trust_domain: &str, now_unix_ms: u64) -> Result<Self, AuthorityError> {
        let trust_domain: Name = trust_domain.parse()?;
        if dir.join(KEY_FILE).exists() {
            return Err(AuthorityError::Exists(dir.display().to_string()));
        }
        files::create_private_dir(dir)?;
        let key = KeyPair::generate().map_err(crypto)?;
        let mut params = fresh(now_unix_ms, AUTHORITY_VALIDITY)?;
        params.distinguished_name.push(DnType::CommonName, format!("Conclave {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // SPIFFE, X509-SVID section 3.1: an authority carries its trust domain without a path.
        params.subject_alt_names = vec![uri_name(&format!("spiffe://{trust_domain}"))?];
        let certificate = params.self_signed(&key).map_err(crypto)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        // The key last: an authority without a key is none, and the next attempt makes both anew.
        files::replace_shared(&dir.join(CERTIFICATE_FILE), certificate.pem().as_bytes())?;
        files::create_secret(&dir.join(KEY_FILE), key_pem.as_bytes())?;
        Self::open(dir)
    }

    /// Opens the authority in `dir`.
    ///
    /// # Errors
    /// A file is missing, open to others, or damaged.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let damaged = |why: String| AuthorityError::Damaged { folder: dir.display().to_string(), why };
        let key = Zeroizing::new(files::read_secret(&dir.join(KEY_FILE))?);
        let key = std::str::from_utf8(&key).map_err(|_| damaged("the key is not text".to_owned()))?;
        let key = KeyPair::from_pem(key).map_err(|e| damaged(format!("read the key: {e}")))?;
        let pem = files::read(&dir.join(CERTIFICATE_FILE))?;
        let certificate = tls::certificates(&pem)
            .map_err(|e| damaged(e.to_string()))?
            .into_iter()
            .next()
            .ok_or_else(|| damaged("no certificate".to_owned()))?;
        let trust_domain = trust_domain(&certificate)
            .ok_or_else(|| damaged("the certificate does not name one trust domain".to_owned()))?;
        let fingerprint = tls::fingerprint(&certificate).map_err(|e| damaged(e.to_string()))?;
        if *blake3::hash(&key.subject_public_key_info()).as_bytes() != fingerprint {
            return Err(damaged("the key is not that of the certificate".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| damaged(e.to_string()))?;
        let pem = String::from_utf8(pem).map_err(|_| damaged("the certificate is not text".to_owned()))?;
        Ok(Self { issuer, certificate, pem, trust_domain, fingerprint })
    }

    /// The name of the federation.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// What tokens pin, see [`tls::fingerprint`].
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The certificate of the authority.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The certificate of the authority, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A key and certificate for the coordinator's own port: for server authentication only, with these
    /// DNS names and IP addresses, and the URI of the coordinator.
    ///
    /// # Errors
    /// [`AuthorityError::ServerName`].
    pub fn issue_server(
        &self,
        names: &[String],
        now_unix_ms: u64,
        validity: Duration,
    ) -> Result<Credentials, AuthorityError> {
        let key = KeyPair::generate().map_err(crypto)?;
        let mut params = fresh(now_unix_ms, validity)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names.push(uri_name(&Principal::coordinator().uri(&self.trust_domain))?);
        for name in names {
            params.subject_alt_names.push(server_name(name)?);
        }
        let leaf = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        Ok(Credentials {
            chain_pem: format!("{}{}", leaf.pem(), self.pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Signs the public key of a PKCS #10 request (DER) for `principal`, for client authentication only.
    ///
    /// Nothing but the public key is taken from the request: names, usages, validity and CA flag are ours.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(
        &self,
        request: &[u8],
        principal: &Principal,
        now_unix_ms: u64,
        validity: Duration,
    ) -> Result<SignedLeaf, SignError> {
        if principal.role == Role::Coordinator {
            return Err(SignError::Coordinator);
        }
        let key = requested_key(request)?;
        let crypto = |e: AuthorityError| SignError::Crypto(e.to_string());
        let mut params = fresh(now_unix_ms, validity).map_err(crypto)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri_name(&principal.uri(&self.trust_domain)).map_err(crypto)?];
        let serial = serial().map_err(crypto)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let not_after = params.not_after.unix_timestamp();
        let leaf = params.signed_by(&key, &self.issuer).map_err(|e| SignError::Crypto(e.to_string()))?;
        Ok(SignedLeaf {
            pem: leaf.pem(),
            not_after_unix: u64::try_from(not_after).unwrap_or(0),
            spki: *blake3::hash(&key.subject_public_key_info()).as_bytes(),
            serial,
        })
    }

    /// BLAKE3 of the public key in a signing request, checked as [`Authority::sign`] does: what a token is
    /// redeemed for, before anything is signed.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn requested_spki(request: &[u8]) -> Result<[u8; 32], SignError> {
        Ok(*blake3::hash(&requested_key(request)?.subject_public_key_info()).as_bytes())
    }
}

/// The key of a request that is signed by that key.
fn requested_key(request: &[u8]) -> Result<SubjectPublicKeyInfo, SignError> {
    if request.len() > SIGNING_REQUEST_MAX {
        return Err(SignError::TooLong(request.len()));
    }
    let (rest, parsed) = X509CertificationRequest::from_der(request).map_err(|_| SignError::Malformed)?;
    if !rest.is_empty() {
        return Err(SignError::Malformed);
    }
    // The key's own algorithm: that of the signature does not tell the curve.
    let key = &parsed.certification_request_info.subject_pki;
    if !is_supported(key) {
        return Err(SignError::KeyType);
    }
    let request = CertificateSigningRequestDer::from(request);
    CertificateSigningRequestParams::from_der(&request).map_err(|e| match e {
        rcgen::Error::InvalidCertificationRequestSignature => SignError::Possession,
        _ => SignError::Malformed,
    })?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| SignError::KeyType)
}

fn is_supported(key: &RequestedKey<'_>) -> bool {
    let algorithm = &key.algorithm;
    let curve = || algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    algorithm.algorithm == OID_SIG_ED25519
        || (algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve() == Some(OID_EC_P256))
}

/// What every certificate has. The defaults of rcgen are valid from 1975 to 4096.
fn fresh(now_unix_ms: u64, validity: Duration) -> Result<CertificateParams, AuthorityError> {
    let now = i64::try_from(now_unix_ms / 1000).unwrap_or(i64::MAX);
    let ends = now.saturating_add(i64::try_from(validity.as_secs()).unwrap_or(i64::MAX));
    let time = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|e| AuthorityError::Crypto(e.to_string()))
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = time(now.saturating_sub(BACKDATE_SECONDS))?;
    params.not_after = time(ends)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Random, positive as DER reads it, and of full length.
fn serial() -> Result<[u8; SERIAL_BYTES], AuthorityError> {
    let mut serial: [u8; SERIAL_BYTES] =
        random::bytes().map_err(|e| AuthorityError::Crypto(e.to_string()))?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

fn uri_name(uri: &str) -> Result<SanType, AuthorityError> {
    uri.try_into().map(SanType::URI).map_err(crypto)
}

fn server_name(name: &str) -> Result<SanType, AuthorityError> {
    let bad = || AuthorityError::ServerName(name.to_owned());
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    rustls::pki_types::DnsName::try_from(name).map_err(|_| bad())?;
    name.try_into().map(SanType::DnsName).map_err(|_| bad())
}

pub(crate) fn trust_domain(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let [uri] = role::uris(&parsed).ok()?[..] else { return None };
    let name: Name = uri.strip_prefix("spiffe://")?.parse().ok()?;
    Some(name.to_string())
}

fn crypto(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Crypto(error.to_string())
}

#[cfg(test)]
mod tests;
