use params::Rng;

use crate::Millis;

/// The upper bound of the first wait.
pub const BACKOFF_FIRST_MS: Millis = 200;

/// The upper bound of every wait.
pub const BACKOFF_MAX_MS: Millis = 5_000;

/// The longest time that a coordinator can ask this worker to wait.
pub const RETRY_MAX_MS: Millis = 60_000;

/// Exponential backoff with full jitter: uniform between nothing and a bound that doubles from
/// [`BACKOFF_FIRST_MS`] to [`BACKOFF_MAX_MS`], so that workers that lost the same coordinator do not return
/// in step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    seed: u64,
    /// Waits so far; each draws from a stream of its own, so that the state is two numbers.
    drawn: u64,
    bound: Millis,
}

impl Backoff {
    /// `seed` should differ between processes.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0, bound: BACKOFF_FIRST_MS }
    }

    /// The wait before the next attempt, on top of what the coordinator asks for.
    pub(super) fn next(&mut self, at_least: Millis) -> Millis {
        let wait = Rng::new(self.seed, &["backoff", &self.drawn.to_string()]).below(self.bound);
        self.drawn = self.drawn.wrapping_add(1);
        self.bound = (self.bound * 2).min(BACKOFF_MAX_MS);
        at_least.min(RETRY_MAX_MS) + wait
    }

    /// Something worked: start again at [`BACKOFF_FIRST_MS`].
    pub(super) fn reset(&mut self) {
        self.bound = BACKOFF_FIRST_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_bound_that_doubles_to_the_maximum() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for bound in [200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
                assert!(backoff.next(0) < bound, "seed {seed}, bound {bound}");
            }
            backoff.reset();
            assert!(backoff.next(0) < BACKOFF_FIRST_MS);
        }
    }

    #[test]
    fn the_coordinator_sets_a_lower_bound_within_reason() {
        let wait = Backoff::new(1).next(0);
        assert_eq!(Backoff::new(1).next(700), 700 + wait);
        assert_eq!(Backoff::new(1).next(u64::MAX), RETRY_MAX_MS + wait);
    }

    #[test]
    fn processes_do_not_return_in_step() {
        let waits: Vec<_> = (0..100).map(|seed| Backoff::new(seed).next(0)).collect();
        let below = waits.iter().filter(|wait| **wait < BACKOFF_FIRST_MS / 2).count();
        // Five standard deviations of Binomial(100, 0.5) are 25.
        assert!((25..=75).contains(&below), "{below}");
    }
}
