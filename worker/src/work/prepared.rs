//! The examples of a piece of work, as numbers, and what may be said about them elsewhere.

use std::{ffi::OsStr, path::Path};

use data::{DataError, Labelled, Limits, Schema, Table};
use params::{Digest, Examples};

use super::{Assignment, Impossible, spec};

/// Rows to train on and rows to measure on.
#[derive(Debug)]
pub(crate) struct Prepared {
    key: Digest,
    train: Labelled,
    test: Option<Labelled>,
}

impl Prepared {
    /// A shard that the coordinator handed out: all of it is for training.
    pub(super) fn hosted(work: &Assignment, csv: &[u8]) -> Result<Self, DataError> {
        let table = data::read_csv("shard", csv, &Limits::default())?;
        let train = table.examples(&schema(work))?;
        Ok(Self { key: work.data_key, train, test: None })
    }

    /// A table of this host: rows are held out here, as the job file says and by the job's seed, the
    /// same in every round.
    ///
    /// # Errors
    /// The table does not fit the job. The reason that is sent names file, line and column; what is in
    /// the cell, and where the file lies, stays here.
    pub(super) fn private(work: &Assignment, table: &Table) -> Result<Self, Impossible> {
        let path = Path::new(table.name());
        let file = path.file_name().map_or_else(|| "the table".into(), OsStr::to_string_lossy);
        let private = |error: DataError| Impossible {
            detail: error.to_string(),
            reason: without_cells(error).to_string().replace(table.name(), &file),
        };
        let schema = schema(work);
        let all = table.examples(&schema).map_err(private)?;
        let job = &work.job;
        let holdout = spec::holdout(&job.data.holdout);
        let split =
            data::split(table.rows(), Some(all.labels()), &holdout, job.rounds.seed).map_err(private)?;
        let pick = |rows: &[usize]| table.select(rows).examples(&schema).map_err(private);
        let test = match split.test.is_empty() {
            true => None,
            false => Some(pick(&split.test)?),
        };
        Ok(Self { key: work.data_key, train: pick(&split.train)?, test })
    }

    /// Equal for work on the same examples.
    pub(super) fn key(&self) -> Digest {
        self.key
    }

    /// To train on.
    pub(super) fn train(&self) -> Examples<'_> {
        self.train.examples()
    }

    /// To measure on, where there is any.
    pub(super) fn test(&self) -> Option<Examples<'_>> {
        self.test.as_ref().map(Labelled::examples)
    }
}

fn schema(work: &Assignment) -> Schema {
    Schema {
        target: work.job.data.target.clone(),
        features: work.features.clone(),
        classes: work.classes.clone(),
    }
}

/// The same error without the contents of cells: they are private.
fn without_cells(mut error: DataError) -> DataError {
    match &mut error {
        DataError::NotANumber { cell, .. }
        | DataError::NotFinite { cell, .. }
        | DataError::UnknownLabel { cell, .. }
        | DataError::OneClass { label: cell, .. } => "(withheld)".clone_into(cell),
        _ => {}
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::tests::{CSV, work};

    fn assignment() -> Assignment {
        Assignment::try_from(work()).unwrap()
    }

    fn table(csv: &str) -> Table {
        data::read_csv("/private/t.csv", csv.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn a_private_table_is_split_and_a_shard_is_not() {
        let own = Prepared::private(&assignment(), &table(CSV)).unwrap();
        // 0.5 of 4 rows of each of two classes.
        assert_eq!((own.train().rows(), own.test().unwrap().rows()), (4, 4));
        let again = Prepared::private(&assignment(), &table(CSV)).unwrap();
        assert_eq!(own.train().features(), again.train().features());
        let shard = Prepared::hosted(&assignment(), CSV.as_bytes()).unwrap();
        assert_eq!((shard.train().rows(), shard.test().is_none()), (8, true));
    }

    #[test]
    fn contents_of_private_cells_stay_here() {
        for (csv, detail, reason) in [
            (
                "x,label\n1,a\nsecret,b\n",
                "/private/t.csv line 3 column 'x': 'secret' is not a number",
                "t.csv line 3 column 'x': '(withheld)' is not a number",
            ),
            (
                "x,label\n1,a\ninf,b\n",
                "/private/t.csv line 3 column 'x': inf is not a finite 32-bit number",
                "t.csv line 3 column 'x': (withheld) is not a finite 32-bit number",
            ),
            (
                "x,label\n1,a\n2,secret\n",
                "/private/t.csv line 3 column 'label': 'secret' is not a known class: they are 'a', 'b'",
                "t.csv line 3 column 'label': '(withheld)' is not a known class: they are 'a', 'b'",
            ),
        ] {
            let error = Prepared::private(&assignment(), &table(csv)).unwrap_err();
            assert_eq!(error, Impossible { reason: reason.to_owned(), detail: detail.to_owned() });
        }
    }

    #[test]
    fn a_missing_column_is_named_with_those_there_are() {
        let error = Prepared::private(&assignment(), &table("y,label\n1,a\n")).unwrap_err();
        assert_eq!(error.reason, "t.csv has no column 'x': its columns are 'y', 'label'");
    }
}
