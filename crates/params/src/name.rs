use std::{fmt, str::FromStr};

/// The longest name, in bytes.
const LEN_MAX: usize = 63;

/// What a user calls a worker, a run, a model or a dataset: `[a-z0-9][a-z0-9._-]{0,62}`.
///
/// A name is safe as a file name, as one path segment of a URL or SPIFFE ID, and as a metric label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// More than 63 bytes.
    #[error("name '{start}...' has {len} bytes, at most {LEN_MAX} are allowed")]
    TooLong {
        /// The first characters of the text.
        start: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A character that names do not hold.
    #[error(
        "name '{name}' holds {found:?} at position {at}: use a-z, 0-9, '.', '_', '-', and start with a letter or digit"
    )]
    Character {
        /// The whole text.
        name: String,
        /// The first character that is not allowed.
        found: char,
        /// Its position in bytes.
        at: usize,
    },
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseNameError::Empty);
        }
        if text.len() > LEN_MAX {
            return Err(ParseNameError::TooLong { start: text.chars().take(16).collect(), len: text.len() });
        }
        for (at, found) in text.char_indices() {
            let word = found.is_ascii_lowercase() || found.is_ascii_digit();
            let mark = matches!(found, '.' | '_' | '-') && at > 0;
            if !word && !mark {
                return Err(ParseNameError::Character { name: text.to_owned(), found, at });
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_users_write() {
        for good in ["iris", "hospital-a", "0", "a.b_c-d", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_with_the_place() {
        assert_eq!("".parse::<Name>(), Err(ParseNameError::Empty));
        let cases = [
            ("Iris", 'I', 0),
            ("../x", '.', 0),
            ("a/b", '/', 1),
            ("-a", '-', 0),
            ("a b", ' ', 1),
            ("é", 'é', 0),
        ];
        for (text, found, at) in cases {
            assert_eq!(text.parse::<Name>(), Err(ParseNameError::Character { name: text.into(), found, at }));
        }
        assert!(matches!("x".repeat(64).parse::<Name>(), Err(ParseNameError::TooLong { len: 64, .. })));
    }
}
