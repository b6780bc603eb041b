//! What a seed means: the plan, the hosts, and what goes wrong when.

use std::collections::BTreeMap;

use params::{Digest, Name, Rng};
use round::{Committed, DataPlan, Evaluation, Event, Millis, Plan};

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The coordinator alone is killed, again and again; what it wrote stays written (SIGKILL).
    Kills,
    /// The same, and what was not synced is lost (power failure).
    PowerFailures,
    /// Everything at once.
    Chaos,
}

/// Something that goes wrong, or that an operator wants, at a time of its own.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Crash,
    /// No message passes between the coordinator and this worker (`None`: any worker), one way or both.
    Partition {
        worker: Option<usize>,
        up: bool,
        down: bool,
        lasts: Millis,
    },
    WorkerCrash {
        worker: usize,
        down: Millis,
    },
    WorkerFreeze {
        worker: usize,
        lasts: Millis,
    },
    WorkerStop {
        worker: usize,
    },
    /// The clock of the coordinator (`None`) or a worker jumps.
    ClockJump {
        worker: Option<usize>,
        by: i64,
    },
    Operator(Event),
}

/// Rates in thousandths, and the schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    /// Messages that take ten times as long as the others ever do, and so arrive out of order.
    pub(crate) slow: u64,
    /// A crash of the coordinator before an effect.
    pub(crate) crash: u64,
    pub(crate) crashes_max: u32,
    /// A training or a write of an update that fails for good.
    pub(crate) work: u64,
    /// A kept update that cannot be read when it is to be sent.
    pub(crate) lost: u64,
    pub(crate) schedule: Vec<(Millis, Fault)>,
}

/// One worker host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: Name,
    /// Rows of its own.
    pub(crate) rows: Option<u64>,
    /// How long it trains, about.
    pub(crate) train_ms: Millis,
    /// When it starts first.
    pub(crate) starts: Millis,
}

/// All that a seed decides before the run starts.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) plan: Plan,
    pub(crate) hosts: Vec<Host>,
    /// How long an idle poll is held.
    pub(crate) poll_ms: Millis,
    /// The longest usual delay of a message.
    pub(crate) delay_ms: Millis,
    /// The longest usual sync.
    pub(crate) sync_ms: Millis,
    /// Events are taken while a sync is under way.
    pub(crate) group_commit: bool,
    /// From here on nothing goes wrong.
    pub(crate) faults_end: Millis,
    /// A paused run is resumed in the end.
    pub(crate) resumes: bool,
    pub(crate) faults: Faults,
}

/// The longest that a coordinator stays down.
pub(crate) const DOWN_MAX_MS: Millis = 20_000;
/// The longest that a call may take which does not wait on purpose.
pub(crate) const CALL_MAX_MS: Millis = 15_000;
/// The farthest that a clock tries to go back, and how often it does at most.
pub(crate) const BACK_MAX_MS: Millis = 30_000;
/// While most workers train for the first round.
const EARLY_MS: Millis = 8_000;
/// Faults of one kind in a schedule.
const EACH_MAX: u64 = 5;

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, &["simulator", "scenario"]);
        let kind = match seed % 4 {
            0 => Kind::Kills,
            1 => Kind::PowerFailures,
            _ => Kind::Chaos,
        };
        let chaos = kind == Kind::Chaos;
        let count = between(&mut rng, 2, 6);
        let hosted = chance(&mut rng, 500);
        let hosts: Vec<Host> = (0..count)
            .map(|i| Host {
                name: format!("w{i}").parse().expect("a good name"),
                rows: (!hosted).then(|| between(&mut rng, 1, 500)),
                train_ms: between(&mut rng, 100, 6_000),
                starts: between(&mut rng, 0, 3_000),
            })
            .collect();
        let plan = plan(&mut rng, seed, chaos, hosted, count);
        // About as long as the run takes.
        let faults_end = between(&mut rng, 8_000, 10_000 + 12_000 * u64::from(plan.rounds));
        let mut scenario = Self {
            seed,
            kind,
            plan,
            hosts,
            poll_ms: if chance(&mut rng, 500) { 1_000 } else { between(&mut rng, 1_000, 30_000) },
            delay_ms: between(&mut rng, 1, 60),
            sync_ms: between(&mut rng, 1, 60),
            group_commit: chance(&mut rng, 500),
            faults_end,
            resumes: chance(&mut rng, 700),
            faults: Faults::default(),
        };
        scenario.faults =
            if chaos { chaotic(&scenario, &mut rng) } else { crashes_only(&scenario, &mut rng) };
        scenario
    }

    /// The same without anything that goes wrong.
    pub(crate) fn undisturbed(mut self) -> Self {
        self.faults = Faults::default();
        self
    }

    /// Whether the result must be that of the undisturbed run.
    pub(crate) fn must_equal_undisturbed(&self) -> bool {
        self.kind != Kind::Chaos
    }

    pub(crate) fn genesis(&self) -> Committed {
        Committed { round: 0, base: digest(&["base", &self.seed.to_string()]), shards: BTreeMap::new() }
    }

    /// Whether a round is better than all before: a function of the seed and the round.
    pub(crate) fn better(&self, round: u32) -> bool {
        Rng::new(self.seed, &["simulator", "better", &round.to_string()]).below(2) == 0
    }

    /// After this time nobody waits any more for something that went wrong: who is down is back, who waits
    /// for a lost answer has given up, who is gone has lost its lease, clocks that went back have caught up.
    pub(crate) fn settled(&self) -> Millis {
        let calls = (self.poll_ms + CALL_MAX_MS).max(2 * CALL_MAX_MS);
        let backoff = round::worker::BACKOFF_MAX_MS * 2;
        self.faults_end
            + 2 * DOWN_MAX_MS
            + calls
            + backoff
            + self.poll_ms
            + 2 * self.plan.lease_ms
            + EACH_MAX * BACK_MAX_MS
    }

    /// When a run of `rounds` must have ended. After everything has settled an attempt cannot fail (L3), so
    /// it is one attempt for each round and one that was open before.
    pub(crate) fn bound(&self, rounds: u32) -> Millis {
        let plan = &self.plan;
        let attempt =
            plan.wait_ms + plan.gather_ms + 2 * plan.deadline_ms + 2 * plan.lease_ms + 2 * CALL_MAX_MS;
        self.settled() + (u64::from(rounds) + 1) * attempt
    }
}

fn plan(rng: &mut Rng, seed: u64, chaos: bool, hosted: bool, count: u64) -> Plan {
    let min = between(rng, 1, count);
    // A result that must not depend on timing needs everybody.
    let max = if chaos { between(rng, min, count) } else { count };
    let select = if chaos { between(rng, max, count) } else { count };
    let data = match hosted {
        true => {
            DataPlan::Hosted { shards: (0..count + rng.below(2)).map(|_| between(rng, 1, 500)).collect() }
        }
        false => DataPlan::Private,
    };
    let evaluation = match rng.below(3) {
        0 => Evaluation::None,
        1 => Evaluation::Central,
        _ => Evaluation::Workers,
    };
    let (lease, deadline) = if chaos { (2_000, 20_000) } else { (20_000, 200_000) };
    Plan {
        seed,
        rounds: between(rng, 1, 6) as u32,
        cohort_min: min as u32,
        cohort_max: max as u32,
        cohort_select: select as u32,
        deadline_ms: between(rng, deadline, 3 * deadline),
        lease_ms: between(rng, lease, 3 * lease),
        gather_ms: if chaos { between(rng, 0, 10_000) } else { 300_000 },
        wait_ms: if chaos { between(rng, 20_000, 120_000) } else { 300_000 },
        attempts_max: between(rng, 1, 6) as u32,
        data,
        evaluation,
        patience: chance(rng, 300).then(|| between(rng, 1, 3) as u32),
    }
}

fn crashes_only(scenario: &Scenario, rng: &mut Rng) -> Faults {
    let crashes = between(rng, 1, 4);
    // Half of them early, when the journal is short and little of it is synced.
    let ends = [EARLY_MS, scenario.faults_end];
    let schedule = (0..crashes).map(|i| (rng.below(ends[i as usize % 2]), Fault::Crash)).collect();
    Faults {
        duplicate: pick_rate(rng, 50),
        crash: between(rng, 0, 60),
        crashes_max: between(rng, 1, 8) as u32,
        schedule,
        ..Faults::default()
    }
}

fn chaotic(scenario: &Scenario, rng: &mut Rng) -> Faults {
    let mut schedule = Vec::new();
    let (hosts, end) = (scenario.hosts.len() as u64, scenario.faults_end);
    let lease = scenario.plan.lease_ms;
    for make in [crash, partition, worker_crash, freeze, worker_stop, clock_jump] {
        let count = if chance(rng, 500) { between(rng, 1, EACH_MAX) } else { 0 };
        schedule.extend((0..count).map(|_| (rng.below(end), make(rng, hosts, lease))));
    }
    if chance(rng, 250) {
        let count = between(rng, 1, 4);
        schedule.extend((0..count).map(|_| (rng.below(end), Fault::Operator(order(rng, scenario)))));
    }
    Faults {
        drop: pick_rate(rng, 50),
        duplicate: pick_rate(rng, 100),
        slow: pick_rate(rng, 50),
        crash: pick_rate(rng, 60),
        crashes_max: between(rng, 0, 8) as u32,
        work: pick_rate(rng, 20),
        lost: pick_rate(rng, 50),
        schedule,
    }
}

fn crash(_: &mut Rng, _: u64, _: Millis) -> Fault {
    Fault::Crash
}

fn partition(rng: &mut Rng, hosts: u64, lease: Millis) -> Fault {
    let worker = chance(rng, 700).then(|| rng.below(hosts) as usize);
    let ways = rng.below(3);
    Fault::Partition { worker, up: ways != 0, down: ways != 1, lasts: between(rng, 100, 3 * lease) }
}

fn worker_crash(rng: &mut Rng, hosts: u64, lease: Millis) -> Fault {
    Fault::WorkerCrash { worker: rng.below(hosts) as usize, down: between(rng, 10, 2 * lease) }
}

fn freeze(rng: &mut Rng, hosts: u64, lease: Millis) -> Fault {
    Fault::WorkerFreeze { worker: rng.below(hosts) as usize, lasts: between(rng, lease / 2, 3 * lease) }
}

fn worker_stop(rng: &mut Rng, hosts: u64, _: Millis) -> Fault {
    Fault::WorkerStop { worker: rng.below(hosts) as usize }
}

fn clock_jump(rng: &mut Rng, hosts: u64, _: Millis) -> Fault {
    let worker = chance(rng, 500).then(|| rng.below(hosts) as usize);
    let by = match chance(rng, 500) {
        true => between(rng, 1_000, 300_000) as i64,
        false => -(between(rng, 1_000, BACK_MAX_MS) as i64),
    };
    Fault::ClockJump { worker, by }
}

fn order(rng: &mut Rng, scenario: &Scenario) -> Event {
    let worker = scenario.hosts[rng.below(scenario.hosts.len() as u64) as usize].name.clone();
    match rng.below(16) {
        0..4 => Event::Pause { reason: "an operator paused it".into() },
        4..7 => Event::Resume,
        7..9 => Event::WorkerDrained { worker, drained: true },
        9..11 => Event::WorkerDrained { worker, drained: false },
        11 => Event::WorkerRevoked { worker },
        12 => Event::Stop { reason: "an operator stopped it".into() },
        _ => Event::AddRounds { count: between(rng, 1, 2) as u32 },
    }
}

/// Half of the seeds have none of a kind.
fn pick_rate(rng: &mut Rng, most: u64) -> u64 {
    if chance(rng, 500) { between(rng, 1, most) } else { 0 }
}

/// Uniform in `least..=most`.
pub(crate) fn between(rng: &mut Rng, least: u64, most: u64) -> u64 {
    least + rng.below(most.saturating_sub(least) + 1)
}

/// True so many times in a thousand.
pub(crate) fn chance(rng: &mut Rng, thousandths: u64) -> bool {
    thousandths > 0 && rng.below(1000) < thousandths
}

pub(crate) fn digest(parts: &[&str]) -> Digest {
    Digest::of(parts.join("\0").as_bytes())
}
