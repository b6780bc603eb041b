//! The private tables that the owner of this host named with `--data NAME=PATH`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use data::{DataError, Limits, Table};
use params::{Name, ParseNameError};
use proto::v1;

/// One `--data NAME=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataArg {
    /// What job files call the table.
    pub(crate) name: Name,
    /// A CSV file with a header.
    pub(crate) path: PathBuf,
}

/// Why a text is not a [`DataArg`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseDataArgError {
    /// No `=`, or nothing after it.
    #[error("'{0}' is not NAME=PATH, write for instance iris=/data/iris.csv")]
    Form(String),
    /// What comes before the `=` is not a name.
    #[error(transparent)]
    Name(#[from] ParseNameError),
}

impl FromStr for DataArg {
    type Err = ParseDataArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, path)) if !path.is_empty() => Ok(Self { name: name.parse()?, path: path.into() }),
            _ => Err(ParseDataArgError::Form(text.to_owned())),
        }
    }
}

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    /// Two tables of the same name.
    #[error("--data names '{0}' twice, give each table its own name")]
    Twice(Name),
    /// The file cannot be read.
    #[error("read {path} for --data {name}")]
    Read {
        /// Of the dataset.
        name: Name,
        /// Of the file.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a table; the error names file, line and column.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// The tables, by name.
#[derive(Debug, Default)]
pub(crate) struct Tables(BTreeMap<Name, Arc<Table>>);

impl Tables {
    /// Reads every file, once: later changes of the files are not seen.
    pub(crate) fn load(args: &[DataArg]) -> Result<Self, TableError> {
        unique(args)?;
        let mut tables = BTreeMap::new();
        for arg in args {
            tables.insert(arg.name.clone(), Arc::new(read(arg)?));
        }
        Ok(Self(tables))
    }

    /// The table that job files call `name`.
    pub(crate) fn get(&self, name: &Name) -> Option<&Arc<Table>> {
        self.0.get(name)
    }

    /// The names there are, for error messages: `none` when there are none.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.0.keys().map(Name::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// All that the coordinator learns about the tables: names, row counts, column names.
    pub(crate) fn announce(&self) -> Vec<v1::Dataset> {
        let dataset = |(name, table): (&Name, &Arc<Table>)| v1::Dataset {
            name: name.to_string(),
            rows: table.rows() as u64,
            columns: table.columns().to_vec(),
        };
        self.0.iter().map(dataset).collect()
    }
}

/// Every table has its own name.
pub(crate) fn unique(args: &[DataArg]) -> Result<(), TableError> {
    let mut names = BTreeSet::new();
    match args.iter().find(|arg| !names.insert(&arg.name)) {
        Some(arg) => Err(TableError::Twice(arg.name.clone())),
        None => Ok(()),
    }
}

fn read(arg: &DataArg) -> Result<Table, TableError> {
    let limits = Limits::default();
    let path = arg.path.display().to_string();
    // One byte more than the limit, so that the reader of the table sees that it is broken.
    let bytes = File::open(&arg.path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes =
        bytes.map_err(|source| TableError::Read { name: arg.name.clone(), path: path.clone(), source })?;
    Ok(data::read_csv(&path, &bytes, &limits)?)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn arg(name: &str, path: impl Into<PathBuf>) -> DataArg {
        DataArg { name: name.parse().unwrap(), path: path.into() }
    }

    #[test]
    fn a_data_argument_is_a_name_and_a_path() {
        assert_eq!("iris=/d/iris.csv".parse(), Ok(arg("iris", "/d/iris.csv")));
        assert_eq!("a=b=c.csv".parse(), Ok(arg("a", "b=c.csv")));
        for text in ["", "iris", "iris="] {
            assert_eq!(text.parse::<DataArg>(), Err(ParseDataArgError::Form(text.to_owned())));
        }
        for text in ["=x.csv", "Iris=x.csv", "a b=x.csv"] {
            assert!(matches!(text.parse::<DataArg>(), Err(ParseDataArgError::Name(_))), "{text}");
        }
    }

    #[test]
    fn only_names_counts_and_columns_are_announced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "x,label\n1,a\n2,b\n").unwrap();
        let tables = Tables::load(&[arg("t", &path)]).unwrap();
        let columns = vec!["x".to_owned(), "label".to_owned()];
        assert_eq!(tables.announce(), [v1::Dataset { name: "t".into(), rows: 2, columns }]);
        assert_eq!((tables.names(), Tables::default().names()), ("t".to_owned(), "none".to_owned()));
        assert!(tables.get(&"u".parse().unwrap()).is_none());
    }

    #[test]
    fn a_table_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let missing = Tables::load(&[arg("t", &path)]).unwrap_err();
        assert_eq!(missing.to_string(), format!("read {} for --data t", path.display()));
        assert!(missing.source().is_some());
        std::fs::write(&path, "").unwrap();
        let empty = Tables::load(&[arg("t", &path)]).unwrap_err();
        assert!(empty.to_string().contains(&path.display().to_string()), "{empty}");
        std::fs::write(&path, "x,y\n1,2\n3\n").unwrap();
        let ragged = Tables::load(&[arg("t", &path)]).unwrap_err().to_string();
        assert!(ragged.contains("t.csv") && ragged.contains('3'), "{ragged}");
        std::fs::write(&path, "x\n1\n").unwrap();
        let twice = Tables::load(&[arg("t", &path), arg("t", &path)]).unwrap_err();
        assert_eq!(twice.to_string(), "--data names 't' twice, give each table its own name");
    }
}
