//! What happened, as text or as a number.

use std::{
    fmt::{self, Write},
    hash::{DefaultHasher, Hasher},
};

/// Collects nothing, a hash, or everything.
#[derive(Debug, Default)]
pub(crate) enum Trace {
    #[default]
    Off,
    Hash(Hash),
    Text(Vec<String>),
}

#[derive(Debug, Default)]
pub(crate) struct Hash(DefaultHasher);

impl Trace {
    pub(crate) fn hash() -> Self {
        Self::Hash(Hash::default())
    }

    pub(crate) fn text() -> Self {
        Self::Text(Vec::new())
    }

    pub(crate) fn note(&mut self, now: u64, line: fmt::Arguments<'_>) {
        match self {
            Self::Off => {}
            Self::Hash(hash) => writeln!(hash, "{now} {line}").expect("a hash takes everything"),
            Self::Text(lines) => lines.push(format!("{now:>7} {line}")),
        }
    }

    /// Of all that was noted.
    pub(crate) fn finish(&self) -> u64 {
        match self {
            Self::Hash(hash) => hash.0.finish(),
            Self::Off | Self::Text(_) => 0,
        }
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
