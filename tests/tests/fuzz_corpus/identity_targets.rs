//! What strangers send to become members, and what members show.

use std::{sync::OnceLock, time::Duration};

use identity::{Authority, Invitation, Leaf, Principal, Role, Token};
use service::tls;

/// The trust domain of the certificates in the corpus.
const DOMAIN: &str = "fed";

/// A certificate names exactly one principal, which is written in it.
pub(crate) fn certificate(bytes: &[u8]) {
    match Principal::from_certificate(bytes, DOMAIN) {
        Ok(principal) => {
            let uri = principal.uri(DOMAIN);
            assert!(bytes.windows(uri.len()).any(|window| window == uri.as_bytes()), "{uri}");
            assert_eq!(Leaf::from_certificate(bytes, DOMAIN).unwrap().principal, principal);
            assert!(Principal::from_certificate(bytes, "other").is_err());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = tls::fingerprint(bytes);
}

/// A chain of certificates, PEM.
pub(crate) fn pem(bytes: &[u8]) {
    match tls::certificates(bytes) {
        Ok(all) => {
            assert!(!all.is_empty());
            all.iter().for_each(|der| certificate(der));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A token prints as it was read, and neither errors nor logs show its secret.
pub(crate) fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Token>() {
        Ok(token) => {
            assert_eq!(*token.expose(), text.trim());
            let secret = text.trim().split('.').nth(2).unwrap();
            // The address is free text: it may repeat what was in front of it.
            assert!(token.address.contains(secret) || !format!("{token:?}").contains(secret));
        }
        Err(error) => {
            let longest = text.split(|c: char| !c.is_alphanumeric()).max_by_key(|part| part.len());
            let longest = longest.unwrap_or("");
            assert!(longest.len() < 20 || !error.to_string().contains(longest), "{error}");
        }
    }
}

/// What is signed names the key of the request and the principal of the token, whatever else it asks for.
pub(crate) fn signing_request(bytes: &[u8]) {
    let principal = Principal { role: Role::Worker, name: "a".parse().unwrap() };
    let signed = authority().sign(bytes, &principal, 1_767_225_600_000, Duration::from_secs(3600));
    match (Authority::requested_spki(bytes), signed) {
        (Ok(spki), Ok(leaf)) => {
            assert_eq!(leaf.spki, spki);
            let der = tls::certificates(leaf.pem.as_bytes()).unwrap();
            let read = Leaf::from_certificate(&der[0], DOMAIN).unwrap();
            assert_eq!((read.principal, read.spki), (principal, spki));
            assert_eq!(read.not_after_unix, 1_767_229_200);
        }
        (Err(refused), Err(error)) => assert_eq!(refused.to_string(), error.to_string()),
        (spki, leaf) => panic!("key: {spki:?}, certificate: {leaf:?}"),
    }
}

/// A stored invitation is stored again as it is, and lets nobody in without its secret.
pub(crate) fn invitation(bytes: &[u8]) {
    match Invitation::from_bytes(bytes) {
        Ok(mut invitation) => {
            let stored = invitation.to_bytes();
            assert_eq!(Invitation::from_bytes(&stored).unwrap(), invitation);
            assert!(invitation.redeem(bytes, [1; 32], 0).is_err());
            assert_eq!(invitation.to_bytes(), stored, "a refusal changes nothing");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let home = tempfile::tempdir().unwrap();
        Authority::create(&home.path().join("ca"), DOMAIN, 1_767_225_600_000).unwrap()
    })
}
