use std::collections::{BTreeMap, BTreeSet};

use params::Examples;

use crate::{
    Table,
    error::{DataError, list, short},
};

/// The most classes that a target column may have.
pub const CLASS_COUNT_MAX: usize = 10_000;

/// Which columns are learned from and which one is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The column of labels.
    pub target: String,
    /// The columns of numbers, in the order of the model's inputs.
    pub features: Vec<String>,
    /// The labels, in the order of the model's outputs.
    pub classes: Vec<String>,
}

/// Rows as numbers: `rows x width` features, row-major, and the class index of each row.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    features: Vec<f32>,
    labels: Vec<u32>,
    width: usize,
}

impl Labelled {
    /// The rows to learn from or to test on.
    pub fn examples(&self) -> Examples<'_> {
        Examples::new(&self.features, &self.labels, self.width)
            .expect("each row has a label and all features")
    }

    /// The class index of each row.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }
}

impl Table {
    /// The schema for the column `target`: `features` as given, else all other columns in file order;
    /// `classes` as given, else the distinct labels of all rows in the order of their bytes.
    ///
    /// # Errors
    /// A column does not exist, or features or classes contradict each other or the target; labels are
    /// missing, only one, or more than [`CLASS_COUNT_MAX`]. Given classes are not compared with the rows:
    /// [`Table::examples`] does that.
    pub fn schema(
        &self,
        target: &str,
        features: Option<&[String]>,
        classes: Option<&[String]>,
    ) -> Result<Schema, DataError> {
        let column = self.column(target)?;
        let features = match features {
            Some(features) => features.to_vec(),
            None => self.columns().iter().filter(|name| *name != target).cloned().collect(),
        };
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None => self.distinct(column)?,
        };
        let schema = Schema { target: target.to_owned(), features, classes };
        self.check(&schema)?;
        Ok(schema)
    }

    /// Each row as numbers.
    ///
    /// # Errors
    /// The schema does not fit the columns, a feature is not a finite number, or a label is missing or
    /// unknown.
    pub fn examples(&self, schema: &Schema) -> Result<Labelled, DataError> {
        let (target, columns) = self.check(schema)?;
        let index: BTreeMap<&str, u32> = schema.classes.iter().map(String::as_str).zip(0..).collect();
        let mut labels = Vec::with_capacity(self.rows());
        let mut features = Vec::with_capacity(self.rows() * columns.len());
        for row in 0..self.rows() {
            for &column in &columns {
                features.push(self.number(row, column)?);
            }
            let label = self.label(row, target)?;
            let class = index.get(label).ok_or_else(|| DataError::UnknownLabel {
                file: self.name().to_owned(),
                line: self.line(row),
                column: schema.target.clone(),
                cell: short(label),
                known: list(&schema.classes),
            })?;
            labels.push(*class);
        }
        Ok(Labelled { features, labels, width: columns.len() })
    }

    /// The positions of the target and of the features.
    fn check(&self, schema: &Schema) -> Result<(usize, Vec<usize>), DataError> {
        let Schema { target, features, classes } = schema;
        let fault = |text: String| Err(DataError::Schema(text));
        let at = self.column(target)?;
        if features.is_empty() {
            return fault(format!("{} has no feature column beside the target '{target}'", self.name()));
        }
        if let Some(twice) = first_twice(features) {
            return fault(format!("feature '{}' is named twice", short(twice)));
        }
        if features.contains(target) {
            return fault(format!("column '{target}' is the target and cannot be a feature too"));
        }
        if !(2..=CLASS_COUNT_MAX).contains(&classes.len()) {
            return fault(format!("{} classes are named, use 2 to {CLASS_COUNT_MAX}", classes.len()));
        }
        if let Some(twice) = first_twice(classes) {
            return fault(format!("class '{}' is named twice", short(twice)));
        }
        let columns = features.iter().map(|name| self.column(name)).collect::<Result<_, _>>()?;
        Ok((at, columns))
    }

    fn column(&self, name: &str) -> Result<usize, DataError> {
        self.columns().iter().position(|column| column == name).ok_or_else(|| DataError::UnknownColumn {
            file: self.name().to_owned(),
            column: short(name),
            known: list(self.columns()),
        })
    }

    fn distinct(&self, column: usize) -> Result<Vec<String>, DataError> {
        let (file, name) = (|| self.name().to_owned(), || self.columns()[column].clone());
        let mut labels = BTreeSet::new();
        for row in 0..self.rows() {
            labels.insert(self.label(row, column)?);
            if labels.len() > CLASS_COUNT_MAX {
                return Err(DataError::TooManyClasses { file: file(), column: name() });
            }
        }
        if let (Some(label), 1) = (labels.first(), labels.len()) {
            return Err(DataError::OneClass { file: file(), column: name(), label: short(label) });
        }
        Ok(labels.into_iter().map(str::to_owned).collect())
    }

    fn label(&self, row: usize, column: usize) -> Result<&str, DataError> {
        let label = self.cell(row, column);
        if !label.is_empty() {
            return Ok(label);
        }
        let (file, column) = (self.name().to_owned(), self.columns()[column].clone());
        Err(DataError::NoLabel { file, line: self.line(row), column })
    }

    fn number(&self, row: usize, column: usize) -> Result<f32, DataError> {
        let cell = self.cell(row, column);
        let number = cell.parse::<f32>();
        if let Ok(number) = number
            && number.is_finite()
        {
            return Ok(number);
        }
        let (file, line, column) = (self.name().to_owned(), self.line(row), self.columns()[column].clone());
        let cell = short(cell);
        Err(if number.is_ok() {
            DataError::NotFinite { file, line, column, cell }
        } else {
            DataError::NotANumber { file, line, column, cell }
        })
    }
}

fn first_twice(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, read_csv};

    fn table(text: &str) -> Table {
        read_csv("t.csv", text.as_bytes(), &Limits::default()).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const FLOWERS: &str = "w,kind,h\n1,virginica,0.5\n-2e1,setosa,3\n4,setosa,6\n";

    #[test]
    fn infers_features_and_classes() {
        let table = table(FLOWERS);
        let schema = table.schema("kind", None, None).unwrap();
        let (features, classes) = (names(&["w", "h"]), names(&["setosa", "virginica"]));
        assert_eq!(schema, Schema { target: "kind".into(), features, classes });
        let labelled = table.examples(&schema).unwrap();
        let examples = labelled.examples();
        assert_eq!(examples.features(), [1.0, 0.5, -20.0, 3.0, 4.0, 6.0]);
        assert_eq!((examples.labels(), examples.width(), labelled.rows()), (&[1, 0, 0][..], 2, 3));
        assert_eq!(table.select(&[]).examples(&schema).unwrap().examples().rows(), 0);
    }

    #[test]
    fn takes_features_and_classes_in_the_given_order() {
        let table = table(FLOWERS);
        let (features, classes) = (names(&["h", "w"]), names(&["virginica", "other", "setosa"]));
        let schema = table.schema("kind", Some(&features), Some(&classes)).unwrap();
        let labelled = table.select(&[1]).examples(&schema).unwrap();
        assert_eq!((labelled.examples().features(), labelled.labels()), (&[3.0, -20.0][..], &[2][..]));
    }

    #[test]
    fn names_every_fault_of_a_schema() {
        let table = table(FLOWERS);
        let fault = |target: &str, features: Option<&[&str]>, classes: Option<&[&str]>| {
            let (features, classes) = (features.map(names), classes.map(names));
            table.schema(target, features.as_deref(), classes.as_deref()).unwrap_err().to_string()
        };
        let unknown = "t.csv has no column 'species': its columns are 'w', 'kind', 'h'";
        assert_eq!(fault("species", None, None), unknown);
        assert_eq!(fault("kind", Some(&["w", "species"]), None), unknown);
        assert_eq!(fault("kind", Some(&["w", "w"]), None), "feature 'w' is named twice");
        assert_eq!(
            fault("kind", Some(&["w", "kind"]), None),
            "column 'kind' is the target and cannot be a feature too"
        );
        assert_eq!(fault("kind", Some(&[]), None), "t.csv has no feature column beside the target 'kind'");
        assert_eq!(fault("kind", None, Some(&["a"])), "1 classes are named, use 2 to 10000");
        assert_eq!(fault("kind", None, Some(&["a", "b", "a"])), "class 'a' is named twice");
        let one = table.select(&[1, 2]).schema("kind", None, None).unwrap_err();
        assert_eq!(
            one.to_string(),
            "t.csv column 'kind' has the one label 'setosa': a classification needs at least 2"
        );
        let many: String = (0..=CLASS_COUNT_MAX).map(|i| format!("1,{i}\n")).collect();
        let error = super::tests::table(&format!("a,id\n{many}")).schema("id", None, None).unwrap_err();
        assert_eq!(error, DataError::TooManyClasses { file: "t.csv".into(), column: "id".into() });
    }

    #[test]
    fn names_every_fault_of_a_cell() {
        let fault = |row: &str| {
            let table = table(&format!("{FLOWERS}\n{row}\n"));
            let classes = names(&["setosa", "virginica"]);
            let schema = table.schema("kind", None, Some(&classes)).unwrap();
            // The line is that of the file, also in a selection.
            table.select(&[3]).examples(&schema).unwrap_err().to_string()
        };
        assert_eq!(fault("1,setosa,x1"), "t.csv line 6 column 'h': 'x1' is not a number");
        assert_eq!(fault(",setosa,1"), "t.csv line 6 column 'w': '' is not a number");
        for cell in ["NaN", "inf", "-Infinity", "1e39"] {
            let expected = format!("t.csv line 6 column 'w': {cell} is not a finite 32-bit number");
            assert_eq!(fault(&format!("{cell},setosa,1")), expected);
        }
        assert_eq!(
            fault("1,Setosa,1"),
            "t.csv line 6 column 'kind': 'Setosa' is not a known class: they are 'setosa', 'virginica'"
        );
        assert_eq!(fault("1,,1"), "t.csv line 6 column 'kind': the label is missing");
        let long = fault(&format!("1,setosa,{}", "z".repeat(100)));
        assert_eq!(long, format!("t.csv line 6 column 'h': '{}...' is not a number", "z".repeat(40)));
        let missing = table("a,b\n1,\n").schema("b", None, None).unwrap_err();
        assert_eq!(missing.to_string(), "t.csv line 2 column 'b': the label is missing");
    }
}
