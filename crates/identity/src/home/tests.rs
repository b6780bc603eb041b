use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::Authority;

/// 2026-01-01.
const NOW: u64 = 1_767_225_600_000;
const HOUR_MS: u64 = 3_600_000;

struct Made {
    dir: TempDir,
    principal: Principal,
    key_pem: String,
    certificate_pem: String,
    ca_pem: String,
}

fn made() -> Made {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(&dir.path().join("ca"), "fed", NOW).unwrap();
    let principal = Principal { role: Role::Operator, name: "ops".parse().unwrap() };
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    // Valid in any year in which this test runs, as `create` opens what it wrote.
    let validity = Duration::from_secs(9 * 365 * 24 * 3600);
    let leaf = authority.sign(request.der(), &principal, NOW, validity).unwrap();
    let (key_pem, certificate_pem) = (key.serialize_pem(), leaf.pem);
    Made { dir, principal, key_pem, certificate_pem, ca_pem: authority.ca_pem().to_owned() }
}

impl Made {
    fn create(&self, folder: &str) -> Result<ClientHome, HomeError> {
        let new = NewHome {
            coordinator: "localhost:7001",
            principal: &self.principal,
            trust_domain: "fed",
            key_pem: &self.key_pem,
            certificate_pem: &self.certificate_pem,
            ca_pem: &self.ca_pem,
        };
        ClientHome::create(&self.dir.path().join(folder), &new)
    }
}

fn text(result: Result<ClientHome, HomeError>) -> String {
    result.err().expect("this home is not good").to_string()
}

#[test]
fn a_home_is_found_also_inside_that_of_the_coordinator() {
    let made = made();
    let home = made.create("coordinator/operator").unwrap();
    assert_eq!((home.coordinator(), home.trust_domain()), ("localhost:7001", "fed"));
    assert_eq!(home.principal(), &made.principal);
    assert!(home.not_after_unix() * 1000 > NOW);
    let outer = made.dir.path().join("coordinator");
    let found = ClientHome::open(&outer).unwrap();
    assert_eq!(found.dir(), outer.join("operator"));
    assert_eq!(ClientHome::owner(&outer.join("operator")).unwrap(), Some(made.principal.clone()));
    assert_eq!(ClientHome::owner(&outer).unwrap(), None);
}

#[test]
fn nothing_there_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = text(ClientHome::open(dir.path()));
    assert!(error.contains("conclave-worker join") && error.contains("CONCLAVE_HOME"), "{error}");
}

#[test]
fn an_expired_certificate_says_when() {
    let made = made();
    let home = made.create("home").unwrap();
    let end = home.not_after_unix() * 1000;
    assert!(ClientHome::open_at(home.dir(), end - 1).is_ok());
    let error = ClientHome::open_at(home.dir(), end).err().unwrap();
    assert!(matches!(&error, HomeError::Expired { at, .. } if at.starts_with("2034-12-30")), "{error}");
    assert!(ClientHome::open_at(home.dir(), end + HOUR_MS).is_err());
}

#[test]
fn files_that_do_not_fit_are_refused() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let made = made();
    let home = made.create("home").unwrap();
    let dir = home.dir();
    let key = dir.join(KEY_FILE);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(text(ClientHome::open(dir)).contains("run: chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let settings = dir.join(SETTINGS_FILE);
    let good = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, good.replace("\"ops\"", "\"boss\"")).unwrap();
    assert!(
        text(ClientHome::open(dir))
            .contains("client.toml is of operator boss, the certificate is of operator ops")
    );
    fs::write(&settings, good.replace("\"fed\"", "\"other\"")).unwrap();
    assert!(text(ClientHome::open(dir)).contains("is not of the trust domain 'other'"));
    fs::write(&settings, format!("{good}extra = 1\n")).unwrap();
    assert!(text(ClientHome::open(dir)).contains("unknown field `extra`"));
    fs::write(&settings, good).unwrap();
    fs::write(dir.join(CERTIFICATE_FILE), "nothing").unwrap();
    assert!(text(ClientHome::open(dir)).contains("no certificate in the PEM text"));
}
