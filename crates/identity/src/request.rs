//! Keys are made where they are used; only a signing request travels.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

/// Randomness or the cryptography itself failed.
#[derive(Debug, thiserror::Error)]
#[error("make a key: {0}")]
pub struct KeyError(String);

/// A new P-256 key (PKCS #8, PEM) and a signing request (PKCS #10, DER) for it.
///
/// # Errors
/// [`KeyError`].
pub fn signing_request() -> Result<(Zeroizing<String>, Vec<u8>), KeyError> {
    let failed = |e: rcgen::Error| KeyError(e.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let request = request_for(&key).map_err(failed)?;
    Ok((Zeroizing::new(key.serialize_pem()), request))
}

/// Only the key counts: the coordinator decides on everything else.
pub(crate) fn request_for(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
