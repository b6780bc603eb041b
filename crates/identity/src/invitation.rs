//! The coordinator's side of a token.

use params::Name;
use proto::error::{ErrorCode, WireError};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Principal, Role, token};

/// What the coordinator keeps of a token: never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// [`crate::Token::id`].
    pub id: String,
    /// What the new member will be.
    pub role: Role,
    /// What it will be called.
    pub name: Name,
    /// [`crate::Token::secret_hash`].
    pub secret_hash: [u8; 32],
    /// From then on it is of no use; milliseconds since 1970.
    pub expires_unix_ms: u64,
    /// The public key (BLAKE3 of its DER) that joined with it.
    pub used_by: Option<[u8; 32]>,
}

/// A token was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the change must be durable before a certificate is signed"]
pub enum Redeemed {
    /// The invitation is now used: record it durably before signing.
    First,
    /// The same key once more, for instance because the answer was lost: sign again.
    Again,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// There is no invitation with this id.
    #[error("this coordinator knows no token '{id}': ask its operator for a new one")]
    Unknown {
        /// The id of the token.
        id: String,
    },
    /// The id is right, the secret is not.
    #[error("the secret of token '{id}' is wrong: paste the whole line that `conclave invite` printed")]
    WrongSecret {
        /// The id of the token.
        id: String,
    },
    /// Too late.
    #[error("token '{id}' expired at {at}: ask the operator for a new one")]
    Expired {
        /// The id of the token.
        id: String,
        /// When, RFC 3339.
        at: String,
    },
    /// Another key has joined with it.
    #[error(
        "token '{id}' was used already: a token lets one member join once, ask the operator for a new one"
    )]
    Used {
        /// The id of the token.
        id: String,
    },
}

/// Stored bytes are not an invitation.
#[derive(Debug, thiserror::Error)]
#[error("stored invitation: {0}")]
pub struct InvitationError(String);

impl Invitation {
    /// Who joins with it.
    pub fn principal(&self) -> Principal {
        Principal { role: self.role, name: self.name.clone() }
    }

    /// Redeems the token for a public key (`spki` is BLAKE3 of its DER); changes nothing when it refuses.
    ///
    /// # Errors
    /// [`TokenRefusal`]; whoever does not know the secret learns only that.
    pub fn redeem(
        &mut self,
        secret: &[u8],
        spki: [u8; 32],
        now_unix_ms: u64,
    ) -> Result<Redeemed, TokenRefusal> {
        let id = self.id.clone();
        // `blake3::Hash` compares in constant time.
        if blake3::Hash::from(token::hash(secret)) != blake3::Hash::from(self.secret_hash) {
            return Err(TokenRefusal::WrongSecret { id });
        }
        if self.used_by.is_some_and(|other| other != spki) {
            return Err(TokenRefusal::Used { id });
        }
        if now_unix_ms >= self.expires_unix_ms {
            return Err(TokenRefusal::Expired { id, at: rfc3339(self.expires_unix_ms) });
        }
        Ok(match self.used_by.replace(spki) {
            None => Redeemed::First,
            Some(_) => Redeemed::Again,
        })
    }

    /// The stored form (JSON).
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            id: self.id.clone(),
            role: self.role.to_string(),
            name: self.name.to_string(),
            secret_hash: self.secret_hash,
            expires_unix_ms: self.expires_unix_ms,
            used_by: self.used_by,
        };
        serde_json::to_vec(&stored).expect("plain strings, numbers and arrays are JSON")
    }

    /// Reads [`Invitation::to_bytes`].
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvitationError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|e| InvitationError(e.to_string()))?;
        Ok(Self {
            id: stored.id,
            role: stored.role.parse().map_err(|e: crate::ParseRoleError| InvitationError(e.to_string()))?,
            name: stored.name.parse().map_err(|e: params::ParseNameError| InvitationError(e.to_string()))?,
            secret_hash: stored.secret_hash,
            expires_unix_ms: stored.expires_unix_ms,
            used_by: stored.used_by,
        })
    }
}

impl From<TokenRefusal> for WireError {
    fn from(refusal: TokenRefusal) -> Self {
        let code = match refusal {
            TokenRefusal::Unknown { .. } => ErrorCode::NotFound,
            TokenRefusal::WrongSecret { .. } => ErrorCode::Unauthenticated,
            TokenRefusal::Expired { .. } => ErrorCode::Stale,
            TokenRefusal::Used { .. } => ErrorCode::Conflict,
        };
        Self::new(code, refusal.to_string())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: String,
    role: String,
    name: String,
    secret_hash: [u8; 32],
    expires_unix_ms: u64,
    used_by: Option<[u8; 32]>,
}

/// A time for people; the number itself when no calendar has it.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix_ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn invitation() -> Invitation {
        Invitation {
            id: "00ff".into(),
            role: Role::Worker,
            name: "a".parse().unwrap(),
            secret_hash: token::hash(b"secret"),
            expires_unix_ms: 1_767_225_600_000,
            used_by: None,
        }
    }

    #[test]
    fn lets_one_key_in_until_it_expires() {
        let mut it = invitation();
        assert_eq!(it.redeem(b"secret", KEY, 0), Ok(Redeemed::First));
        assert_eq!(it.used_by, Some(KEY));
        assert_eq!(it.redeem(b"secret", KEY, 1_767_225_599_999), Ok(Redeemed::Again));
        assert_eq!(it.redeem(b"secret", OTHER, 0), Err(TokenRefusal::Used { id: "00ff".into() }));
        let expired = it.redeem(b"secret", KEY, 1_767_225_600_000).unwrap_err();
        assert_eq!(
            expired.to_string(),
            "token '00ff' expired at 2026-01-01T00:00:00Z: ask the operator for a new one"
        );
    }

    #[test]
    fn a_refusal_changes_nothing() {
        let mut it = invitation();
        let wrong = TokenRefusal::WrongSecret { id: "00ff".into() };
        for secret in [&b""[..], b"secreT", b"secret "] {
            assert_eq!(it.redeem(secret, KEY, 0), Err(wrong.clone()));
        }
        assert!(it.redeem(b"secret", KEY, u64::MAX).is_err());
        assert_eq!(it, invitation());
    }

    #[test]
    fn the_stored_form_comes_back() {
        let mut it = invitation();
        assert_eq!(Invitation::from_bytes(&it.to_bytes()).unwrap(), it);
        it.used_by = Some(KEY);
        assert_eq!(Invitation::from_bytes(&it.to_bytes()).unwrap(), it);
        assert!(Invitation::from_bytes(b"{}").is_err());
        let other = String::from_utf8(it.to_bytes()).unwrap().replace("worker", "root");
        assert_eq!(
            Invitation::from_bytes(other.as_bytes()).unwrap_err().to_string(),
            "stored invitation: role 'root' does not exist: use worker, operator or reader"
        );
    }

    #[test]
    fn times_beyond_the_calendar_are_numbers() {
        assert_eq!(rfc3339(u64::MAX), format!("{} ms", u64::MAX));
    }
}
