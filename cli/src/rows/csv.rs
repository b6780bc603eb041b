use csv::{ReaderBuilder, StringRecord, Trim};

use super::{RowsError, columns, usable};

/// Reads CSV. With a header (a first line that is not all numbers) columns are found by the names of
/// the features and others are ignored; without one a line has exactly the features, in their order.
pub(super) fn parse(name: &str, bytes: &[u8], features: &[String]) -> Result<Vec<f32>, RowsError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        return Err(RowsError::Format {
            source_name: name.to_owned(),
            why: format!("line {line} is not UTF-8 text"),
        });
    }
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(bytes);
    let mut values = Vec::new();
    let mut layout: Option<Layout> = None;
    let mut record = StringRecord::new();
    while next(&mut reader, name, &mut record)? {
        let numbers = || record.iter().all(|cell| cell.parse::<f64>().is_ok());
        let layout = match &mut layout {
            Some(layout) => layout,
            first @ None if numbers() => first.insert(Layout::in_order(features)),
            first @ None => {
                *first = Some(Layout::by_name(name, &record, features)?);
                continue;
            }
        };
        layout.append((name, bytes), &record, features, &mut values)?;
    }
    Ok(values)
}

fn next(reader: &mut csv::Reader<&[u8]>, name: &str, record: &mut StringRecord) -> Result<bool, RowsError> {
    reader
        .read_record(record)
        .map_err(|e| RowsError::Format { source_name: name.to_owned(), why: e.to_string() })
}

/// Where each feature is in a line.
struct Layout {
    /// The column of each feature.
    positions: Vec<usize>,
    /// How many columns a line has.
    width: usize,
    /// Whether the columns are the features, so that a wrong count is best explained by their names.
    plain: bool,
}

impl Layout {
    fn in_order(features: &[String]) -> Self {
        Self { positions: (0..features.len()).collect(), width: features.len(), plain: true }
    }

    fn by_name(name: &str, header: &StringRecord, features: &[String]) -> Result<Self, RowsError> {
        let find = |feature: &String| {
            let mut found = header.iter().enumerate().filter(|(_, cell)| cell == feature).map(|(at, _)| at);
            match (found.next(), found.next()) {
                (Some(at), None) => Ok(at),
                (Some(_), Some(_)) => {
                    Err(RowsError::TwiceColumn { source_name: name.to_owned(), feature: feature.clone() })
                }
                (None, _) => Err(RowsError::MissingColumn {
                    source_name: name.to_owned(),
                    feature: feature.clone(),
                    header: header.iter().collect::<Vec<_>>().join(", "),
                }),
            }
        };
        let positions = features.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Self { positions, width: header.len(), plain: false })
    }

    fn append(
        &self,
        (name, bytes): (&str, &[u8]),
        record: &StringRecord,
        features: &[String],
        values: &mut Vec<f32>,
    ) -> Result<(), RowsError> {
        let line = || line(bytes, record);
        if record.len() != self.width {
            let columns = if self.plain { columns(features) } else { ", as the header has".to_owned() };
            let place = format!("{name}, line {}", line());
            return Err(RowsError::Width { place, found: record.len(), expected: self.width, columns });
        }
        for (&at, feature) in self.positions.iter().zip(features) {
            // The width was checked, so every position has a cell.
            let cell = record.get(at).unwrap_or_default();
            let value = cell.parse::<f64>().map_err(|_| "is not a number").and_then(usable);
            let fault = |why| RowsError::Cell {
                place: format!("{name}, line {}, column {} ({feature})", line(), at + 1),
                text: crate::output::cut(cell, 40),
                why,
            };
            values.push(value.map_err(fault)?);
        }
        Ok(())
    }
}

/// The line of a record, 1-based. The reader's own count stops before the empty lines that it skips.
fn line(bytes: &[u8], record: &StringRecord) -> usize {
    let start = record.position().and_then(|p| usize::try_from(p.byte()).ok()).unwrap_or_default();
    let (before, rest) = bytes.split_at(start.min(bytes.len()));
    let skipped = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    1 + before.iter().chain(skipped).filter(|b| **b == b'\n').count()
}
