use ::csv::{ReaderBuilder, StringRecord};

use crate::{
    error::{DataError, short},
    table::{Source, Table},
};

/// How large a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file; never more than 4 GiB.
    pub bytes: u64,
    /// Rows below the header.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Default for Limits {
    /// 1 GiB, 10 million rows, 10 thousand columns.
    fn default() -> Self {
        Self { bytes: 1 << 30, rows: 10_000_000, columns: 10_000 }
    }
}

/// Reads a CSV file (RFC 4180, UTF-8, with or without a byte order mark, any line ending) whose first line
/// names the columns. Blank lines are skipped and white space around cells is dropped; cells stay text.
/// `source_name` is what errors call the file.
///
/// # Errors
/// The file is empty, has no header or no rows, is not UTF-8, breaks a limit, repeats a column name, has a
/// row of another length than the header, or a quotation mark without a partner.
pub fn read_csv(source_name: &str, bytes: &[u8], limits: &Limits) -> Result<Table, DataError> {
    let file = || source_name.to_owned();
    let bytes_max = limits.bytes.min(u64::from(u32::MAX));
    check_limit(source_name, "bytes", bytes.len() as u64, bytes_max)?;
    let text = std::str::from_utf8(bytes)
        .map_err(|e| DataError::NotUtf8 { file: file(), line: 1 + newlines(&bytes[..e.valid_up_to()]) })?;
    let mut records = Records::new(text.strip_prefix('\u{feff}').unwrap_or(text), source_name);

    let Some(line) = records.next_record()? else { return Err(DataError::Empty { file: file() }) };
    let columns = header(source_name, line, &records.record, limits)?;
    let width = columns.len();
    let mut source = Source::new(source_name, columns);
    while let Some(line) = records.next_record()? {
        if records.record.len() != width {
            let found = records.record.len();
            return Err(DataError::Ragged { file: file(), line, found, expected: width });
        }
        source.push(line as u32, records.record.iter());
        check_limit(source_name, "rows", source.rows() as u64, limits.rows as u64)?;
    }
    if source.rows() == 0 {
        return Err(DataError::NoRows { file: file() });
    }
    Ok(Table::new(source))
}

fn header(file: &str, line: u64, record: &StringRecord, limits: &Limits) -> Result<Vec<String>, DataError> {
    check_limit(file, "columns", record.len() as u64, limits.columns as u64)?;
    // A mark behind blank lines is no part of a name: written first in a file, it would be read as a mark.
    let plain = |name: &str| {
        name.trim_start_matches(|c: char| c == '\u{feff}' || c.is_whitespace()).trim_end().to_owned()
    };
    let columns: Vec<String> = record.iter().map(plain).collect();
    if columns.iter().all(|name| name.parse::<f64>().is_ok()) {
        return Err(DataError::NoHeader { file: file.to_owned(), line });
    }
    let mut seen = std::collections::BTreeSet::new();
    for (at, name) in columns.iter().enumerate() {
        if name.is_empty() || !seen.insert(name) {
            let (file, position, name) = (file.to_owned(), at + 1, short(name));
            return Err(DataError::ColumnName { file, line, position, name });
        }
    }
    Ok(columns)
}

fn check_limit(file: &str, what: &'static str, found: u64, max: u64) -> Result<(), DataError> {
    if found <= max {
        return Ok(());
    }
    Err(DataError::TooLarge { file: file.to_owned(), what, found, max })
}

/// The records of a text, with the line on which each one starts. (The reader's own position is where the
/// search for the record began: before blank lines, and before the second half of a CR LF.)
struct Records<'a> {
    bytes: &'a [u8],
    reader: ::csv::Reader<&'a [u8]>,
    record: StringRecord,
    file: &'a str,
    /// How far lines are counted, and the line there.
    at: usize,
    line: u64,
}

impl<'a> Records<'a> {
    fn new(text: &'a str, file: &'a str) -> Self {
        let bytes = text.as_bytes();
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        Self { bytes, reader, record: StringRecord::new(), file, at: 0, line: 1 }
    }

    /// Reads the next record; its line, or `None` at the end.
    fn next_record(&mut self) -> Result<Option<u64>, DataError> {
        let blank = self.bytes[self.at..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let line = self.line + newlines(&self.bytes[self.at..self.at + blank]);
        let more = self.reader.read_record(&mut self.record);
        // The text is UTF-8, in memory, and of any width: what is left is a reader's own limit.
        let more = more.map_err(|_| DataError::Quote { file: self.file.to_owned(), line })?;
        let end = (self.reader.position().byte() as usize).min(self.bytes.len());
        let raw = &self.bytes[self.at..end];
        (self.at, self.line) = (end, self.line + newlines(raw));
        if raw.iter().filter(|b| **b == b'"').count() % 2 == 1 {
            return Err(DataError::Quote { file: self.file.to_owned(), line });
        }
        Ok(more.then_some(line))
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Table, DataError> {
        read_csv("t.csv", text.as_bytes(), &Limits::default())
    }

    fn message(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn reads_cells_and_lines() {
        // A byte order mark, CR LF, a blank line, a quoted line break and white space.
        let text = "\u{feff}a, b ,c\r\n\r\n1,\"x\r\ny\",\"say \"\"hi\"\"\"\r\n\n\n 2 ,, é\r\n3,4,5";
        let table = read(text).unwrap();
        assert_eq!(table.columns(), ["a", "b", "c"]);
        let rows: Vec<(u64, Vec<&str>)> =
            (0..table.rows()).map(|r| (table.line(r), table.row(r).collect())).collect();
        let expected =
            [(3, vec!["1", "x\r\ny", "say \"hi\""]), (7, vec!["2", "", "é"]), (8, vec!["3", "4", "5"])];
        assert_eq!(rows, expected);
        assert_eq!(read("\n\u{feff} \u{feff}a,b\n1,2\n").unwrap().columns(), ["a", "b"]);
    }

    #[test]
    fn names_every_fault() {
        assert_eq!(message(""), "t.csv is empty");
        assert_eq!(message("\u{feff}\r\n\n"), "t.csv is empty");
        assert_eq!(message("a,b\n\n"), "t.csv has a header but no rows");
        assert_eq!(
            message("5.1,3.5\n4.9,3.0\n"),
            "t.csv line 1 holds only numbers: the first line must name the columns"
        );
        assert_eq!(message("a,b\n1,2\n\n3\n"), "t.csv line 4 has 1 cells, the header has 2");
        assert_eq!(message("a,b\n1,2,3\n"), "t.csv line 2 has 3 cells, the header has 2");
        assert_eq!(
            message("\na,b,a\n1,2,3\n"),
            "t.csv line 2 names column 3 'a': names must be unique and not empty"
        );
        assert_eq!(
            message("a,\n1,2\n"),
            "t.csv line 1 names column 2 '': names must be unique and not empty"
        );
        assert_eq!(message("a,b\n1,2\n1,\"x\n3,4\n"), "t.csv line 3 has an unpaired quotation mark");
        let error = read_csv("t.csv", b"a,b\n1,2\n\xff,3\n", &Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "t.csv line 3 is not UTF-8 text: save the file as UTF-8 CSV");
    }

    #[test]
    fn keeps_limits() {
        let limits = Limits { bytes: 20, rows: 2, columns: 2 };
        let message = |text: &str| read_csv("t.csv", text.as_bytes(), &limits).unwrap_err().to_string();
        assert_eq!(message(&"x".repeat(21)), "t.csv has 21 bytes, at most 20 are allowed");
        assert_eq!(message("a,b,c\n1,2,3\n"), "t.csv has 3 columns, at most 2 are allowed");
        assert_eq!(message("a\n1\n2\n3\n"), "t.csv has 3 rows, at most 2 are allowed");
        assert_eq!(read_csv("t.csv", b"a,b\n1,2\n3,4\n", &limits).unwrap().rows(), 2);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_csv("t.csv", &bytes, &Limits::default());
        }

        #[test]
        fn foreign_text_never_panics(text in "[a,\"\r\n 1.é-]{0,60}") {
            if let Ok(table) = read(&text) {
                let target = table.columns()[0].clone();
                if let Ok(schema) = table.schema(&target, None, None) {
                    let _ = table.examples(&schema);
                }
                prop_assert_eq!(&read_csv("t.csv", &table.to_csv(), &Limits::default()).unwrap().to_csv(), &table.to_csv());
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            cells in proptest::collection::vec(proptest::collection::vec("[a,\"\r\n 1é]{0,5}", 3), 1..6)
        ) {
            let mut writer = ::csv::Writer::from_writer(Vec::new());
            writer.write_record(["p", "q\n,", "\"r\""]).unwrap();
            cells.iter().for_each(|row| writer.write_record(row).unwrap());
            let table = read_csv("t.csv", &writer.into_inner().unwrap(), &Limits::default()).unwrap();
            let read: Vec<Vec<&str>> = (0..table.rows()).map(|r| table.row(r).collect()).collect();
            let trimmed: Vec<Vec<&str>> =
                cells.iter().map(|row| row.iter().map(|cell| cell.trim()).collect()).collect();
            prop_assert_eq!(&read, &trimmed);
            let again = read_csv("t.csv", &table.to_csv(), &Limits::default()).unwrap();
            prop_assert_eq!(again.columns(), table.columns());
            let again: Vec<Vec<&str>> = (0..again.rows()).map(|r| again.row(r).collect()).collect();
            prop_assert_eq!(again, trimmed);
        }
    }
}
