use params::{Digest, Name};
use round::{
    Lease, Millis, WorkKind,
    worker::{Call, Effect, Ending, Event, Failure, Kept, Machine, Work},
};

/// A machine and the time.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) machine: Machine,
    pub(crate) now: Millis,
}

impl Life {
    pub(crate) fn new(kept: Vec<Kept>) -> Self {
        Self { machine: Machine::new(7, kept), now: 1_000 }
    }

    /// One that waits for work: call 0 connected it, call 1 is the poll.
    pub(crate) fn polling() -> Self {
        Self::polling_with(vec![])
    }

    pub(crate) fn polling_with(kept: Vec<Kept>) -> Self {
        let mut life = Self::new(kept);
        assert_eq!(life.take(Event::Start), [connect(0)]);
        assert_eq!(life.take(connected(0)), [poll(1)]);
        life
    }

    /// One that trains in round 1 of run `r` under lease 5; the next call is 3.
    pub(crate) fn training() -> Self {
        let mut life = Self::polling();
        assert_eq!(life.take(polled(1, work(1, 5))), [fetch(2, 5, 1)]);
        assert_eq!(life.take(done(2)), [train(1)]);
        life
    }

    /// One that trained that and writes it to the disk.
    pub(crate) fn keeping() -> Self {
        let mut life = Self::training();
        assert_eq!(life.take(trained(1)), [Effect::Keep(kept(1))]);
        life
    }

    /// One that sends that with call 3.
    pub(crate) fn sending() -> Self {
        let mut life = Self::keeping();
        assert_eq!(life.take(Event::Kept { key: key(1) }), [submit(3, 5, 1, false)]);
        life
    }

    /// Steps at the current time.
    pub(crate) fn take(&mut self, event: Event) -> Vec<Effect> {
        self.at(self.now, event)
    }

    pub(crate) fn at(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        self.now = now;
        let effects = self.machine.step(now, event);
        if let Some(deadline) = self.machine.next_deadline() {
            assert!(deadline > now, "nothing is overdue after a step");
        }
        effects
    }

    /// Waits for the next deadline, within `least..most` from now.
    pub(crate) fn wait(&mut self, least: Millis, most: Millis) -> Vec<Effect> {
        let deadline = self.machine.next_deadline().unwrap();
        let wait = deadline - self.now;
        assert!((least..most).contains(&wait), "waits {wait} ms, {least} to {most} were expected");
        self.at(deadline, Event::Tick)
    }

    /// The event changes nothing.
    pub(crate) fn ignores(&mut self, event: Event) {
        let before = self.machine.clone();
        assert_eq!(self.take(event), []);
        assert_eq!(self.machine, before);
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The key of the work of a round of run `r`.
pub(crate) fn key(round: u32) -> Digest {
    key_of("r", round)
}

pub(crate) fn key_of(run: &str, round: u32) -> Digest {
    Digest::of(format!("{run} {round}").as_bytes())
}

pub(crate) fn work(round: u32, lease: Lease) -> Option<Work> {
    work_of("r", round, lease)
}

pub(crate) fn work_of(run: &str, round: u32, lease: Lease) -> Option<Work> {
    let key = key_of(run, round);
    Some(Work { run: name(run), round, lease, kind: WorkKind::Train, key, deadline_ms: 60_000 })
}

/// Measure the candidate of round `round` of run `r`.
pub(crate) fn candidate(round: u32, lease: Lease) -> Option<Work> {
    let kind = WorkKind::Evaluate;
    Some(Work { kind, key: candidate_key(round), ..work(round, lease).unwrap() })
}

pub(crate) fn candidate_key(round: u32) -> Digest {
    key_of("candidate", round)
}

pub(crate) fn kept(round: u32) -> Kept {
    kept_of("r", round)
}

pub(crate) fn kept_of(run: &str, round: u32) -> Kept {
    let key = key_of(run, round);
    Kept { run: name(run), round, key, digest: payload(key), bytes: 40, examples: 10 }
}

pub(crate) fn payload(key: Digest) -> Digest {
    Digest::of(key.as_bytes())
}

pub(crate) fn connected(call: Call) -> Event {
    connected_with(call, 2)
}

pub(crate) fn connected_with(call: Call, protocol: u32) -> Event {
    Event::Connected { call, session: 70 + call, lease_ms: 15_000, protocol }
}

pub(crate) fn polled(call: Call, work: Option<Work>) -> Event {
    Event::Polled { call, work }
}

pub(crate) fn told(call: Call, abandon: bool) -> Event {
    Event::Told { call, abandon }
}

pub(crate) fn done(call: Call) -> Event {
    Event::Done { call }
}

pub(crate) fn failed(call: Call, failure: Failure) -> Event {
    Event::Failed { call, failure }
}

pub(crate) fn impossible(call: Call) -> Event {
    failed(call, Failure::Impossible { reason: "no".into() })
}

pub(crate) fn progressed(round: u32, percent: u32) -> Event {
    Event::Progressed { key: key(round), percent }
}

pub(crate) fn trained(round: u32) -> Event {
    let Kept { key, digest, bytes, examples, .. } = kept(round);
    Event::Trained { key, digest, bytes, examples }
}

pub(crate) fn work_failed(key: Digest) -> Event {
    Event::WorkFailed { key, reason: "no".into() }
}

pub(crate) fn connect(call: Call) -> Effect {
    Effect::Connect { call }
}

pub(crate) fn poll(call: Call) -> Effect {
    Effect::Poll { call }
}

pub(crate) fn fetch(call: Call, lease: Lease, round: u32) -> Effect {
    Effect::Fetch { call, lease, key: key(round) }
}

pub(crate) fn train(round: u32) -> Effect {
    Effect::Train { run: name("r"), round, key: key(round) }
}

pub(crate) fn evaluate(round: u32) -> Effect {
    Effect::Evaluate { run: name("r"), round, key: candidate_key(round) }
}

pub(crate) fn tell(call: Call, lease: Lease, percent: u32) -> Effect {
    Effect::TellProgress { call, lease, percent }
}

/// With all of the round's 60 s left.
pub(crate) fn submit(call: Call, lease: Lease, round: u32, resume: bool) -> Effect {
    Effect::Submit { call, lease, update: kept(round), resume, limit_ms: 90_000 }
}

pub(crate) fn decline(call: Call, lease: Lease) -> Effect {
    Effect::Decline { call, lease, reason: "no".into() }
}

pub(crate) fn leave(call: Call) -> Effect {
    Effect::Leave { call }
}

pub(crate) fn cancel(key: Digest) -> Effect {
    Effect::Cancel { key }
}

pub(crate) fn forget(round: u32) -> Effect {
    Effect::Forget { key: key(round) }
}

pub(crate) fn exit() -> Effect {
    Effect::Exit(Ending::Stopped)
}

pub(crate) fn fatal() -> Effect {
    Effect::Exit(Ending::Fatal { reason: "no".into() })
}
