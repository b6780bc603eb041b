//! Tables, holdouts and partitions: from the bytes of a CSV file to the labelled rows of each shard.
//!
//! [`read_csv`] checks the form of a file and gives a [`Table`] of text; a [`Schema`] says which columns
//! are features and which one is the target, and [`Table::examples`] turns text into numbers with it.
//! [`split`] holds out test rows, [`partition`] deals the training rows to shards. Files are foreign:
//! every error names the file, the line and the column, and nothing panics.
//!
//! All of it is a function of its arguments and a seed; the draws use no function of the platform's
//! mathematics library, so a seed gives the same rows everywhere.

mod csv;
mod error;
mod holdout;
mod partition;
mod schema;
mod table;

pub use self::csv::{Limits, read_csv};
pub use error::DataError;
pub use holdout::{Holdout, Split, split};
pub use partition::{ALPHA_MAX, ALPHA_MIN, Partition, TRIES_MAX, partition};
pub use schema::{CLASS_COUNT_MAX, Labelled, Schema};
pub use table::Table;
