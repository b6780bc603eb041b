//! How long to wait before the next attempt.

use std::time::Duration;

use params::Rng;

/// The upper bound of the first wait.
pub(crate) const FIRST: Duration = Duration::from_millis(200);

/// The upper bound of every wait.
pub(crate) const MAX: Duration = Duration::from_secs(5);

/// Exponential backoff with full jitter: uniform between nothing and a bound that doubles from
/// [`FIRST`] to [`MAX`], so that workers that lost the same coordinator do not return in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    rng: Rng,
    bound: Duration,
}

impl Backoff {
    /// `seed` should differ between processes.
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed, &["backoff"]), bound: FIRST }
    }

    /// The wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.bound.mul_f64(self.rng.unit());
        self.bound = (self.bound * 2).min(MAX);
        wait
    }

    /// An attempt worked: start again at [`FIRST`].
    pub(crate) fn reset(&mut self) {
        self.bound = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_bound_that_doubles_to_the_maximum() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for bound_ms in [200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
                assert!(backoff.next() < Duration::from_millis(bound_ms), "seed {seed}, bound {bound_ms}");
            }
            backoff.reset();
            assert!(backoff.next() < FIRST);
        }
    }

    #[test]
    fn processes_do_not_return_in_step() {
        let waits: Vec<_> = (0..100).map(|seed| Backoff::new(seed).next()).collect();
        let below = waits.iter().filter(|wait| **wait < FIRST / 2).count();
        // Five standard deviations of Binomial(100, 0.5) are 25.
        assert!((25..=75).contains(&below), "{below}");
    }
}
