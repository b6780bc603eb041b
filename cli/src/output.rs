//! What goes to the terminal: tables, JSON, JSON lines, and notes.

use std::{
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use clap::ValueEnum;
use comfy_table::CellAlignment;
use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON value.
    Json,
    /// One JSON object per line.
    Jsonl,
}

/// Rows under headings. Text from others may hold terminal escapes: it is cleaned here.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    table: comfy_table::Table,
    right: &'static [usize],
}

impl Table {
    /// A table with these headings; the columns of `right` hold numbers.
    pub(crate) fn new(headings: &[&str], right: &'static [usize]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(headings.iter().copied());
        Self { table, right }
    }

    /// Adds a row.
    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.table.add_row(cells.into_iter().map(|cell| clean(cell.as_ref())));
    }

    /// The lines, without trailing blanks.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        for (at, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// Prints a list: a table, a JSON array, or one object per line.
pub(crate) fn list<T: Serialize>(
    format: Format,
    items: &[T],
    table: impl FnOnce(&[T]) -> Table,
) -> io::Result<()> {
    match format {
        Format::Table => lines(&table(items).lines()),
        Format::Json => json(&items),
        Format::Jsonl => items.iter().try_for_each(jsonl),
    }
}

/// Prints one thing: lines for people, or one JSON object.
pub(crate) fn item<T: Serialize>(
    format: Format,
    item: &T,
    text: impl FnOnce(&T) -> Vec<String>,
) -> io::Result<()> {
    match format {
        Format::Table => lines(&text(item)),
        Format::Json => json(item),
        Format::Jsonl => jsonl(item),
    }
}

/// Prints lines to standard output.
pub(crate) fn lines(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}

/// Prints a value as indented JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    lines(&[serde_json::to_string_pretty(value)?])
}

/// Prints a value as one line of JSON.
pub(crate) fn jsonl<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    lines(&[serde_json::to_string(value)?])
}

/// Tells something that is not the result: to standard error, and it does not matter if nobody listens.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Text from others without control characters.
pub(crate) fn clean(text: &str) -> String {
    text.replace(['\n', '\t'], " ").replace(char::is_control, "\u{fffd}")
}

/// Text of at most `max` characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A number of bytes for people: `640 B`, `12.4 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Milliseconds since 1970 as RFC 3339, UTC; empty for 0 and for what no calendar holds.
pub(crate) fn time(unix_ms: u64) -> String {
    // The formatter ends with the year 9999.
    const MAX_MS: u64 = 253_402_300_799_000;
    if unix_ms == 0 || unix_ms > MAX_MS {
        return String::new();
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_do_not_trail() {
        let mut table = Table::new(&["NAME", "ROUNDS", "CAUSE"], &[1]);
        table.row(["a", "7", ""]);
        table.row(["long-name", "12", "why"]);
        assert_eq!(
            table.lines(),
            ["NAME       ROUNDS  CAUSE", "a               7", "long-name      12  why"]
        );
        assert_eq!(Table::new(&["A", "B"], &[]).lines(), ["A  B"]);
    }

    #[test]
    fn escapes_of_others_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[2J\r\nb"), "a\u{fffd}[2J\u{fffd} b");
        let mut table = Table::new(&["A"], &[]);
        table.row(["\x1b]0;title\x07"]);
        assert_eq!(table.lines()[1], "\u{fffd}]0;title\u{fffd}");
    }

    #[test]
    fn figures_for_people() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (12_700, "12.4 KiB"), (1 << 20, "1.0 MiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(time(1_767_225_600_000), "2026-01-01T00:00:00Z");
        assert_eq!((time(0), time(u64::MAX)), (String::new(), String::new()));
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".into(), "ab…".into()));
    }
}
