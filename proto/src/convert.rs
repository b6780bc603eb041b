//! Validated conversions between wire types and domain types.

use params::{Digest, Name};

use crate::{error::WireError, v1};

/// Parses a name field; `what` says which.
pub fn name(what: &str, text: &str) -> Result<Name, WireError> {
    text.parse().map_err(|e| WireError::invalid(format!("{what}: {e}")))
}

/// Parses a digest field; `what` says which.
pub fn digest(what: &str, bytes: &[u8]) -> Result<Digest, WireError> {
    Digest::try_from(bytes).map_err(|e| WireError::invalid(format!("{what}: {e}")))
}

/// A field that must be there; `what` says which.
pub fn required<T>(what: &str, field: Option<T>) -> Result<T, WireError> {
    field.ok_or_else(|| WireError::invalid(format!("{what} is missing")))
}

/// A float that must be finite; `what` says which.
pub fn finite(what: &str, value: f64) -> Result<f64, WireError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(WireError::invalid(format!("{what} is {value}, a finite number is needed")))
    }
}

/// How a blob is named on the wire.
pub fn blob_ref(digest: Digest, bytes: u64) -> v1::BlobRef {
    v1::BlobRef { digest: digest.as_bytes().to_vec(), bytes }
}
