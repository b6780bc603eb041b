//! What tests do to a process from outside: kill it at a named point, or make its disk slow or bad.
//!
//! Only in builds with debug assertions, which releases are not; there, all of it is nothing.
//!
//! `CONCLAVE_CRASH=POINT[:HIT]` sends SIGKILL to the own process when the point is reached for the HIT-th
//! time. `CONCLAVE_FAULT=NAME:NUMBER[,NAME:NUMBER...]` gives numbers to the places that ask [`setting`].

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    /// The environment variable that names a point.
    const CRASH: &str = "CONCLAVE_CRASH";

    /// The environment variable with other faults.
    const FAULT: &str = "CONCLAVE_FAULT";

    pub(super) fn crash(point: &str) {
        static TARGET: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static HITS: AtomicU64 = AtomicU64::new(0);
        let target = TARGET.get_or_init(|| {
            let text = std::env::var(CRASH).ok()?;
            let (point, hit) = text.split_once(':').unwrap_or((&text, "1"));
            Some((point.to_owned(), hit.parse().unwrap_or(1)))
        });
        if let Some((wanted, hit)) = target
            && wanted == point
            && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *hit
        {
            tracing::warn!(point, hit, "killed by a test");
            // No destructor, no flush, no goodbye: what a power cut leaves of a process.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }

    pub(super) fn setting(name: &str) -> Option<u64> {
        static SETTINGS: OnceLock<Vec<(String, u64)>> = OnceLock::new();
        let settings = SETTINGS.get_or_init(|| {
            let text = std::env::var(FAULT).unwrap_or_default();
            let pair = |part: &str| {
                let (name, number) = part.split_once(':')?;
                Some((name.to_owned(), number.parse().ok()?))
            };
            text.split(',').filter_map(pair).collect()
        });
        settings.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }
}

/// A point at which a test may kill the process.
pub fn crash_point(point: &'static str) {
    #[cfg(debug_assertions)]
    armed::crash(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

/// The number that a test gave to a fault; `None` in every release build.
pub fn setting(name: &'static str) -> Option<u64> {
    #[cfg(debug_assertions)]
    return armed::setting(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        None
    }
}
