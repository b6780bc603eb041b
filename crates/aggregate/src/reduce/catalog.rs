use super::blocks::Source;
use super::{
    Budget, Emit, ReduceError, Rows, bulyan, centered_clipping, geometric_median, krum, median, multi_krum,
    trimmed_mean,
};

/// The most iterations of a rule: each reads all updates once.
pub const ITERATIONS_MAX: u32 = 1000;

/// The range of lengths (`nu`, `tau`): their inverses and squares are far from the ends of `f64`.
const LENGTHS: std::ops::RangeInclusive<f64> = 1e-30..=1e30;

/// A reduction by name, with its parameters: the only list of them. A new one has a variant here, an arm
/// in each function below, and a file in `reduce/`.
///
/// `f` is the number of hostile updates that the rule shall bear in a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReduceSpec {
    /// The median of each coordinate (arXiv:1803.01498).
    Median,
    /// The mean of each coordinate without its `f` smallest and `f` largest values (arXiv:1803.01498).
    TrimmedMean {
        /// Values dropped at each end.
        f: usize,
    },
    /// The update that is closest to its neighbours (arXiv:1703.02757).
    Krum {
        /// Hostile updates.
        f: usize,
    },
    /// The mean of the `m` updates that are closest to their neighbours (arXiv:1703.02757).
    MultiKrum {
        /// Hostile updates.
        f: usize,
        /// Updates in the mean, at least 1.
        m: usize,
    },
    /// Repeated Krum, then the mean of the values near the median (arXiv:1802.07927).
    Bulyan {
        /// Hostile updates.
        f: usize,
    },
    /// The point with the smallest sum of distances (RFA, arXiv:1912.13445).
    GeometricMedian {
        /// The smallest distance that a weight is made of, in parameter units; the paper has 1e-6.
        nu: f64,
        /// Steps from the mean on, `1..=`[`ITERATIONS_MAX`]; the paper has 3.
        iterations: u32,
    },
    /// Differences from the last aggregate, shortened, then averaged (arXiv:2012.10333).
    CenteredClipping {
        /// The greatest length of a difference, in parameter units.
        tau: f64,
        /// Steps from the last aggregate on, `1..=`[`ITERATIONS_MAX`]; the paper has 1 to 3.
        iterations: u32,
    },
}

impl ReduceSpec {
    /// As the job file writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::TrimmedMean { .. } => "trimmed-mean",
            Self::Krum { .. } => "krum",
            Self::MultiKrum { .. } => "multi-krum",
            Self::Bulyan { .. } => "bulyan",
            Self::GeometricMedian { .. } => "geometric-median",
            Self::CenteredClipping { .. } => "centered-clipping",
        }
    }

    /// The fewest updates that the rule works on.
    pub fn rows_min(&self) -> usize {
        match *self {
            Self::Median | Self::GeometricMedian { .. } | Self::CenteredClipping { .. } => 1,
            Self::TrimmedMean { f } => f.saturating_mul(2).saturating_add(1),
            Self::Krum { f } => f.saturating_mul(2).saturating_add(3),
            Self::MultiKrum { f, m } => f.saturating_mul(2).saturating_add(3).max(f.saturating_add(m)),
            Self::Bulyan { f } => f.saturating_mul(4).saturating_add(3),
        }
    }

    /// Whether the rule starts from the last aggregate.
    pub fn needs_previous(&self) -> bool {
        matches!(self, Self::CenteredClipping { .. })
    }

    /// Whether the parameters are in range, apart from the number of updates.
    ///
    /// # Errors
    /// [`ReduceError::Parameter`].
    pub fn check(&self) -> Result<(), ReduceError> {
        let fault = |parameter, value: String, range: String| {
            Err(ReduceError::Parameter { rule: self.name(), parameter, value, range })
        };
        let (length, value, iterations) = match *self {
            Self::MultiKrum { m: 0, .. } => return fault("m", "0".into(), "1 and above".into()),
            Self::GeometricMedian { nu, iterations } => ("nu", nu, iterations),
            Self::CenteredClipping { tau, iterations } => ("tau", tau, iterations),
            _ => return Ok(()),
        };
        if !LENGTHS.contains(&value) {
            return fault(
                length,
                format!("{value:e}"),
                format!("{:e}..={:e}", LENGTHS.start(), LENGTHS.end()),
            );
        }
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return fault("iterations", iterations.to_string(), format!("1..={ITERATIONS_MAX}"));
        }
        Ok(())
    }

    /// The hostile updates that the rule is told to bear; 0 for rules without that parameter.
    fn f(&self) -> usize {
        match *self {
            Self::Median | Self::GeometricMedian { .. } | Self::CenteredClipping { .. } => 0,
            Self::TrimmedMean { f } | Self::Krum { f } | Self::MultiKrum { f, .. } | Self::Bulyan { f } => f,
        }
    }
}

/// Reduces all rows to one and gives it to `emit`, block after block, from the first column to the last.
///
/// `previous` is the last aggregate, one row; without it a rule that starts from it starts from 0, and
/// other rules do not look at it. Values must be finite: the result of others is without meaning, though
/// it is no panic.
///
/// # Errors
/// See [`ReduceError`]. Rows and parameters are checked before anything is read.
pub fn reduce<'a>(
    spec: &ReduceSpec,
    rows: &'a mut dyn Rows,
    previous: Option<&'a mut dyn Rows>,
    budget: Budget,
    emit: &mut Emit<'_>,
) -> Result<(), ReduceError> {
    spec.check()?;
    let (found, needed) = (rows.rows(), spec.rows_min());
    if found < needed {
        return Err(ReduceError::TooFewRows { rule: spec.name(), f: spec.f(), needed, found });
    }
    let previous = previous.filter(|_| spec.needs_previous());
    if let Some(previous) = &previous
        && (previous.rows(), previous.columns()) != (1, rows.columns())
    {
        let (expected, rows, columns) = (rows.columns(), previous.rows(), previous.columns());
        return Err(ReduceError::Previous { rows, columns, expected });
    }
    let source = &mut Source::new(rows, previous, budget);
    match *spec {
        ReduceSpec::Median => median::run(source, emit),
        ReduceSpec::TrimmedMean { f } => trimmed_mean::run(source, f, emit),
        ReduceSpec::Krum { f } => krum::run(source, f, emit),
        ReduceSpec::MultiKrum { f, m } => multi_krum::run(source, f, m, emit),
        ReduceSpec::Bulyan { f } => bulyan::run(source, f, emit),
        ReduceSpec::GeometricMedian { nu, iterations } => geometric_median::run(source, nu, iterations, emit),
        ReduceSpec::CenteredClipping { tau, iterations } => {
            centered_clipping::run(source, tau, iterations, emit)
        }
    }
}
