//! Join tokens: one line that lets a stranger join once.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Bytes of a token's secret.
pub const SECRET_BYTES: usize = 32;

/// What every token starts with; the number is the version of this format.
const PREFIX: &str = "conclave1";

/// Bytes of a token's id.
const ID_BYTES: usize = 8;

/// The longest token that is read, in bytes.
const LEN_MAX: usize = 512;

/// A one-time right to join, and where: `conclave1.<id>.<secret>.<fingerprint>.<host:port>`, the id in
/// hexadecimal, secret and fingerprint in base64url. Whoever holds it can join in its name, so it
/// is shown only by [`Token::expose`].
#[derive(Clone)]
pub struct Token {
    /// Which invitation: 16 hexadecimal digits, not secret.
    pub id: String,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    /// The public key of the certificate authority, as `service::tls::fingerprint`.
    pub fingerprint: [u8; 32],
    /// `host:port` of the coordinator.
    pub address: String,
}

/// Why a text is not a [`Token`]. The text is not repeated: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing was given.
    #[error("the token is empty: paste the whole line that `conclave invite` printed")]
    Empty,
    /// It does not start like a token.
    #[error(
        "not a Conclave token: it must start with '{PREFIX}.'; paste the line that `conclave invite` printed"
    )]
    Prefix,
    /// Fewer parts than a token has.
    #[error("the token has {found} of its 5 parts: was it cut short? paste the whole line")]
    Parts {
        /// How many there are.
        found: usize,
    },
    /// One part is damaged.
    #[error("the {part} of the token is damaged: was it cut short or changed? paste the whole line")]
    Damaged {
        /// Which part.
        part: &'static str,
    },
    /// Far longer than any token.
    #[error("a token of {0} bytes, at most {LEN_MAX} are read: paste one line only")]
    TooLong(usize),
}

impl Token {
    /// A new token with a random id and secret.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn generate(fingerprint: [u8; 32], address: &str) -> Result<Self, service::random::Unavailable> {
        let id = hex(&service::random::bytes::<ID_BYTES>()?);
        let secret = Zeroizing::new(service::random::bytes()?);
        Ok(Self { id, secret, fingerprint, address: address.to_owned() })
    }

    /// The secret, to be sent to the coordinator that the token names.
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// What the coordinator keeps instead of the secret: its BLAKE3. The secret has 256 random bits, so
    /// a slow hash would add nothing.
    pub fn secret_hash(&self) -> [u8; 32] {
        hash(self.secret.as_slice())
    }

    /// The whole token as text, secret included: for the person who invites, and nobody else.
    pub fn expose(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.as_slice()));
        let pin = URL_SAFE_NO_PAD.encode(self.fingerprint);
        Zeroizing::new(format!("{PREFIX}.{}.{}.{pin}.{}", self.id, *secret, self.address))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > LEN_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        // The last part is an address, which holds dots itself.
        let parts: Vec<&str> = text.splitn(5, '.').collect();
        if parts[0] != PREFIX {
            return Err(TokenError::Prefix);
        }
        let [_, id, secret, fingerprint, address] = parts[..] else {
            return Err(TokenError::Parts { found: parts.len() });
        };
        if id.len() != 2 * ID_BYTES || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(TokenError::Damaged { part: "id" });
        }
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
            return Err(TokenError::Damaged { part: "address" });
        }
        Ok(Self {
            id: id.to_owned(),
            secret: bytes(secret, "secret")?,
            fingerprint: *bytes(fingerprint, "fingerprint")?,
            address: address.to_owned(),
        })
    }
}

/// BLAKE3 of a secret.
pub(crate) fn hash(secret: &[u8]) -> [u8; 32] {
    *blake3::hash(secret).as_bytes()
}

fn bytes(text: &str, part: &'static str) -> Result<Zeroizing<[u8; 32]>, TokenError> {
    let damaged = || TokenError::Damaged { part };
    let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| damaged())?);
    let exact: [u8; 32] = decoded.as_slice().try_into().map_err(|_| damaged())?;
    Ok(Zeroizing::new(exact))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::generate([7; 32], "10.0.0.1:7001").unwrap()
    }

    #[test]
    fn reads_what_it_shows() {
        let token = token();
        let text = token.expose();
        let back: Token = format!("  {}\n", *text).parse().unwrap();
        assert_eq!((&back.id, back.secret(), back.fingerprint), (&token.id, token.secret(), [7; 32]));
        assert_eq!(back.address, "10.0.0.1:7001");
        assert_eq!(back.secret_hash(), *blake3::hash(token.secret()).as_bytes());
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = token();
        let shown = format!("{token:?}");
        let text = token.expose();
        let secret = text.split('.').nth(2).unwrap();
        assert!(shown.contains(&token.id) && !shown.contains(secret), "{shown}");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = token().expose();
        let parse = |text: &str| text.parse::<Token>().unwrap_err();
        assert_eq!(parse(" \n"), TokenError::Empty);
        assert_eq!(parse("eyJhbGciOi.J9"), TokenError::Prefix);
        assert_eq!(parse("conclave2.a.b.c.d:1"), TokenError::Prefix);
        assert_eq!(parse(&"x".repeat(513)), TokenError::TooLong(513));
        assert_eq!(parse(text.rsplit_once('.').unwrap().0), TokenError::Damaged { part: "address" });
        let mut parts: Vec<&str> = text.splitn(5, '.').collect();
        assert_eq!(parse(&parts[..4].join(".")), TokenError::Parts { found: 4 });
        assert_eq!(parse(&parts[..1].join(".")), TokenError::Parts { found: 1 });
        for (at, part) in [(1, "id"), (2, "secret"), (3, "fingerprint"), (4, "address")] {
            let whole = std::mem::replace(&mut parts[at], "aa");
            assert_eq!(parse(&parts.join(".")), TokenError::Damaged { part });
            parts[at] = whole;
        }
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,200}") {
            let _ = text.parse::<Token>();
            let _ = format!("conclave1.{text}").parse::<Token>();
        }
    }
}
