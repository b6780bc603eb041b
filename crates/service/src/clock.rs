//! The only place that reads clocks. Everything else takes the time as an argument.
#![allow(clippy::disallowed_methods)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time since the clock was started: for deadlines and durations, never stored.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that shows 0 now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Milliseconds since the start; never goes backwards.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds since the start, for reports.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// Wall time: milliseconds since 1970-01-01 UTC, 0 on a host whose clock is before that. It may jump;
/// only certificates, invitations and records for people use it.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward() {
        let clock = Clock::start();
        let first = clock.now_ms();
        assert!(first < 60_000 && clock.now_ms() >= first);
        // 2026-01-01: a host that is set earlier cannot check certificates.
        assert!(unix_ms() > 1_767_225_600_000);
    }
}
