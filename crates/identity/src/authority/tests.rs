use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use tempfile::TempDir;
use x509_parser::prelude::GeneralName;

use super::*;
use crate::{Leaf, Role};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn authority() -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(&dir.path().join("ca"), "fed", NOW).unwrap();
    (dir, authority)
}

fn worker() -> Principal {
    Principal { role: Role::Worker, name: "w1".parse().unwrap() }
}

/// A request that asks for everything that it must not get.
fn hostile(key: &KeyPair) -> Vec<u8> {
    let mut want = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    want.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    want.distinguished_name.push(DnType::CommonName, "coordinator");
    want.subject_alt_names.push(uri_name("spiffe://fed/coordinator").unwrap());
    want.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    want.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    want.serialize_request(key).unwrap().der().to_vec()
}

fn der(pem: &str) -> CertificateDer<'static> {
    tls::certificates(pem.as_bytes()).unwrap().remove(0)
}

#[test]
fn nothing_but_the_key_is_taken_from_a_request() {
    let (_dir, authority) = authority();
    let key = KeyPair::generate().unwrap();
    let leaf = authority.sign(&hostile(&key), &worker(), NOW, DAY).unwrap();
    let der = der(&leaf.pem);
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    assert!(!cert.is_ca() && cert.basic_constraints().unwrap().is_none_or(|b| !b.value.ca));
    assert_eq!(cert.subject().iter().count(), 0);
    let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, vec![GeneralName::URI("spiffe://fed/worker/w1")]);
    assert_eq!(cert.validity().not_before.timestamp(), 1_767_225_540);
    assert_eq!(cert.validity().not_after.timestamp(), 1_767_225_600 + 86_400);
    assert_eq!(leaf.not_after_unix, 1_767_225_600 + 86_400);
    let usage = cert.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let extended = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth && !extended.any && extended.other.is_empty());
    assert_eq!(cert.raw_serial(), leaf.serial);
    assert!(
        cert.get_extension_unique(&x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER)
            .unwrap()
            .is_some()
    );
    let (_, issuer) = X509Certificate::from_der(authority.certificate()).unwrap();
    cert.verify_signature(Some(issuer.public_key())).unwrap();
    assert_eq!(leaf.spki, *blake3::hash(&key.subject_public_key_info()).as_bytes());
    assert_eq!(Authority::requested_spki(&hostile(&key)).unwrap(), leaf.spki);
    let read = Leaf::from_certificate(&der, "fed").unwrap();
    assert_eq!((read.principal, read.spki, read.serial), (worker(), leaf.spki, leaf.serial.to_vec()));
    assert_eq!(read.not_after_unix, leaf.not_after_unix);
}

#[test]
fn a_server_certificate_is_for_servers() {
    let (_dir, authority) = authority();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let credentials = authority.issue_server(&names, NOW, DAY).unwrap();
    let chain = tls::certificates(credentials.chain_pem.as_bytes()).unwrap();
    assert_eq!(chain[1..], [authority.certificate().clone()]);
    let (_, cert) = X509Certificate::from_der(&chain[0]).unwrap();
    let extended = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
    let san = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(
        *san,
        vec![
            GeneralName::URI("spiffe://fed/coordinator"),
            GeneralName::DNSName("localhost"),
            GeneralName::IPAddress(&[127, 0, 0, 1]),
            GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ]
    );
    for bad in ["", "a b", "-x-", "user@host", "localhost:7001"] {
        let refused = authority.issue_server(&[bad.to_owned()], NOW, DAY);
        assert!(matches!(refused, Err(AuthorityError::ServerName(name)) if name == bad), "{bad}");
    }
}

#[test]
fn an_authority_is_made_once_and_found_again() {
    let (dir, authority) = authority();
    let home = dir.path().join("ca");
    let again = Authority::open(&home).unwrap();
    assert_eq!(again.fingerprint(), authority.fingerprint());
    assert_eq!((again.trust_domain(), again.ca_pem()), ("fed", authority.ca_pem()));
    let (_, cert) = X509Certificate::from_der(authority.certificate()).unwrap();
    let constraints = cert.basic_constraints().unwrap().unwrap().value;
    assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
    let second = Authority::create(&home, "fed", NOW);
    assert!(matches!(second, Err(AuthorityError::Exists(_))));
    assert_eq!(Authority::open(&home).unwrap().fingerprint(), authority.fingerprint());
    assert!(matches!(
        Authority::create(&dir.path().join("other"), "Not A Name", NOW),
        Err(AuthorityError::TrustDomain(_))
    ));
    // A crash before the key was written: the next attempt makes both.
    std::fs::remove_file(home.join(KEY_FILE)).unwrap();
    assert_ne!(Authority::create(&home, "fed", NOW).unwrap().fingerprint(), authority.fingerprint());
    // The key of another authority.
    std::fs::write(home.join(CERTIFICATE_FILE), authority.ca_pem()).unwrap();
    let error = Authority::open(&home).err().unwrap().to_string();
    assert!(error.ends_with("the key is not that of the certificate"), "{error}");
}

#[test]
fn bad_requests_are_refused_by_kind() {
    let (_dir, authority) = authority();
    let sign = |request: &[u8]| authority.sign(request, &worker(), NOW, DAY);
    let request = |alg| hostile(&KeyPair::generate_for(alg).unwrap());
    assert!(sign(&request(&PKCS_ED25519)).is_ok());
    let good = request(&PKCS_ECDSA_P256_SHA256);
    assert!(sign(&good).is_ok());
    assert!(matches!(sign(&request(&PKCS_ECDSA_P384_SHA384)), Err(SignError::KeyType)));
    assert!(matches!(sign(&[0; SIGNING_REQUEST_MAX + 1]), Err(SignError::TooLong(4097))));
    assert!(matches!(sign(&[]), Err(SignError::Malformed)));
    assert!(matches!(sign(&[&good[..], &[0]].concat()), Err(SignError::Malformed)));
    // Another key in the place of the one that signed: the two requests differ in key and signature only.
    let key = KeyPair::generate().unwrap();
    let other = KeyPair::generate().unwrap();
    let mut swapped = hostile(&key);
    let at = swapped.windows(65).position(|w| w == key.public_key_raw()).unwrap();
    swapped[at..at + 65].copy_from_slice(other.public_key_raw());
    assert!(matches!(sign(&swapped), Err(SignError::Possession)));
    let coordinator = authority.sign(&good, &Principal::coordinator(), NOW, DAY);
    assert!(matches!(coordinator, Err(SignError::Coordinator)));
}

#[test]
fn serials_are_random_positive_and_of_full_length() {
    let all: std::collections::HashSet<_> = (0..100).map(|_| serial().unwrap()).collect();
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|s| s[0] & 0xc0 == 0x40));
}

#[test]
fn damaged_requests_never_panic() {
    let request = hostile(&KeyPair::generate().unwrap());
    for at in 0..request.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = request.clone();
            damaged[at] ^= change;
            let _ = requested_key(&damaged);
        }
        let _ = requested_key(&request[..at]);
    }
}
