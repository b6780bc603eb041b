//! Joining a federation with a token: the member's side of enrolment.

use std::path::{Path, PathBuf};

use params::Name;
use proto::{
    error::{ErrorCode, WireError},
    v1::{JoinRequest, JoinResponse, enrolment_client::EnrolmentClient},
};
use rcgen::{KeyPair, PublicKeyData};
use service::{
    dial::{self, DialError, Limits},
    files::{self, FileError},
    tls,
};
use tonic::Status;
use zeroize::Zeroizing;

use crate::{ClientHome, HomeError, Leaf, NewHome, Principal, Role, Token, authority};

/// The key of a join that is not finished, so that a retry of the same token asks for the same key.
const PENDING_KEY_FILE: &str = "join.key.pem";

/// What to join, and as whom.
pub struct JoinOptions<'a> {
    /// From the operator.
    pub token: Token,
    /// Dial this `host:port` instead of the token's, for instance behind a port forward.
    pub address: Option<String>,
    /// Where the identity is kept.
    pub home: &'a Path,
    /// Refuse a token for another role: checked when the coordinator answers.
    pub expect_role: Option<Role>,
    /// Refuse a token for another name.
    pub expect_name: Option<Name>,
}

/// Why joining failed. Trying again with the same token is fine until it expires.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The coordinator has another certificate authority than the token names.
    #[error(
        "this token is for another coordinator: {address} has a different certificate authority; check the address, or ask its operator for a token"
    )]
    OtherAuthority {
        /// Where.
        address: String,
    },
    /// No connection.
    #[error(transparent)]
    Dial(DialError),
    /// The coordinator does not know the token.
    #[error("{0}")]
    Unknown(String),
    /// The secret of the token is wrong.
    #[error("{0}")]
    WrongSecret(String),
    /// The token has expired.
    #[error("{0}")]
    Expired(String),
    /// The token was used by another member.
    #[error("{0}")]
    Used(String),
    /// The coordinator refuses for another reason.
    #[error("the coordinator refuses: {0}")]
    Refused(#[source] WireError),
    /// The token is for somebody else than was expected.
    #[error("this token is for {found}, not for {wanted}")]
    OtherMember {
        /// Whom the token is for.
        found: String,
        /// Who was to join.
        wanted: String,
    },
    /// The home holds the identity of another member, which is not overwritten.
    #[error("{} is the home of {owner}: give another folder with --home", home.display())]
    Occupied {
        /// The folder.
        home: PathBuf,
        /// Whose it is.
        owner: Principal,
    },
    /// The coordinator's answer is not what we asked for; nothing was written.
    #[error("the coordinator's answer is wrong: {0}")]
    Answer(String),
    /// The home cannot be written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file of the home.
    #[error(transparent)]
    File(#[from] FileError),
    /// Randomness or the cryptography itself failed.
    #[error("make a key: {0}")]
    Crypto(String),
}

/// Joins: makes a key in the home, sends its signing request to the coordinator that the token pins,
/// checks the answer, and writes the home. The key never leaves the home.
///
/// # Errors
/// [`JoinError`], each cause with its own message.
pub async fn join(options: JoinOptions<'_>) -> Result<ClientHome, JoinError> {
    let owner = ClientHome::owner(options.home)?;
    if let Some(owner) = &owner {
        // Before the token is spent, as far as it can be known.
        expect(owner, options.expect_role, options.expect_name.as_ref())
            .map_err(|_| JoinError::Occupied { home: options.home.to_owned(), owner: owner.clone() })?;
    }
    let address = options.address.as_deref().unwrap_or(&options.token.address);
    let key = pending_key(options.home)?;
    // What is in the home, or what the caller wants: the coordinator refuses another before the token is spent.
    let role = options.expect_role.or(owner.as_ref().map(|owner| owner.role));
    let name = options.expect_name.as_ref().or(owner.as_ref().map(|owner| &owner.name));
    let request = JoinRequest {
        token_id: options.token.id.clone(),
        token_secret: options.token.secret().to_vec(),
        signing_request: crate::request::request_for(&key).map_err(crypto)?,
        expect_role: role.map(|role| role.to_string()).unwrap_or_default(),
        expect_name: name.map(ToString::to_string).unwrap_or_default(),
    };
    let response = call(&options.token, address, request).await?;
    let (principal, trust_domain) = check(&response, &options.token, &key)?;
    expect(&principal, options.expect_role, options.expect_name.as_ref())?;
    if let Some(owner) = owner.filter(|owner| *owner != principal) {
        return Err(JoinError::Occupied { home: options.home.to_owned(), owner });
    }
    let key_pem = Zeroizing::new(key.serialize_pem());
    let new = NewHome {
        coordinator: address,
        principal: &principal,
        trust_domain: &trust_domain,
        key_pem: &key_pem,
        certificate_pem: &response.certificate_pem,
        ca_pem: &response.ca_pem,
    };
    let home = ClientHome::create(options.home, &new)?;
    files::remove(&options.home.join(PENDING_KEY_FILE))?;
    Ok(home)
}

async fn call(token: &Token, address: &str, request: JoinRequest) -> Result<JoinResponse, JoinError> {
    let config = tls::client_pinned(token.fingerprint, proto::ALPN_ENROL)
        .map_err(|e| JoinError::Dial(DialError::Credentials(e.to_string())))?;
    let channel = dial::channel(address, config, Limits::default()).await.map_err(|e| match e {
        DialError::NotPinned { address } => JoinError::OtherAuthority { address },
        other => JoinError::Dial(other),
    })?;
    EnrolmentClient::new(channel).join(request).await.map(tonic::Response::into_inner).map_err(refusal)
}

/// The coordinator's words for each refusal of a token, see `From<TokenRefusal> for WireError`.
fn refusal(status: Status) -> JoinError {
    if let Some(dial) = dial::classify(&status) {
        return JoinError::Dial(dial);
    }
    let error = WireError::from(status);
    match error.code {
        ErrorCode::NotFound => JoinError::Unknown(error.message),
        ErrorCode::Unauthenticated => JoinError::WrongSecret(error.message),
        ErrorCode::Stale => JoinError::Expired(error.message),
        ErrorCode::Conflict => JoinError::Used(error.message),
        _ => JoinError::Refused(error),
    }
}

/// The answer must be for our key, from the pinned authority, and agree with itself.
fn check(response: &JoinResponse, token: &Token, key: &KeyPair) -> Result<(Principal, String), JoinError> {
    let wrong = |why: &str| JoinError::Answer(why.to_owned());
    let first = |pem: &str| tls::certificates(pem.as_bytes()).ok().and_then(|all| all.into_iter().next());
    let ca = first(&response.ca_pem).ok_or_else(|| wrong("it holds no certificate authority"))?;
    if tls::fingerprint(&ca).ok() != Some(token.fingerprint) {
        return Err(wrong("its certificate authority is not the one that the token names"));
    }
    let trust_domain = authority::trust_domain(&ca)
        .ok_or_else(|| wrong("its certificate authority names no trust domain"))?;
    let leaf = first(&response.certificate_pem).ok_or_else(|| wrong("it holds no certificate"))?;
    let leaf = Leaf::from_certificate(&leaf, &trust_domain).map_err(|e| JoinError::Answer(e.to_string()))?;
    if leaf.spki != *blake3::hash(&key.subject_public_key_info()).as_bytes() {
        return Err(wrong("its certificate is for another key"));
    }
    let named = (leaf.principal.role.as_str(), leaf.principal.name.as_str());
    if named != (response.role.as_str(), response.name.as_str()) {
        return Err(wrong("its certificate and its words name different members"));
    }
    Ok((leaf.principal, trust_domain))
}

fn expect(found: &Principal, role: Option<Role>, name: Option<&Name>) -> Result<(), JoinError> {
    let role = role.unwrap_or(found.role);
    let name = name.unwrap_or(&found.name);
    let wanted = Principal { role, name: name.clone() };
    if wanted == *found {
        return Ok(());
    }
    Err(JoinError::OtherMember { found: found.to_string(), wanted: wanted.to_string() })
}

/// The key of an interrupted join, or a new one, on disk before it is used.
fn pending_key(home: &Path) -> Result<KeyPair, JoinError> {
    let file = home.join(PENDING_KEY_FILE);
    match files::read_secret(&file) {
        Ok(pem) => {
            let pem = Zeroizing::new(pem);
            // A crash while it was written: nobody has signed it, so a new one is as good.
            if let Some(key) = std::str::from_utf8(&pem).ok().and_then(|pem| KeyPair::from_pem(pem).ok()) {
                return Ok(key);
            }
        }
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e.into()),
    }
    files::create_private_dir(home)?;
    let key = KeyPair::generate().map_err(crypto)?;
    let pem = Zeroizing::new(key.serialize_pem());
    files::replace_secret(&file, pem.as_bytes())?;
    Ok(key)
}

fn crypto(error: rcgen::Error) -> JoinError {
    JoinError::Crypto(error.to_string())
}
