use std::error::Error;
use std::io;

use super::*;

fn fault(spec: ReduceSpec, n: usize) -> String {
    let mut matrix = InMemory::new(vec![[1.0f32; 3]; n]).unwrap();
    let untouched: &mut Emit<'_> = &mut |_, _| panic!("nothing may be emitted");
    reduce(&spec, &mut matrix, None, TINY, untouched).unwrap_err().to_string()
}

#[test]
fn too_few_rows_are_named() {
    let text = |rule: &str, f: usize, needed: usize, found: usize| {
        format!("{rule} with f = {f} needs at least {needed} updates, got {found}: lower f or gather more")
    };
    assert_eq!(fault(ReduceSpec::Median, 0), text("median", 0, 1, 0));
    assert_eq!(fault(ReduceSpec::TrimmedMean { f: 2 }, 4), text("trimmed-mean", 2, 5, 4));
    assert_eq!(fault(ReduceSpec::Krum { f: 2 }, 6), text("krum", 2, 7, 6));
    assert_eq!(fault(ReduceSpec::MultiKrum { f: 2, m: 1 }, 6), text("multi-krum", 2, 7, 6));
    assert_eq!(fault(ReduceSpec::MultiKrum { f: 2, m: 7 }, 8), text("multi-krum", 2, 9, 8));
    assert_eq!(fault(ReduceSpec::Bulyan { f: 1 }, 6), text("bulyan", 1, 7, 6));
    let median = ReduceSpec::GeometricMedian { nu: 1e-6, iterations: 3 };
    assert_eq!(fault(median, 0), text("geometric-median", 0, 1, 0));
    let clipping = ReduceSpec::CenteredClipping { tau: 1.0, iterations: 1 };
    assert_eq!(fault(clipping, 0), text("centered-clipping", 0, 1, 0));
    // f as large as a job file can write it does not overflow.
    for spec in [
        ReduceSpec::TrimmedMean { f: usize::MAX },
        ReduceSpec::Krum { f: usize::MAX },
        ReduceSpec::MultiKrum { f: usize::MAX, m: usize::MAX },
        ReduceSpec::Bulyan { f: usize::MAX },
    ] {
        assert_eq!(fault(spec, 9), text(spec.name(), usize::MAX, usize::MAX, 9));
    }
}

#[test]
fn each_rule_works_at_its_fewest_rows() {
    for f in 0..4 {
        for spec in [
            ReduceSpec::TrimmedMean { f },
            ReduceSpec::Krum { f },
            ReduceSpec::MultiKrum { f, m: f + 3 },
            ReduceSpec::Bulyan { f },
        ] {
            let rows = vec![vec![2.5; 3]; spec.rows_min()];
            assert_eq!(aggregate(&spec, &rows, None, TINY), [2.5; 3], "{spec:?}");
        }
    }
}

#[test]
fn parameters_are_checked() {
    let median = |nu, iterations| ReduceSpec::GeometricMedian { nu, iterations };
    let clipping = |tau, iterations| ReduceSpec::CenteredClipping { tau, iterations };
    for (spec, expected) in [
        (ReduceSpec::MultiKrum { f: 0, m: 0 }, "multi-krum has m = 0, it must be in 1 and above"),
        (median(0.0, 3), "geometric-median has nu = 0e0, it must be in 1e-30..=1e30"),
        (median(f64::NAN, 3), "geometric-median has nu = NaN, it must be in 1e-30..=1e30"),
        (median(1.0, 0), "geometric-median has iterations = 0, it must be in 1..=1000"),
        (median(1.0, 1001), "geometric-median has iterations = 1001, it must be in 1..=1000"),
        (clipping(-1.0, 1), "centered-clipping has tau = -1e0, it must be in 1e-30..=1e30"),
        (clipping(f64::INFINITY, 1), "centered-clipping has tau = inf, it must be in 1e-30..=1e30"),
    ] {
        assert_eq!(fault(spec, 7), expected);
    }
}

#[test]
fn the_last_aggregate_is_one_row_of_the_same_length() {
    let clipping = ReduceSpec::CenteredClipping { tau: 1.0, iterations: 1 };
    for (rows, columns) in [(0, 0), (2, 3), (1, 4)] {
        let mut matrix = InMemory::new(vec![[1.0f32; 3]; 2]).unwrap();
        let mut previous = InMemory::new(vec![vec![0.0f32; columns]; rows]).unwrap();
        let error =
            reduce(&clipping, &mut matrix, Some(&mut previous), TINY, &mut |_, _| Ok(())).unwrap_err();
        let expected = format!("the last aggregate has {rows} rows of {columns} columns, expected 1 of 3");
        assert_eq!(error.to_string(), expected);
        // Rules that do not start from it do not look at it.
        reduce(&ReduceSpec::Median, &mut matrix, Some(&mut previous), TINY, &mut |_, _| Ok(())).unwrap();
    }
}

/// A disk that fails when a column of one row is read.
struct Failing {
    rows: InMemory<Vec<f32>>,
    at: (usize, usize),
}

impl Rows for Failing {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn columns(&self) -> usize {
        self.rows.columns()
    }

    fn read(&mut self, row: usize, start: usize, out: &mut [f32]) -> io::Result<()> {
        if row == self.at.0 && (start..start + out.len()).contains(&self.at.1) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.rows.read(row, start, out)
    }
}

fn failing(rows: usize, at: (usize, usize)) -> Failing {
    let data = Random(9).rows(rows, 2048);
    Failing { rows: InMemory::new(data).unwrap(), at }
}

#[test]
fn errors_of_reading_and_writing_pass_through() {
    for spec in every_rule(7) {
        // A row of the second block, which a rule that picks rows may never read again.
        let error = reduce(&spec, &mut failing(7, (3, 2047)), None, TINY, &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "read update 3 from column 1024");
        assert_eq!(error.source().unwrap().to_string(), "the disk is gone");

        let mut full = |start: usize, _: &[f32]| match start {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full")),
        };
        let error = reduce(&spec, &mut failing(7, (9, 0)), None, TINY, &mut full).unwrap_err();
        assert_eq!(error.to_string(), "write the aggregate from column 1024");
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }
    let clipping = ReduceSpec::CenteredClipping { tau: 1.0, iterations: 1 };
    let mut previous = failing(1, (0, 1500));
    let error = reduce(&clipping, &mut failing(7, (9, 0)), Some(&mut previous), TINY, &mut |_, _| Ok(()));
    assert_eq!(error.unwrap_err().to_string(), "read the last aggregate from column 1024");
}

#[test]
fn a_model_of_no_columns_has_no_blocks() {
    for spec in every_rule(7) {
        assert!(aggregate(&spec, &vec![Vec::new(); 7], None, TINY).is_empty());
    }
}

#[test]
fn values_that_are_not_finite_are_no_panic() {
    let mut rows = Random(10).rows(7, 5);
    rows[2] = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN, 0.0];
    for spec in every_rule(7) {
        assert_eq!(aggregate(&spec, &rows, None, TINY).len(), 5);
    }
}

#[test]
fn names_are_those_of_the_job_file() {
    let names: Vec<&str> = [
        ReduceSpec::Median,
        ReduceSpec::TrimmedMean { f: 1 },
        ReduceSpec::Krum { f: 1 },
        ReduceSpec::MultiKrum { f: 1, m: 2 },
        ReduceSpec::Bulyan { f: 1 },
        ReduceSpec::GeometricMedian { nu: 1e-6, iterations: 3 },
        ReduceSpec::CenteredClipping { tau: 1.0, iterations: 1 },
    ]
    .iter()
    .filter(|spec| spec.needs_previous() == (spec.name() == "centered-clipping"))
    .map(ReduceSpec::name)
    .collect();
    let expected =
        ["median", "trimmed-mean", "krum", "multi-krum", "bulyan", "geometric-median", "centered-clipping"];
    assert_eq!(names, expected);
}
