//! The shell of a worker: it executes the effects of the real worker machine on a host of its own.

use std::collections::BTreeMap;

use params::{Digest, Name};
use round::{
    Millis,
    worker::{Call, Effect, Ending, Event, Failure, Kept, Machine},
};

use crate::{
    env::{Answer, Body, Env, Happening, Inside, Request},
    scenario::{CALL_MAX_MS, digest},
};

/// One host: a disk, and a process while it is up.
#[derive(Debug)]
pub(crate) struct WorkerHost {
    index: usize,
    name: Name,
    train_ms: Millis,
    /// Oldest first.
    files: Vec<File>,
    /// Deleted, and not yet for good.
    deleted: Vec<Kept>,
    process: Option<Process>,
    processes: u64,
}

/// A kept update.
#[derive(Debug)]
struct File {
    kept: Kept,
    synced: bool,
}

/// What a crash forgets.
#[derive(Debug)]
struct Process {
    id: u64,
    machine: Machine,
    clock: i64,
    started: Millis,
    /// While it is stopped by a signal: what is waiting for it.
    frozen: Option<Vec<Happening>>,
    call: Option<Call>,
    /// Names what the compute thread does.
    job: u64,
    /// The weight of each piece of work.
    weights: BTreeMap<Digest, u64>,
    timer: u64,
}

impl WorkerHost {
    pub(crate) fn new(env: &mut Env, index: usize) -> Self {
        let host = env.scenario.hosts[index].clone();
        env.after(host.starts, Happening::WorkerStarts { worker: index });
        let (name, train_ms) = (host.name, host.train_ms);
        Self { index, name, train_ms, files: Vec::new(), deleted: Vec::new(), process: None, processes: 0 }
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        if self.process.is_some() {
            return;
        }
        self.processes += 1;
        let kept: Vec<Kept> = self.files.iter().map(|file| file.kept.clone()).collect();
        env.note(format_args!("{} starts with {} updates", self.name, kept.len()));
        self.process = Some(Process {
            id: self.processes,
            machine: Machine::new(env.rng.bits(), kept),
            clock: 0,
            started: env.now,
            frozen: None,
            call: None,
            job: 0,
            weights: BTreeMap::new(),
            timer: 0,
        });
        self.step(env, Event::Start);
    }

    /// The host loses power: what was not synced may be lost, what was deleted may be back.
    pub(crate) fn crash(&mut self, env: &mut Env, down: Millis) {
        if self.process.take().is_none() {
            return;
        }
        env.fault("worker crash");
        env.note(format_args!("{} dies", self.name));
        self.files.retain(|file| file.synced || env.rng.below(2) == 0);
        self.files.iter_mut().for_each(|file| file.synced = true);
        for kept in std::mem::take(&mut self.deleted) {
            if env.rng.below(2) == 0 {
                self.files.insert(0, File { kept, synced: true });
            }
        }
        env.after(down, Happening::WorkerStarts { worker: self.index });
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub(crate) fn freeze(&mut self, env: &mut Env, lasts: Millis) {
        let worker = self.index;
        if let Some(process) = self.process.as_mut().filter(|process| process.frozen.is_none()) {
            process.frozen = Some(Vec::new());
            env.fault("worker frozen");
            env.note(format_args!("{} is frozen", self.name));
            env.after(lasts, Happening::Thaws { worker, process: process.id });
        }
    }

    /// SIGTERM.
    pub(crate) fn stop(&mut self, env: &mut Env) {
        if self.process.as_ref().is_some_and(|process| process.frozen.is_none()) {
            env.fault("worker stopped");
            self.step(env, Event::Stop);
        }
    }

    pub(crate) fn jump(&mut self, by: i64) {
        if let Some(process) = &mut self.process {
            process.clock += by;
        }
    }

    /// The coordinator died: connections break.
    pub(crate) fn disconnected(&mut self, env: &mut Env) {
        if let Some(Process { id, call: Some(call), .. }) = &self.process {
            env.reset(self.index, *id, *call);
        }
    }

    /// Whether the happening is kept for later.
    fn holds_back(&mut self, what: &Happening) -> bool {
        let held = self.process.as_mut().and_then(|process| process.frozen.as_mut());
        held.map(|held| held.push(what.clone())).is_some()
    }

    pub(crate) fn thaw(&mut self, env: &mut Env, process: u64) {
        let Some(process) = self.process.as_mut().filter(|known| known.id == process) else { return };
        env.note(format_args!("{} goes on", self.name));
        for what in process.frozen.take().into_iter().flatten() {
            self.happens(env, what);
        }
    }

    /// Something for this worker.
    pub(crate) fn happens(&mut self, env: &mut Env, what: Happening) {
        let id = match &what {
            Happening::Answered(answer) => answer.process,
            Happening::Worker { process, .. } => *process,
            _ => return,
        };
        if self.process.as_ref().is_none_or(|process| process.id != id) || self.holds_back(&what) {
            return;
        }
        match what {
            Happening::Answered(answer) => self.answered(env, answer),
            Happening::Worker { what, .. } => self.inside(env, what),
            _ => {}
        }
    }

    fn answered(&mut self, env: &mut Env, answer: Answer) {
        let Some(process) = &mut self.process else { return };
        process.weights.extend(answer.weight);
        // An answer to an older call is for the machine to ignore.
        process.call.take_if(|call| *call == answer.call);
        self.step(env, answer.event);
    }

    fn inside(&mut self, env: &mut Env, what: Inside) {
        let Some(process) = &mut self.process else { return };
        match what {
            Inside::Timer { serial } if serial == process.timer => self.step(env, Event::Tick),
            Inside::Limit { call } if process.call == Some(call) => {
                process.call = None;
                self.step(env, Event::Failed { call, failure: Failure::Broken });
            }
            Inside::Unreadable { call } if process.call == Some(call) => {
                process.call = None;
                self.step(env, Event::Failed { call, failure: Failure::Lost });
            }
            Inside::Compute { job, event } if job == process.job => self.step(env, event),
            Inside::Synced { key, works } => {
                self.deleted.clear();
                let file = self.files.iter_mut().find(|file| file.kept.key == key);
                file.into_iter().for_each(|file| file.synced = true);
                self.step(
                    env,
                    match works {
                        true => Event::Kept { key },
                        false => Event::WorkFailed { key, reason: "the disk is full".into() },
                    },
                );
            }
            _ => {}
        }
    }

    fn step(&mut self, env: &mut Env, event: Event) {
        let Some(process) = &mut self.process else { return };
        let effects = process.machine.step(process.now(env), event.clone());
        env.note(format_args!("{} {event:?} -> {effects:?}", self.name));
        env.count("worker steps");
        for effect in effects {
            self.execute(env, effect);
        }
        self.set_timer(env);
    }

    fn set_timer(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else { return };
        process.timer += 1;
        if let Some(at) = process.machine.next_deadline() {
            let wait = at.saturating_sub(process.now(env)).max(1);
            self.later(env, wait, |process| Inside::Timer { serial: process.timer });
        }
    }

    fn execute(&mut self, env: &mut Env, effect: Effect) {
        let session = self.process.as_ref().and_then(|process| process.machine.session()).unwrap_or(0);
        let poll = env.scenario.poll_ms + CALL_MAX_MS;
        match effect {
            Effect::Connect { call } => self.call(env, call, CALL_MAX_MS, 0, Body::Register),
            Effect::Poll { call } => self.call(env, call, poll, 0, Body::Poll { session }),
            Effect::Fetch { call, lease, .. } => {
                let transfer = env.between(0, 200);
                self.call(env, call, CALL_MAX_MS, transfer, Body::Fetch { session, lease });
            }
            Effect::TellProgress { call, lease, percent } => {
                self.call(env, call, CALL_MAX_MS, 0, Body::Progress { session, lease, percent });
            }
            Effect::Submit { call, lease, update, limit_ms, .. } => {
                let lost = env.scenario.faults.lost;
                if env.goes_wrong(lost, "update unreadable") {
                    self.process.iter_mut().for_each(|process| process.call = Some(call));
                    return self.later(env, 1, |_| Inside::Unreadable { call });
                }
                let (digest, examples) = (update.digest, update.examples);
                let transfer = env.between(0, 300);
                let body = Body::Update { session, lease, digest, examples };
                self.call(env, call, limit_ms.min(CALL_MAX_MS), transfer, body);
            }
            Effect::SubmitEvaluation { call, lease, .. } => {
                self.call(env, call, CALL_MAX_MS, 0, Body::Evaluation { session, lease });
            }
            Effect::Decline { call, lease, reason } => {
                self.call(env, call, CALL_MAX_MS, 0, Body::Decline { session, lease, reason });
            }
            Effect::Leave { call } => self.call(env, call, CALL_MAX_MS, 0, Body::Leave { session }),
            Effect::Train { key, .. } => self.train(env, key),
            Effect::Evaluate { key, .. } => {
                let wait = env.between(10, 1_000);
                self.process.iter_mut().for_each(|process| process.job += 1);
                self.later(env, wait, |process| Inside::Compute {
                    job: process.job,
                    event: Event::Measured { key },
                });
            }
            Effect::Cancel { .. } => self.process.iter_mut().for_each(|process| process.job += 1),
            Effect::Keep(kept) => self.keep(env, kept),
            Effect::Forget { key } => {
                let (gone, left) = self.files.drain(..).partition(|file| file.kept.key == key);
                self.files = left;
                self.deleted.extend(Vec::into_iter(gone).map(|file: File| file.kept));
            }
            Effect::Exit(ending) => self.exit(env, &ending),
        }
    }

    /// Trains in four batches; the result is a function of the worker and the key.
    fn train(&mut self, env: &mut Env, key: Digest) {
        env.oracles.trains(self.index, key);
        let Some(process) = &mut self.process else { return };
        process.job += 1;
        let (job, examples) = (process.job, process.weights.get(&key).copied().unwrap_or(1));
        let batch = env.between(self.train_ms / 2, 2 * self.train_ms) / 4;
        for done in 1..4 {
            let event = Event::Progressed { key, percent: done * 25 };
            self.later(env, u64::from(done) * batch, |_| Inside::Compute { job, event });
        }
        let fails = env.scenario.faults.work;
        let event = if env.goes_wrong(fails, "training fails") {
            Event::WorkFailed { key, reason: "it diverged".into() }
        } else {
            let digest = digest(&["update", self.name.as_str(), &key.to_string()]);
            Event::Trained { key, digest, bytes: 100, examples }
        };
        self.later(env, 4 * batch + 1, |_| Inside::Compute { job, event });
    }

    fn keep(&mut self, env: &mut Env, kept: Kept) {
        let fails = env.scenario.faults.work;
        let (key, works, wait) = (kept.key, !env.goes_wrong(fails, "disk full"), env.sync_time());
        if works {
            self.files.push(File { kept, synced: false });
        }
        self.later(env, wait, |_| Inside::Synced { key, works });
    }

    fn exit(&mut self, env: &mut Env, ending: &Ending) {
        self.process = None;
        if *ending == Ending::Stopped {
            let wait = env.between(10, 10_000);
            env.after(wait, Happening::WorkerStarts { worker: self.index });
        }
    }

    fn call(&mut self, env: &mut Env, call: Call, limit: Millis, transfer: Millis, body: Body) {
        let Some(process) = &mut self.process else { return };
        process.call = Some(call);
        let request = Request { worker: self.index, process: process.id, call, body };
        env.request(request, transfer);
        self.later(env, limit, |_| Inside::Limit { call });
    }

    fn later(&mut self, env: &mut Env, wait: Millis, what: impl FnOnce(&Process) -> Inside) {
        if let Some(process) = &self.process {
            let what = what(process);
            env.after(wait, Happening::Worker { worker: self.index, process: process.id, what });
        }
    }
}

impl Process {
    fn now(&self, env: &Env) -> Millis {
        u64::try_from(self.clock + (env.now - self.started) as i64).unwrap_or(0)
    }
}
