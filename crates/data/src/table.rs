use std::sync::Arc;

/// Rows of text cells under named columns.
///
/// A selection shares the cells of the table that it was made from, so that [`Table::select`] is cheap and
/// errors about a selected row still name its line in the file.
#[derive(Clone, Debug)]
pub struct Table {
    source: Arc<Source>,
    rows: Vec<u32>,
}

/// All cells of a file, in one text; less than 4 GiB, as the file is.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    columns: Vec<String>,
    text: String,
    /// Where each cell ends in `text`, row-major.
    ends: Vec<u32>,
    /// The line in the file where each row starts.
    lines: Vec<u32>,
}

impl Table {
    pub(crate) fn new(source: Source) -> Self {
        let rows = (0..source.rows() as u32).collect();
        Self { source: Arc::new(source), rows }
    }

    /// What errors call the file.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// The names of the columns, in file order.
    pub fn columns(&self) -> &[String] {
        &self.source.columns
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The cells of row `row`, from 0.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = &str> {
        (0..self.source.columns.len()).map(move |column| self.cell(row, column))
    }

    /// The cell in row `row` and column `column`, both from 0.
    ///
    /// # Panics
    /// When there is no such cell.
    pub fn cell(&self, row: usize, column: usize) -> &str {
        self.source.cell(self.rows[row] as usize, column)
    }

    /// The line of the file, from 1, on which row `row` starts.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn line(&self, row: usize) -> u64 {
        u64::from(self.source.lines[self.rows[row] as usize])
    }

    /// These rows (from 0) in this order; a row may occur more than once.
    ///
    /// # Panics
    /// When there is no such row; [`crate::split`] and [`crate::partition`] give rows that exist.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self { source: Arc::clone(&self.source), rows: rows.iter().map(|&row| self.rows[row]).collect() }
    }

    /// The table as CSV with a header: what [`crate::read_csv`] reads back, cell by cell.
    pub fn to_csv(&self) -> Vec<u8> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        let header = writer.write_record(&self.source.columns);
        header.expect("memory takes every write");
        for row in 0..self.rows() {
            writer.write_record(self.row(row)).expect("every row is as long as the header");
        }
        writer.into_inner().expect("memory takes every write")
    }
}

impl Source {
    pub(crate) fn new(name: &str, columns: Vec<String>) -> Self {
        Self { name: name.to_owned(), columns, text: String::new(), ends: Vec::new(), lines: Vec::new() }
    }

    /// Adds a row of one cell per column. Cells come from a file below 4 GiB, and are never longer in
    /// here than there: positions and lines fit 32 bits.
    pub(crate) fn push<'a>(&mut self, line: u32, cells: impl Iterator<Item = &'a str>) {
        for cell in cells {
            self.text.push_str(cell.trim());
            self.ends.push(self.text.len() as u32);
        }
        self.lines.push(line);
    }

    pub(crate) fn rows(&self) -> usize {
        self.lines.len()
    }

    fn cell(&self, row: usize, column: usize) -> &str {
        assert!(column < self.columns.len(), "column {column} of {}", self.columns.len());
        let at = row * self.columns.len() + column;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start as usize..self.ends[at] as usize]
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, read_csv};

    #[test]
    fn a_selection_keeps_order_and_lines() {
        let table = read_csv("t.csv", b"a,b\n1,x\n\n2,y\n3,z\n", &Limits::default()).unwrap();
        let part = table.select(&[2, 0, 2]).select(&[0, 1]);
        assert_eq!((part.rows(), part.line(0), part.line(1)), (2, 5, 2));
        assert_eq!(part.row(0).collect::<Vec<_>>(), ["3", "z"]);
        assert_eq!(part.to_csv(), b"a,b\n3,z\n1,x\n");
        assert_eq!((part.name(), part.cell(1, 1)), ("t.csv", "x"));
        assert_eq!(table.select(&[]).to_csv(), b"a,b\n");
    }
}
