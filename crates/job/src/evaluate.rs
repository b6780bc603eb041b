/// The table `[evaluate]`, which may be left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluate {
    /// What versions are compared by; by default the test loss where something is held out, else the
    /// train loss.
    pub metric: Metric,
    /// Ends the run after this many rounds in a row without a better version, 1 to 1000000; `None`:
    /// it runs to its last round.
    pub patience: Option<u32>,
    /// A value is better only if it is so by more than this, 0 (the default) or above, finite.
    pub min_delta: f64,
    /// A CSV table, relative to the job file, on which the coordinator measures each version itself;
    /// only where no table is hosted. Workers then measure nothing.
    pub hosted: Option<String>,
}

/// What versions are compared by: `evaluate.metric`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `"test_loss"`: on the held-out rows, the lower the better.
    TestLoss,
    /// `"test_accuracy"`: on the held-out rows, the higher the better.
    TestAccuracy,
    /// `"train_loss"`: of the workers while they trained, the lower the better.
    TrainLoss,
}

impl Evaluate {
    /// Whether `value` beats `than` by more than `min_delta`: what patience waits for. NaN is never
    /// better, and any number is better than NaN.
    pub fn improves(&self, value: f64, than: f64) -> bool {
        self.metric.beats(value, than, self.min_delta)
    }
}

impl Metric {
    /// Its word in job files, which is its name among the metrics of a version.
    pub fn word(self) -> &'static str {
        match self {
            Self::TestLoss => "test_loss",
            Self::TestAccuracy => "test_accuracy",
            Self::TrainLoss => "train_loss",
        }
    }

    /// Whether `value` is better than `than`, by however little: what the best version is. NaN is
    /// never better, and any number is better than NaN.
    pub fn better(self, value: f64, than: f64) -> bool {
        self.beats(value, than, 0.0)
    }

    /// Whether it needs held-out rows.
    pub(crate) fn needs_holdout(self) -> bool {
        self != Self::TrainLoss
    }

    fn beats(self, value: f64, than: f64, by: f64) -> bool {
        if value.is_nan() || than.is_nan() {
            return !value.is_nan();
        }
        match self {
            Self::TestAccuracy => value - than > by,
            Self::TestLoss | Self::TrainLoss => than - value > by,
        }
    }
}
