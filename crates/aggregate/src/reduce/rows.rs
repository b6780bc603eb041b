use std::io;

/// The updates of a round: vectors of `f32`, all finite and of one length, read by pieces.
///
/// Rows are in the order of the workers' names, so that ties are decided the same way on every machine.
pub trait Rows {
    /// The number of vectors.
    fn rows(&self) -> usize;

    /// The number of elements of each.
    fn columns(&self) -> usize;

    /// Fills `out` with the columns `start..start + out.len()` of one row.
    ///
    /// # Errors
    /// The row cannot be read there; a reduction stops and passes the error on.
    fn read(&mut self, row: usize, start: usize, out: &mut [f32]) -> io::Result<()>;
}

/// Rows held in memory, owned (`Vec<f32>`) or borrowed (`&[f32]`): for rounds that are small enough.
#[derive(Clone, Debug, PartialEq)]
pub struct InMemory<R>(Vec<R>);

/// Rows of different lengths are no matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} has {found} columns, row 0 has {expected}")]
pub struct RaggedRows {
    /// The first row of another length.
    pub row: usize,
    /// Its length.
    pub found: usize,
    /// The length of row 0.
    pub expected: usize,
}

impl<R: AsRef<[f32]>> InMemory<R> {
    /// The matrix of these rows.
    ///
    /// # Errors
    /// The rows differ in length.
    pub fn new(rows: Vec<R>) -> Result<Self, RaggedRows> {
        let expected = rows.first().map_or(0, |row| row.as_ref().len());
        let lengths = rows.iter().map(|row| row.as_ref().len());
        match lengths.enumerate().find(|(_, found)| *found != expected) {
            Some((row, found)) => Err(RaggedRows { row, found, expected }),
            None => Ok(Self(rows)),
        }
    }
}

impl<R: AsRef<[f32]>> Rows for InMemory<R> {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn columns(&self) -> usize {
        self.0.first().map_or(0, |row| row.as_ref().len())
    }

    fn read(&mut self, row: usize, start: usize, out: &mut [f32]) -> io::Result<()> {
        let len = out.len();
        let piece = self.0.get(row).and_then(|row| row.as_ref().get(start..)?.get(..len));
        let Some(piece) = piece else {
            let (rows, columns) = (self.rows(), self.columns());
            let what =
                format!("no {len} columns from {start} in row {row} of {rows} rows by {columns} columns");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        };
        out.copy_from_slice(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pieces_and_refuses_what_is_not_there() {
        let mut rows = InMemory::new(vec![&[1.0f32, 2.0, 3.0][..], &[4.0, 5.0, 6.0]]).unwrap();
        assert_eq!((rows.rows(), rows.columns()), (2, 3));
        let mut out = [0.0; 2];
        rows.read(1, 1, &mut out).unwrap();
        assert_eq!(out, [5.0, 6.0]);
        for (row, start) in [(2, 0), (0, 2), (0, 4), (0, usize::MAX)] {
            let error = rows.read(row, start, &mut out).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().ends_with("of 2 rows by 3 columns"), "{error}");
        }
        assert_eq!(out, [5.0, 6.0]);
        let none = InMemory::<Vec<f32>>::new(Vec::new()).unwrap();
        assert_eq!((none.rows(), none.columns()), (0, 0));
    }

    #[test]
    fn refuses_ragged_rows() {
        let error = InMemory::new(vec![vec![0.0], vec![0.0], vec![0.0, 1.0]]).unwrap_err();
        assert_eq!(error, RaggedRows { row: 2, found: 2, expected: 1 });
        assert_eq!(error.to_string(), "row 2 has 2 columns, row 0 has 1");
    }
}
