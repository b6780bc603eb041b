use crate::{
    partition::{ALPHA_MAX, ALPHA_MIN},
    schema::CLASS_COUNT_MAX,
};

/// Why a file, a schema, a holdout or a partition cannot be used. Lines are lines of the file, from 1.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DataError {
    /// The file has no bytes, or only blank lines.
    #[error("{file} is empty")]
    Empty {
        /// The name of the file.
        file: String,
    },
    /// The file has a header and nothing below it.
    #[error("{file} has a header but no rows")]
    NoRows {
        /// The name of the file.
        file: String,
    },
    /// The file is larger than a limit.
    #[error("{file} has {found} {what}, at most {max} are allowed")]
    TooLarge {
        /// The name of the file.
        file: String,
        /// What there is too much of: `bytes`, `rows` or `columns`.
        what: &'static str,
        /// How many there are; for rows, how many were read before the limit was noticed.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The file is not UTF-8 text.
    #[error("{file} line {line} is not UTF-8 text: save the file as UTF-8 CSV")]
    NotUtf8 {
        /// The name of the file.
        file: String,
        /// The line of the first byte that is wrong.
        line: u64,
    },
    /// The first line holds only numbers.
    #[error("{file} line {line} holds only numbers: the first line must name the columns")]
    NoHeader {
        /// The name of the file.
        file: String,
        /// The line of the first record.
        line: u64,
    },
    /// A column name is empty or occurs twice.
    #[error("{file} line {line} names column {position} '{name}': names must be unique and not empty")]
    ColumnName {
        /// The name of the file.
        file: String,
        /// The line of the header.
        line: u64,
        /// Position in the header, from 1.
        position: usize,
        /// The name.
        name: String,
    },
    /// A row has another number of cells than the header.
    #[error("{file} line {line} has {found} cells, the header has {expected}")]
    Ragged {
        /// The name of the file.
        file: String,
        /// The line where the row starts.
        line: u64,
        /// Cells of the row.
        found: usize,
        /// Cells of the header.
        expected: usize,
    },
    /// A quotation mark is not closed, so that the row swallows what follows.
    #[error("{file} line {line} has an unpaired quotation mark")]
    Quote {
        /// The name of the file.
        file: String,
        /// The line where the row starts.
        line: u64,
    },
    /// A column was asked for that the file does not have.
    #[error("{file} has no column '{column}': its columns are {known}")]
    UnknownColumn {
        /// The name of the file.
        file: String,
        /// The column that was asked for.
        column: String,
        /// The columns that there are.
        known: String,
    },
    /// The columns or classes that were asked for contradict each other.
    #[error("{0}")]
    Schema(String),
    /// A feature is not a number.
    #[error("{file} line {line} column '{column}': '{cell}' is not a number")]
    NotANumber {
        /// The name of the file.
        file: String,
        /// The line where the row starts.
        line: u64,
        /// The column.
        column: String,
        /// The cell, shortened.
        cell: String,
    },
    /// A feature is NaN, infinite, or beyond the range of 32-bit floats.
    #[error("{file} line {line} column '{column}': {cell} is not a finite 32-bit number")]
    NotFinite {
        /// The name of the file.
        file: String,
        /// The line where the row starts.
        line: u64,
        /// The column.
        column: String,
        /// The cell, shortened.
        cell: String,
    },
    /// A label is not one of the classes.
    #[error("{file} line {line} column '{column}': '{cell}' is not a known class: they are {known}")]
    UnknownLabel {
        /// The name of the file.
        file: String,
        /// The line where the row starts.
        line: u64,
        /// The target column.
        column: String,
        /// The cell, shortened.
        cell: String,
        /// The classes.
        known: String,
    },
    /// A label is missing.
    #[error("{file} line {line} column '{column}': the label is missing")]
    NoLabel {
        /// The name of the file.
        file: String,
        /// The line where the row starts.
        line: u64,
        /// The target column.
        column: String,
    },
    /// The target column has one label only.
    #[error("{file} column '{column}' has the one label '{label}': a classification needs at least 2")]
    OneClass {
        /// The name of the file.
        file: String,
        /// The target column.
        column: String,
        /// Its only label, shortened.
        label: String,
    },
    /// The target column has more labels than a classification may have.
    #[error(
        "{file} column '{column}' has more than {CLASS_COUNT_MAX} different labels: is it really the target?"
    )]
    TooManyClasses {
        /// The name of the file.
        file: String,
        /// The target column.
        column: String,
    },
    /// The number of labels is not the number of rows.
    #[error("{labels} labels for {rows} rows")]
    LabelCount {
        /// Labels that were given.
        labels: usize,
        /// Rows that were given.
        rows: usize,
    },
    /// The fraction to hold out is not in `0..1`.
    #[error("holdout fraction {0} must be at least 0 and below 1")]
    Fraction(f64),
    /// A row to hold out does not exist.
    #[error("holdout row {row} does not exist: the data has {rows} rows, 0 to {}", rows.saturating_sub(1))]
    NoSuchRow {
        /// The row that was asked for, from 0.
        row: usize,
        /// The number of rows.
        rows: usize,
    },
    /// A row to hold out is named twice.
    #[error("holdout row {0} is named twice")]
    RowTwice(usize),
    /// Every row is held out.
    #[error("the holdout takes {test} of {rows} rows and leaves none to train on")]
    NothingToTrain {
        /// Rows held out.
        test: usize,
        /// The number of rows.
        rows: usize,
    },
    /// There are no shards, or more than rows.
    #[error("{shards} shards for {rows} training rows: use 1 to {rows}")]
    ShardCount {
        /// Shards that were asked for.
        shards: usize,
        /// Training rows.
        rows: usize,
    },
    /// The skew parameter is out of its range.
    #[error("dirichlet alpha {0} must be in {ALPHA_MIN}..={ALPHA_MAX}")]
    Alpha(f64),
    /// There are too few rows for the smallest shard that is allowed.
    #[error(
        "{shards} shards of at least {min} rows need more than the {rows} training rows: use fewer shards"
    )]
    ShardMinimum {
        /// Shards that were asked for.
        shards: usize,
        /// The least rows of a shard.
        min: usize,
        /// Training rows.
        rows: usize,
    },
    /// No draw gave every shard its least rows.
    #[error(
        "dirichlet alpha {alpha} left a shard with fewer than {min} rows in each of {tries} draws for {shards} shards: use a larger alpha, fewer shards or a smaller minimum"
    )]
    Skew {
        /// The skew parameter.
        alpha: f64,
        /// Shards that were asked for.
        shards: usize,
        /// The least rows of a shard.
        min: usize,
        /// Draws that were made.
        tries: u32,
    },
}

/// Names for an error: quoted, in order, the first twenty.
pub(crate) fn list<T: AsRef<str>>(names: &[T]) -> String {
    let mut text: Vec<String> = names.iter().take(20).map(|n| format!("'{}'", short(n.as_ref()))).collect();
    if names.len() > text.len() {
        text.push(format!("and {} more", names.len() - text.len()));
    }
    text.join(", ")
}

/// A cell for an error: at most 40 characters, without control characters.
pub(crate) fn short(cell: &str) -> String {
    let mut text: String = cell.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cell.chars().nth(40).is_some() {
        text.push_str("...");
    }
    text
}
