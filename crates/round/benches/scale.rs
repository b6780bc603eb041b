//! How a machine scales: time per step and memory per worker, with many workers in one run.
//!
//! `cargo bench -p round` prints a table for 10,000 workers that are all in every cohort, on hosted shards:
//! the most that a step may have to walk over. `WORKERS=100000 cargo bench -p round` for another number.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)] // a program for people

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use params::{Digest, Name};
use round::{Committed, DataPlan, Evaluation, Event, Lease, Machine, Phase, Plan, Touched};

/// Rounds that are measured.
const ROUNDS: u32 = 5;

/// Workers in one sighting, as a driver that looks every few milliseconds finds them.
const SEEN: usize = 64;

/// Every so many workers fall silent at the end.
const SILENT: usize = 10;

fn main() {
    let workers = std::env::var("WORKERS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let names: Vec<Name> = (0..workers).map(|i| format!("site-{i:06}").parse().unwrap()).collect();
    let mut bench = Bench::new(&names);
    let before = resident();
    bench.join();
    let idle = resident().saturating_sub(before);
    bench.rounds();
    bench.restart();
    bench.silence();
    println!("{workers} workers, cohort of all, {ROUNDS} rounds");
    println!("{:<34} {:>8} {:>10} {:>10} {:>10}", "step", "steps", "median", "p99", "max");
    for (what, times) in &mut bench.times {
        times.sort_unstable();
        let at = |part: usize| micros(times[(times.len() - 1) * part / 100]);
        println!("{what:<34} {:>8} {:>10} {:>10} {:>10}", times.len(), at(50), at(99), at(100));
    }
    println!("resident memory: {} bytes per idle worker", idle / workers);
}

struct Bench<'a> {
    names: &'a [Name],
    machine: Machine,
    now: u64,
    times: BTreeMap<&'static str, Vec<Duration>>,
}

impl<'a> Bench<'a> {
    fn new(names: &'a [Name]) -> Self {
        let all = u32::try_from(names.len()).unwrap();
        let plan = Plan {
            seed: 7,
            rounds: ROUNDS + 1,
            cohort_min: all - all / 2,
            cohort_max: all,
            cohort_select: all,
            deadline_ms: 600_000,
            lease_ms: 10_000,
            gather_ms: 600_000,
            wait_ms: 600_000,
            attempts_max: 3,
            data: DataPlan::Hosted { shards: vec![1; names.len()] },
            evaluation: Evaluation::None,
            patience: None,
        };
        let start = Committed { round: 0, base: Digest::of(b"base"), shards: BTreeMap::new() };
        Self { names, machine: Machine::new(plan, start, 1, 0), now: 0, times: BTreeMap::new() }
    }

    /// A step, and what a shell asks for after each.
    fn step(&mut self, what: &'static str, event: Event) -> usize {
        #[allow(clippy::disallowed_methods)] // it measures
        let start = Instant::now();
        let effects = self.machine.step(self.now, event);
        let touched = self.machine.take_touched();
        let _ = std::hint::black_box(self.machine.next_deadline());
        #[allow(clippy::disallowed_methods)]
        let took = start.elapsed();
        self.times.entry(what).or_default().push(took);
        std::hint::black_box(touched != Touched::All);
        effects.len()
    }

    fn join(&mut self) {
        for (session, worker) in (1..).zip(self.names) {
            let last = session == self.names.len() as u64;
            let what = if last { "join: the round opens" } else { "join" };
            self.step(what, Event::WorkerJoined { worker: worker.clone(), session, examples: None });
        }
        assert_eq!(self.machine.phase(), &Phase::Training);
    }

    fn rounds(&mut self) {
        for round in 1..=ROUNDS {
            self.see();
            self.send(self.names.len(), "update", "update: the round closes");
            assert_eq!(self.machine.phase(), &Phase::Aggregating, "round {round}");
            let candidate = Digest::of(&round.to_le_bytes());
            self.step("aggregated", Event::Aggregated { round, candidate });
            self.step("published: the next round opens", Event::Published { round, better: false });
        }
    }

    fn see(&mut self) {
        self.now += 1000;
        let session = |worker: &Name| self.names.binary_search(worker).unwrap() as u64 + 1;
        for group in self.names.chunks(SEEN) {
            let workers = group.iter().map(|worker| (worker.clone(), session(worker))).collect();
            self.step("64 workers seen", Event::WorkersSeen { workers });
        }
    }

    /// The first `count` workers send their updates.
    fn send(&mut self, count: usize, each: &'static str, last: &'static str) {
        let leases: Vec<(Name, Lease)> = self.names[..count]
            .iter()
            .map(|n| (n.clone(), self.machine.assignment(n).unwrap().lease))
            .collect();
        for (at, (worker, lease)) in leases.into_iter().enumerate() {
            let digest = Digest::of(worker.as_str().as_bytes());
            let what = if at + 1 == self.names.len() { last } else { each };
            self.step(what, Event::UpdateReceived { worker, lease, digest, examples: 1 });
        }
    }

    /// A restart in the middle of a round: half of the updates are in, and come again.
    fn restart(&mut self) {
        let half = self.names.len() / 2;
        self.send(half, "update", "");
        self.step("restarted", Event::Restarted { lease_base: 1 << 40 });
        for (session, worker) in (1 << 20..).zip(self.names) {
            let event = Event::WorkerJoined { worker: worker.clone(), session, examples: None };
            self.step("join after a restart", event);
        }
        self.send(half, "update after a restart", "");
    }

    fn silence(&mut self) {
        let heard = self.names.iter().enumerate().filter(|(at, _)| at % SILENT != 0);
        let heard = heard.map(|(at, worker)| (worker.clone(), (1 << 20) + at as u64)).collect();
        self.now += 5_000;
        self.step("all but a tenth seen", Event::WorkersSeen { workers: heard });
        self.now += 5_000;
        let Some(event) = self.machine.overdue(self.now) else { panic!("a tenth is silent") };
        let lost = self.step("a tenth falls silent", event);
        assert!(lost > 0);
    }
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
