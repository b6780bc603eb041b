//! Reductions that need every update of a round at once: one rule, one file.
//!
//! The updates are the rows of a matrix that need not fit in memory. Every rule reads it by blocks of
//! columns, once or a few times, and emits the aggregate in order, so memory is bounded by [`Budget`]
//! whatever the size of the model. All rules weigh the updates equally: a weight that a worker reports is
//! a lever for an attacker.
//!
//! The bits of a result depend on the rows alone: not on the budget, the number of threads, or the order
//! of the rows, except where a rule says how it decides a tie.

use std::io;

mod blocks;
mod bulyan;
mod catalog;
mod centered_clipping;
mod combine;
mod distances;
mod geometric_median;
mod krum;
mod median;
mod multi_krum;
mod order;
mod rows;
mod sort;
#[cfg(test)]
mod tests;
mod trimmed_mean;

pub use catalog::{ITERATIONS_MAX, ReduceSpec, reduce};
pub use rows::{InMemory, RaggedRows, Rows};

/// What a reduction may use at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes for a block of columns of all rows and what is computed from it. Below the smallest block
    /// (1024 columns, 4 KiB per row) it is the smallest block that is used. A few MiB are best: such blocks
    /// stay in a cache, and smaller ones are not worth a second thread. Each thread has up to 8 KiB
    /// per row besides, and the rules that compare rows pairwise 8 bytes per ordered pair.
    pub bytes: usize,
    /// Threads that compute; 0 means 1. Rows are always read by the caller's thread.
    pub threads: usize,
}

/// What takes the aggregate: the first column of a block, and the block. Blocks come in order.
pub type Emit<'a> = dyn FnMut(usize, &[f32]) -> io::Result<()> + 'a;

/// Why a reduction gave no aggregate. Blocks may have been emitted before an I/O error.
#[derive(Debug, thiserror::Error)]
pub enum ReduceError {
    /// The rule cannot bear `f` attackers among so few rows.
    #[error("{rule} with f = {f} needs at least {needed} updates, got {found}: lower f or gather more")]
    TooFewRows {
        /// The rule, as the job file names it.
        rule: &'static str,
        /// The attackers that the rule shall bear; 0 where the rule has no such parameter.
        f: usize,
        /// Rows that it needs for that.
        needed: usize,
        /// Rows that there are.
        found: usize,
    },
    /// A parameter of the rule is out of range.
    #[error("{rule} has {parameter} = {value}, it must be in {range}")]
    Parameter {
        /// The rule, as the job file names it.
        rule: &'static str,
        /// The parameter, as the job file names it.
        parameter: &'static str,
        /// Its value, as text.
        value: String,
        /// What is allowed, as text.
        range: String,
    },
    /// The last aggregate is not one row of the same length.
    #[error("the last aggregate has {rows} rows of {columns} columns, expected 1 of {expected}")]
    Previous {
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// Columns of the updates.
        expected: usize,
    },
    /// A row could not be read.
    #[error("read update {row} from column {start}")]
    Read {
        /// The row.
        row: usize,
        /// The first column of the piece.
        start: usize,
        /// The error of [`Rows::read`].
        source: io::Error,
    },
    /// The last aggregate could not be read.
    #[error("read the last aggregate from column {start}")]
    ReadPrevious {
        /// The first column of the piece.
        start: usize,
        /// The error of [`Rows::read`].
        source: io::Error,
    },
    /// The aggregate could not be written.
    #[error("write the aggregate from column {start}")]
    Emit {
        /// The first column of the block.
        start: usize,
        /// The error of the caller's function.
        source: io::Error,
    },
    /// The system gave no thread.
    #[error("start a thread of the reduction")]
    Thread(#[source] io::Error),
}
