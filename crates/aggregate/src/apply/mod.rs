//! Server optimizers: one algorithm, one file.

mod adam;
mod sgd;

pub use adam::Adam;
pub use sgd::Sgd;

/// Why bytes are not the state of a server optimizer; the optimizer is left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes were saved by another optimizer, or by another release.
    #[error("state starts with '{found}', expected '{expected}'")]
    Kind {
        /// The tag in the bytes.
        found: String,
        /// The tag of this optimizer.
        expected: &'static str,
    },
    /// The bytes are cut short, or belong to a model of another size.
    #[error("state of {found} bytes, expected {expected}")]
    Length {
        /// Bytes that were given.
        found: usize,
        /// Bytes that this optimizer saves.
        expected: usize,
    },
    /// A number that this optimizer cannot have saved.
    #[error("state has {value} for {what}")]
    Value {
        /// Which part of the state.
        what: &'static str,
        /// The number, as text.
        value: String,
    },
}

/// What follows the 8-byte tag of a saved state, if the tag and the total length are right.
fn payload<'a>(bytes: &'a [u8], tag: &'static str, expected: usize) -> Result<&'a [u8], StateError> {
    let rest = bytes.strip_prefix(tag.as_bytes()).ok_or_else(|| StateError::Kind {
        found: String::from_utf8_lossy(&bytes[..bytes.len().min(8)]).into_owned(),
        expected: tag,
    })?;
    if bytes.len() != expected {
        return Err(StateError::Length { found: bytes.len(), expected });
    }
    Ok(rest)
}
