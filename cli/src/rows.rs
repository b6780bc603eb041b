//! The rows that a user wants predictions for: CSV or JSON, checked before anything is sent.

mod csv;
mod json;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The longest input that is read, in bytes.
pub(crate) const INPUT_BYTES_MAX: u64 = 256 << 20;

/// Rows of numbers, in the order of the model's features: row-major, all finite, at least one row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    /// `rows x width` numbers.
    pub(crate) values: Vec<f32>,
    /// Features per row.
    pub(crate) width: usize,
}

/// Why an input is not rows for a model. `source` is the file, or "standard input".
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    #[error("read {source_name}: {cause}")]
    Read { source_name: String, cause: io::Error },
    #[error("{0} is longer than {INPUT_BYTES_MAX} bytes, split it")]
    TooLong(String),
    #[error("{0} holds no row")]
    Empty(String),
    #[error(
        "{source_name}, line 1: no column '{feature}'; the first line is taken as a header because it is not all \
         numbers, and it has: {header}"
    )]
    MissingColumn { source_name: String, feature: String, header: String },
    #[error("{source_name}, line 1: column '{feature}' occurs twice")]
    TwiceColumn { source_name: String, feature: String },
    #[error("{place}: {found} values, {expected} are needed{columns}")]
    Width { place: String, found: usize, expected: usize, columns: String },
    #[error("{place}: '{text}' {why}")]
    Cell { place: String, text: String, why: &'static str },
    #[error("{source_name}: {why}")]
    Format { source_name: String, why: String },
}

impl Rows {
    /// Reads rows from a file, or from standard input for `-`.
    pub(crate) fn read(path: &Path, features: &[String]) -> Result<Self, RowsError> {
        let mut bytes = Vec::new();
        let (name, read) = if path == Path::new("-") {
            let name = "standard input".to_owned();
            (name, io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes))
        } else {
            let file = File::open(path);
            let read = file.and_then(|file| file.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes));
            (path.display().to_string(), read)
        };
        read.map_err(|cause| RowsError::Read { source_name: name.clone(), cause })?;
        if bytes.len() as u64 > INPUT_BYTES_MAX {
            return Err(RowsError::TooLong(name));
        }
        Self::parse(&name, &bytes, features)
    }

    /// Reads rows from bytes: JSON when the first character is a bracket, else CSV.
    pub(crate) fn parse(name: &str, bytes: &[u8], features: &[String]) -> Result<Self, RowsError> {
        // Spreadsheets put a byte order mark before the first column's name.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
        let values = match first {
            None => return Err(RowsError::Empty(name.to_owned())),
            Some(b'[' | b'{') => json::parse(name, bytes, features)?,
            Some(_) => csv::parse(name, bytes, features)?,
        };
        if values.is_empty() {
            return Err(RowsError::Empty(name.to_owned()));
        }
        Ok(Self { values, width: features.len() })
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.width.max(1)
    }
}

/// A number that a model can take, or why not.
fn usable(value: f64) -> Result<f32, &'static str> {
    let narrow = value as f32;
    match () {
        () if value.is_nan() => Err("is not a number that a model can take"),
        () if narrow.is_infinite() => Err("is beyond the range of 32-bit floats"),
        () => Ok(narrow),
    }
}

/// The model's columns, at the end of a message.
fn columns(features: &[String]) -> String {
    format!(": {}", features.join(", "))
}
