//! Roles and identities, as SPIFFE IDs in certificates.

use std::{fmt, str::FromStr};

use params::Name;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// What a member may be. What each may do is one table in the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs rounds and keeps the registry.
    Coordinator,
    /// Trains on its own data.
    Worker,
    /// Starts runs and invites members.
    Operator,
    /// Pulls models and asks for predictions.
    Reader,
}

/// A text is not a [`Role`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("role '{0}' does not exist: use worker, operator or reader")]
pub struct ParseRoleError(pub String);

/// A member: a role and a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// What it may be.
    pub role: Role,
    /// What its operator calls it; `coordinator` for the coordinator.
    pub name: Name,
}

/// What the coordinator reads from a member's certificate, for authorisation on every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Who.
    pub principal: Principal,
    /// When it ends, in seconds since 1970: a connection may outlive its certificate, a call must not.
    pub not_after_unix: u64,
    /// BLAKE3 of the public key (SubjectPublicKeyInfo, DER): what revocation names.
    pub spki: [u8; 32],
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    /// Not an X.509 certificate.
    #[error("not a certificate")]
    Malformed,
    /// An identity is exactly one URI name (X509-SVID, section 2).
    #[error("the certificate has {0} URI names, an identity has exactly one")]
    Count(usize),
    /// The URI is of another federation.
    #[error("'{uri}' is not of the trust domain '{trust_domain}'")]
    TrustDomain {
        /// The URI of the certificate.
        uri: String,
        /// Ours.
        trust_domain: String,
    },
    /// The URI does not name a role and a name.
    #[error("'{0}' does not name a role and a name")]
    Path(String),
}

impl Role {
    /// The role as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Operator => "operator",
            Self::Reader => "reader",
        }
    }
}

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Coordinator, Self::Worker, Self::Operator, Self::Reader]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| ParseRoleError(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Principal {
    /// The coordinator of a federation; there is one.
    pub fn coordinator() -> Self {
        let name = "coordinator".parse().expect("a constant that is a name");
        Self { role: Role::Coordinator, name }
    }

    /// `spiffe://<trust domain>/<role>/<name>`, for the coordinator `spiffe://<trust domain>/coordinator`.
    pub fn uri(&self, trust_domain: &str) -> String {
        match self.role {
            Role::Coordinator => format!("spiffe://{trust_domain}/coordinator"),
            role => format!("spiffe://{trust_domain}/{role}/{}", self.name),
        }
    }

    /// Reads the identity of a certificate. Whether the certificate is valid and ours is the affair of
    /// the TLS handshake.
    ///
    /// # Errors
    /// Anything but exactly one well-formed URI name of `trust_domain`.
    pub fn from_certificate(der: &[u8], trust_domain: &str) -> Result<Self, PrincipalError> {
        Leaf::from_certificate(der, trust_domain).map(|leaf| leaf.principal)
    }

    fn from_uri(uri: &str, trust_domain: &str) -> Result<Self, PrincipalError> {
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(trust_domain))
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| PrincipalError::TrustDomain {
                uri: uri.to_owned(),
                trust_domain: trust_domain.to_owned(),
            })?;
        if path == "coordinator" {
            return Ok(Self::coordinator());
        }
        let member = |(role, name): (&str, &str)| {
            let role = role.parse().ok().filter(|role| *role != Role::Coordinator)?;
            Some(Self { role, name: name.parse().ok()? })
        };
        path.split_once('/').and_then(member).ok_or_else(|| PrincipalError::Path(uri.to_owned()))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Coordinator => f.write_str("coordinator"),
            role => write!(f, "{role} {}", self.name),
        }
    }
}

impl Leaf {
    /// Reads what authorisation needs from a certificate, DER; see [`Principal::from_certificate`].
    ///
    /// # Errors
    /// Anything but exactly one well-formed URI name of `trust_domain`.
    pub fn from_certificate(der: &[u8], trust_domain: &str) -> Result<Self, PrincipalError> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| PrincipalError::Malformed)?;
        let uris = uris(&parsed)?;
        let [uri] = uris[..] else { return Err(PrincipalError::Count(uris.len())) };
        Ok(Self {
            principal: Principal::from_uri(uri, trust_domain)?,
            not_after_unix: u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0),
            spki: *blake3::hash(parsed.tbs_certificate.subject_pki.raw).as_bytes(),
            serial: parsed.raw_serial().to_vec(),
        })
    }
}

/// The URI names of a certificate.
pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, PrincipalError> {
    let names = certificate.subject_alternative_name().map_err(|_| PrincipalError::Malformed)?;
    let uri = |name: &'a GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    };
    Ok(names.map_or_else(Vec::new, |names| names.value.general_names.iter().filter_map(uri).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uris_name_members() {
        let worker = Principal { role: Role::Worker, name: "hospital-a".parse().unwrap() };
        assert_eq!(worker.uri("fed"), "spiffe://fed/worker/hospital-a");
        assert_eq!(Principal::from_uri("spiffe://fed/worker/hospital-a", "fed"), Ok(worker));
        assert_eq!(Principal::coordinator().uri("fed"), "spiffe://fed/coordinator");
        assert_eq!(Principal::from_uri("spiffe://fed/coordinator", "fed"), Ok(Principal::coordinator()));
    }

    #[test]
    fn other_uris_name_nobody() {
        for bad in [
            "spiffe://fed/worker",
            "spiffe://fed/worker/",
            "spiffe://fed/worker/a/b",
            "spiffe://fed/worker/../x",
            "spiffe://fed/root/a",
            "spiffe://fed/coordinator/a",
            "spiffe://fed/",
        ] {
            assert_eq!(Principal::from_uri(bad, "fed"), Err(PrincipalError::Path(bad.into())));
        }
        for foreign in ["spiffe://federation/worker/a", "https://fed/worker/a", "spiffe://x/worker/a", ""] {
            let error = Principal::from_uri(foreign, "fed");
            assert!(matches!(error, Err(PrincipalError::TrustDomain { .. })), "{foreign}");
        }
    }

    #[test]
    fn roles_are_words() {
        for role in [Role::Coordinator, Role::Worker, Role::Operator, Role::Reader] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        let error = "root".parse::<Role>().unwrap_err();
        assert_eq!(error.to_string(), "role 'root' does not exist: use worker, operator or reader");
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(Principal::from_certificate(&bytes, "fed").is_err());
        }
    }
}
