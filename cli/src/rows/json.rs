use serde_json::Value;

use super::{RowsError, columns, usable};

/// Reads a JSON list of rows, each a list of numbers in the order of the features.
pub(super) fn parse(name: &str, bytes: &[u8], features: &[String]) -> Result<Vec<f32>, RowsError> {
    let format = |why: String| RowsError::Format { source_name: name.to_owned(), why };
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format(e.to_string()))?;
    let expected = "a list of rows is needed, such as [[5.1, 3.5], [4.9, 3.0]]";
    let Value::Array(rows) = value else { return Err(format(expected.to_owned())) };
    let mut values = Vec::with_capacity(rows.len().saturating_mul(features.len()));
    for (row, cells) in rows.iter().enumerate() {
        let row = row + 1;
        let Value::Array(cells) = cells else {
            return Err(format(format!("row {row} is not a list; {expected}")));
        };
        if cells.len() != features.len() {
            return Err(RowsError::Width {
                place: format!("{name}, row {row}"),
                found: cells.len(),
                expected: features.len(),
                columns: columns(features),
            });
        }
        for (at, (cell, feature)) in cells.iter().zip(features).enumerate() {
            let value = cell.as_f64().ok_or("is not a number").and_then(usable);
            let fault = |why| RowsError::Cell {
                place: format!("{name}, row {row}, column {} ({feature})", at + 1),
                text: crate::output::cut(&cell.to_string(), 40),
                why,
            };
            values.push(value.map_err(fault)?);
        }
    }
    Ok(values)
}
