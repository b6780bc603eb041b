//! The home folder of a member: its key, its certificate, its authority, and where the coordinator is.

use std::path::{Path, PathBuf};

use params::Name;
use serde::{Deserialize, Serialize};
use service::{
    clock,
    exit::chain,
    files::{self, FileError},
    tls,
};
use zeroize::Zeroizing;

use crate::{Leaf, Principal, Role, invitation::rfc3339};

pub(crate) const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "cert.pem";
const AUTHORITY_FILE: &str = "ca.pem";
const SETTINGS_FILE: &str = "client.toml";

/// The coordinator's home holds the home of its own operator in this folder.
const OPERATOR_FOLDER: &str = "operator";

/// An opened and checked home.
pub struct ClientHome {
    dir: PathBuf,
    coordinator: String,
    principal: Principal,
    trust_domain: String,
    identity: tls::Identity,
    authority: Vec<rustls::pki_types::CertificateDer<'static>>,
    not_after_unix: u64,
}

/// What a home is made of.
pub struct NewHome<'a> {
    /// `host:port`.
    pub coordinator: &'a str,
    /// Whose home it is.
    pub principal: &'a Principal,
    /// The name of the federation.
    pub trust_domain: &'a str,
    /// PKCS #8.
    pub key_pem: &'a str,
    /// The leaf.
    pub certificate_pem: &'a str,
    /// The authority.
    pub ca_pem: &'a str,
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nobody has joined with this folder.
    #[error(
        "no identity in {}: run `conclave-worker join` (or `conclave join`) with a token from the operator, or set CONCLAVE_HOME",
        .0.display()
    )]
    Missing(PathBuf),
    /// A file of the home.
    #[error(transparent)]
    File(#[from] FileError),
    /// The files do not fit together.
    #[error("identity in {}: {why}; join again with a new token", folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate has ended.
    #[error("the certificate of {principal} in {} expired at {at}: join again with a new token", folder.display())]
    Expired {
        /// The folder.
        folder: PathBuf,
        /// Whose.
        principal: Principal,
        /// When, RFC 3339.
        at: String,
    },
}

impl ClientHome {
    /// Writes a home into `dir` (created with mode 0700) and opens it. An identity that is there is
    /// replaced; `client.toml` comes last, so a home with it is whole.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn create(dir: &Path, new: &NewHome<'_>) -> Result<Self, HomeError> {
        files::create_private_dir(dir)?;
        let settings = Settings {
            coordinator: new.coordinator.to_owned(),
            role: new.principal.role.to_string(),
            name: new.principal.name.to_string(),
            trust_domain: new.trust_domain.to_owned(),
        };
        let settings = toml::to_string(&settings)
            .map_err(|e| HomeError::Damaged { folder: dir.to_owned(), why: e.to_string() })?;
        files::replace_secret(&dir.join(KEY_FILE), new.key_pem.as_bytes())?;
        files::replace_shared(&dir.join(CERTIFICATE_FILE), new.certificate_pem.as_bytes())?;
        files::replace_shared(&dir.join(AUTHORITY_FILE), new.ca_pem.as_bytes())?;
        files::replace_shared(&dir.join(SETTINGS_FILE), settings.as_bytes())?;
        Self::open(dir)
    }

    /// Changes the address (`host:port`) of the coordinator in the home in `dir`.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_coordinator(dir: &Path, address: &str) -> Result<(), HomeError> {
        let damaged = |why: String| HomeError::Damaged { folder: dir.to_owned(), why };
        let file = dir.join(SETTINGS_FILE);
        let text = String::from_utf8(files::read(&file)?).map_err(|e| damaged(e.to_string()))?;
        let mut settings: Settings = toml::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        settings.coordinator = address.to_owned();
        let text = toml::to_string(&settings).map_err(|e| damaged(e.to_string()))?;
        Ok(files::replace_shared(&file, text.as_bytes())?)
    }

    /// Opens the home in `dir`, or, in the home of a coordinator, that of its operator.
    ///
    /// # Errors
    /// [`HomeError`]; [`HomeError::Expired`] when the certificate has ended.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        Self::open_at(dir, clock::unix_ms())
    }

    /// [`ClientHome::open`] at a given time, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`ClientHome::open`].
    pub fn open_at(dir: &Path, now_unix_ms: u64) -> Result<Self, HomeError> {
        let (dir, settings) = find(dir)?;
        let damaged = |why: String| HomeError::Damaged { folder: dir.clone(), why };
        let settings =
            std::str::from_utf8(&settings).map_err(|e| damaged(format!("{SETTINGS_FILE}: {e}")))?;
        let settings: Settings =
            toml::from_str(settings).map_err(|e| damaged(format!("{SETTINGS_FILE}: {}", e.message())))?;
        let principal = settings.principal().map_err(|why| damaged(format!("{SETTINGS_FILE}: {why}")))?;
        let key = Zeroizing::new(files::read_secret(&dir.join(KEY_FILE))?);
        let certificate = files::read(&dir.join(CERTIFICATE_FILE))?;
        let authority = files::read(&dir.join(AUTHORITY_FILE))?;
        let identity = tls::Identity::from_pem(&certificate, &key).map_err(|e| damaged(chain(&e)))?;
        let authority = tls::certificates(&authority).map_err(|e| damaged(chain(&e)))?;
        let leaf = Leaf::from_certificate(identity.leaf(), &settings.trust_domain)
            .map_err(|e| damaged(e.to_string()))?;
        if leaf.principal != principal {
            return Err(damaged(format!(
                "{SETTINGS_FILE} is of {principal}, the certificate is of {}",
                leaf.principal
            )));
        }
        if leaf.not_after_unix.saturating_mul(1000) <= now_unix_ms {
            let at = rfc3339(leaf.not_after_unix.saturating_mul(1000));
            return Err(HomeError::Expired { folder: dir, principal, at });
        }
        Ok(Self {
            dir,
            coordinator: settings.coordinator,
            principal,
            trust_domain: settings.trust_domain,
            identity,
            authority,
            not_after_unix: leaf.not_after_unix,
        })
    }

    /// Whose identity `dir` holds, without opening it: `None` when nobody has joined with it.
    pub(crate) fn owner(dir: &Path) -> Result<Option<Principal>, HomeError> {
        let settings = match files::read(&dir.join(SETTINGS_FILE)) {
            Err(e) if e.is_not_found() => return Ok(None),
            other => other?,
        };
        let damaged = |why| HomeError::Damaged { folder: dir.to_owned(), why };
        let settings: Settings = std::str::from_utf8(&settings)
            .map_err(|e| e.to_string())
            .and_then(|text| toml::from_str(text).map_err(|e| e.message().to_owned()))
            .map_err(|why| damaged(format!("{SETTINGS_FILE}: {why}")))?;
        settings.principal().map(Some).map_err(damaged)
    }

    /// The folder with the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the coordinator was when we joined: `host:port`.
    pub fn coordinator(&self) -> &str {
        &self.coordinator
    }

    /// Who we are.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The name of the federation.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// When our certificate ends, in seconds since 1970.
    pub fn not_after_unix(&self) -> u64 {
        self.not_after_unix
    }

    /// Our certificate and key.
    pub fn identity(&self) -> &tls::Identity {
        &self.identity
    }

    /// The certificates that we trust.
    pub fn authority(&self) -> &[rustls::pki_types::CertificateDer<'static>] {
        &self.authority
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    coordinator: String,
    role: String,
    name: String,
    trust_domain: String,
}

impl Settings {
    fn principal(&self) -> Result<Principal, String> {
        let role: Role = self.role.parse().map_err(|e: crate::ParseRoleError| e.to_string())?;
        let name: Name = self.name.parse().map_err(|e: params::ParseNameError| e.to_string())?;
        Ok(Principal { role, name })
    }
}

fn find(dir: &Path) -> Result<(PathBuf, Vec<u8>), HomeError> {
    for folder in [dir.to_owned(), dir.join(OPERATOR_FOLDER)] {
        match files::read(&folder.join(SETTINGS_FILE)) {
            Ok(settings) => return Ok((folder, settings)),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(HomeError::Missing(dir.to_owned()))
}

#[cfg(test)]
mod tests;
