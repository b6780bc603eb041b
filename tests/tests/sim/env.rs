//! What both kinds of nodes live in: time, chance, the network, and who watches.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
};

use params::{Digest, Rng};
use round::{
    Lease, Millis, Session,
    worker::{Call, Event},
};

use crate::{
    mutation::Mutation,
    oracles::Oracles,
    scenario::{Scenario, between, chance},
    trace::Trace,
};

/// Everything that can be due.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Arrives(Request),
    Answered(Answer),
    CoordinatorStarts,
    CoordinatorTimer {
        boot: u64,
        serial: u64,
    },
    JournalSynced {
        boot: u64,
        upto: usize,
    },
    /// The candidate is durable.
    Aggregated {
        boot: u64,
        token: u64,
    },
    Evaluated {
        boot: u64,
        token: u64,
        round: u32,
    },
    WorkerStarts {
        worker: usize,
    },
    /// Inside of a worker process; nothing if that process is gone.
    Worker {
        worker: usize,
        process: u64,
        what: Inside,
    },
    Thaws {
        worker: usize,
        process: u64,
    },
    /// The next fault of the schedule.
    Fault(usize),
    /// Faults are over, and so are pauses.
    OperatorResumes,
}

/// What happens inside of a worker process.
#[derive(Clone, Debug)]
pub(crate) enum Inside {
    Timer {
        serial: u64,
    },
    /// The call took too long, or its connection broke.
    Limit {
        call: Call,
    },
    /// From the compute thread, unless the job was cancelled.
    Compute {
        job: u64,
        event: Event,
    },
    /// The disk has it, or does not take it.
    Synced {
        key: Digest,
        works: bool,
    },
    Unreadable {
        call: Call,
    },
}

/// What a worker sends.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) worker: usize,
    pub(crate) process: u64,
    pub(crate) call: Call,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Register,
    Poll { session: Session },
    Fetch { session: Session, lease: Lease },
    Progress { session: Session, lease: Lease, percent: u32 },
    Update { session: Session, lease: Lease, digest: Digest, examples: u64 },
    Evaluation { session: Session, lease: Lease },
    Decline { session: Session, lease: Lease, reason: String },
    Leave { session: Session },
}

/// What it gets back: the event for its machine, and the weight of its work.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) worker: usize,
    pub(crate) process: u64,
    pub(crate) call: Call,
    pub(crate) event: Event,
    pub(crate) weight: Option<(Digest, u64)>,
}

/// Counts of a run, for the report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) crashes: BTreeMap<&'static str, u64>,
    pub(crate) figures: BTreeMap<&'static str, u64>,
}

/// The surroundings of all nodes.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) scenario: Scenario,
    pub(crate) mutation: Mutation,
    pub(crate) now: Millis,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) oracles: Oracles,
    pub(crate) counts: Counts,
    pub(crate) crashes_left: u32,
    queue: BinaryHeap<Reverse<Due>>,
    serial: u64,
    links: Vec<Link>,
}

/// Until when nothing passes between one worker and the coordinator.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    up: Millis,
    down: Millis,
}

#[derive(Debug)]
struct Due {
    at: Millis,
    /// Things of one moment come in any order.
    tie: u64,
    serial: u64,
    what: Happening,
}

impl Env {
    pub(crate) fn new(scenario: Scenario, mutation: Mutation, trace: Trace) -> Self {
        let rng = Rng::new(scenario.seed, &["simulator", "run"]);
        let links = vec![Link::default(); scenario.hosts.len()];
        Self {
            crashes_left: scenario.faults.crashes_max,
            oracles: Oracles::new(scenario.hosts.iter().map(|host| host.name.clone())),
            scenario,
            mutation,
            now: 0,
            rng,
            trace,
            counts: Counts::default(),
            queue: BinaryHeap::new(),
            serial: 0,
            links,
        }
    }

    pub(crate) fn after(&mut self, wait: Millis, what: Happening) {
        self.serial += 1;
        let (at, tie, serial) = (self.now + wait, self.rng.bits(), self.serial);
        self.queue.push(Reverse(Due { at, tie, serial, what }));
    }

    /// Goes on to the next thing that is due.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        let Reverse(due) = self.queue.pop()?;
        self.now = due.at;
        Some(due.what)
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        between(&mut self.rng, least, most)
    }

    /// Whether something goes wrong now that goes wrong so many times in a thousand.
    pub(crate) fn goes_wrong(&mut self, thousandths: u64, kind: &'static str) -> bool {
        let wrong = self.now < self.scenario.faults_end && chance(&mut self.rng, thousandths);
        if wrong {
            self.fault(kind);
        }
        wrong
    }

    pub(crate) fn fault(&mut self, kind: &'static str) {
        *self.counts.faults.entry(kind).or_default() += 1;
    }

    pub(crate) fn count(&mut self, figure: &'static str) {
        *self.counts.figures.entry(figure).or_default() += 1;
    }

    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        self.trace.note(self.now, line);
    }

    /// A sync takes a while, rarely a long one.
    pub(crate) fn sync_time(&mut self) -> Millis {
        let most = self.scenario.sync_ms;
        if self.goes_wrong(10, "slow sync") { self.between(most, 20 * most) } else { self.between(0, most) }
    }

    pub(crate) fn partition(&mut self, worker: Option<usize>, up: bool, down: bool, lasts: Millis) {
        let until = (self.now + lasts).min(self.scenario.faults_end);
        for (index, link) in self.links.iter_mut().enumerate() {
            if worker.is_none_or(|worker| worker == index) {
                link.up = link.up.max(if up { until } else { 0 });
                link.down = link.down.max(if down { until } else { 0 });
            }
        }
    }

    /// Sends a request; `extra` is the time that its payload takes.
    pub(crate) fn request(&mut self, request: Request, extra: Millis) {
        if self.now < self.links[request.worker].up {
            self.fault("request cut off");
            return;
        }
        self.transmit(Happening::Arrives(request), extra);
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        if self.now < self.links[answer.worker].down {
            self.fault("answer cut off");
            return;
        }
        self.transmit(Happening::Answered(answer), 0);
    }

    /// Tells a worker that its connection broke, if that gets through.
    pub(crate) fn reset(&mut self, worker: usize, process: u64, call: Call) {
        if self.now >= self.links[worker].down {
            let wait = self.between(1, self.scenario.delay_ms);
            self.after(wait, Happening::Worker { worker, process, what: Inside::Limit { call } });
        }
    }

    fn transmit(&mut self, what: Happening, extra: Millis) {
        let faults = &self.scenario.faults;
        let (drop, duplicate) = (faults.drop, faults.duplicate);
        if self.goes_wrong(drop, "message dropped") {
            return;
        }
        if self.goes_wrong(duplicate, "message duplicated") {
            let wait = self.delay() + extra;
            self.after(wait, what.clone());
        }
        let wait = self.delay() + extra;
        self.after(wait, what);
    }

    fn delay(&mut self) -> Millis {
        let (slow, most) = (self.scenario.faults.slow, self.scenario.delay_ms);
        let most = if self.goes_wrong(slow, "message delayed") { 50 * most } else { most };
        self.between(1, most)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie, self.serial).cmp(&(other.at, other.tie, other.serial))
    }
}
