//! Many seeds, and what they add up to.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    env::Counts,
    mutation::Mutation,
    oracles::Violation,
    scenario::Scenario,
    trace::Trace,
    world::{self, Report},
};

/// Lines of the trace that a failure shows.
const LINES: usize = 60;

/// What many runs add up to.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    seeds: u64,
    simulated_ms: u64,
    counts: Counts,
    outcomes: BTreeMap<String, u64>,
}

/// Runs one seed, with the undisturbed run next to it where that must be equal.
pub(crate) fn check(seed: u64, mutation: Mutation, trace: impl Fn() -> Trace) -> Report {
    let scenario = Scenario::new(seed);
    let mut report = world::run(scenario.clone(), mutation, trace());
    if report.violation.is_none() && scenario.must_equal_undisturbed() {
        let undisturbed = world::run(scenario.undisturbed(), Mutation::None, Trace::Off);
        report.violation = undisturbed.violation.clone();
        if report.violation.is_none() {
            report.oracles.s7_same_as_undisturbed(&undisturbed.oracles);
            report.violation = report.oracles.violation.clone();
        }
    }
    report
}

/// The same; a panic is a broken rule.
pub(crate) fn checked(seed: u64, mutation: Mutation) -> Result<Report, Violation> {
    let run = catch_unwind(AssertUnwindSafe(|| check(seed, mutation, Trace::default)));
    let report = run.map_err(|_| Violation { oracle: "panic", text: "see above".into() })?;
    match report.violation.clone() {
        Some(violation) => Err(violation),
        None => Ok(report),
    }
}

/// Runs `count` seeds on two threads; also returns those that failed.
pub(crate) fn run_all(first: u64, count: u64) -> (Totals, Vec<(u64, Violation)>) {
    let next = AtomicU64::new(first);
    let work = || {
        let (mut totals, mut failed) = (Totals::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // Enough is known of a bug that breaks every tenth seed.
            if seed >= first.saturating_add(count) || failed.len() >= 5 {
                return (totals, failed);
            }
            match checked(seed, Mutation::None) {
                Ok(report) => totals.add(&report),
                Err(violation) => failed.push((seed, violation)),
            }
        }
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        (work(), other.join().expect("a panic of the product is caught"))
    });
    let (mut totals, mut failed) = one;
    totals.merge(two.0);
    failed.extend(two.1);
    failed.sort_by_key(|(seed, _)| *seed);
    (totals, failed)
}

/// What to show of seeds that failed: a line for each, and the end of the first one.
pub(crate) fn failures(failed: &[(u64, Violation)]) -> String {
    let lines = failed.iter().map(|(seed, violation)| format!("seed {seed}: {}\n", violation.oracle));
    let first = failed.first().map(|(seed, _)| failure(*seed));
    lines.chain(first).collect()
}

fn failure(seed: u64) -> String {
    let again = format!("SIM_SEED={seed} cargo test -p tests --test sim -- replay --nocapture");
    let run = catch_unwind(AssertUnwindSafe(|| check(seed, Mutation::None, Trace::text)));
    let Ok(report) = run else { return format!("\n{again}\npanic\n") };
    let mut text = format!("\n{again}\n");
    if let Trace::Text(lines) = &report.trace {
        lines[lines.len().saturating_sub(LINES)..].iter().for_each(|line| text += &format!("{line}\n"));
    }
    if let Some(Violation { oracle, text: what }) = &report.violation {
        text += &format!("{oracle}: {what}\n");
    }
    text
}

/// A number in the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

impl Totals {
    fn add(&mut self, report: &Report) {
        let outcomes = BTreeMap::from([(report.outcome.clone(), 1)]);
        let (simulated_ms, counts) = (report.simulated_ms, report.counts.clone());
        self.merge(Self { seeds: 1, simulated_ms, counts, outcomes });
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.simulated_ms += other.simulated_ms;
        let pairs = [
            (&mut self.counts.faults, other.counts.faults),
            (&mut self.counts.crashes, other.counts.crashes),
            (&mut self.counts.figures, other.counts.figures),
        ];
        for (into, from) in pairs {
            from.into_iter().for_each(|(name, n)| *into.entry(name).or_default() += n);
        }
        other.outcomes.into_iter().for_each(|(name, n)| *self.outcomes.entry(name).or_default() += n);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated_ms as f64 / 3_600_000.0;
        writeln!(f, "{} seeds, {hours:.1} hours simulated", self.seeds)?;
        let list = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
        };
        let outcomes: Vec<String> = self.outcomes.iter().map(|(name, n)| format!("{n} {name}")).collect();
        writeln!(f, "outcomes: {}", outcomes.join(", "))?;
        writeln!(f, "figures: {}", list(&self.counts.figures))?;
        writeln!(f, "faults: {}", list(&self.counts.faults))?;
        writeln!(f, "coordinator crashes before: {}", list(&self.counts.crashes))
    }
}
