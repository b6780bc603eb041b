use params::Digest;

use super::{
    Effect, Event, Kept, Work, backoff::Backoff, calls::UnderWay, link::Link, stop::Stopping,
    updates::Updates,
};
use crate::{Lease, Millis, Session, WorkKind};

/// Progress is told at most this often.
pub const PROGRESS_EVERY_MS: Millis = 250;

/// Polls that are answered with nothing start at least this far apart, however fast the answers come.
pub const POLL_GAP_MS: Millis = 200;

/// One worker process, from its start to its end.
///
/// The shell feeds it every [`Event`] with the time, executes the effects in order, and sends
/// [`Event::Tick`] no later than [`Machine::next_deadline`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The latest time seen: a clock that goes back stands still here.
    pub(super) now: Millis,
    pub(super) backoff: Backoff,
    pub(super) link: Link,
    pub(super) under_way: Option<UnderWay>,
    /// How many calls were made.
    pub(super) calls: u64,
    pub(super) stage: Stage,
    pub(super) job: Job,
    pub(super) updates: Updates,
    /// The lease that an update was last accepted under.
    pub(super) sent: Option<Lease>,
    pub(super) stop: Option<Stopping>,
}

/// What a connected worker is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It asks for work at this time.
    Resting {
        until: Millis,
    },
    Working(Open),
}

/// Work, under the lease of the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) work: Work,
    /// When the round closes.
    pub(super) deadline: Millis,
    /// When the coordinator last heard of this work.
    pub(super) told: Millis,
}

/// What the compute thread does, or did last. It outlives connections and leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    None,
    Running {
        work: Work,
        percent: u32,
        /// A batch was done since the coordinator was last told.
        news: bool,
    },
    Measured {
        key: Digest,
    },
    /// It cannot be done here; the work goes back.
    Failed {
        key: Digest,
        reason: String,
    },
}

impl Machine {
    /// A worker that has not started. `seed` should differ between processes; `kept` is what was found on
    /// disk, verified, oldest first.
    pub fn new(seed: u64, kept: Vec<Kept>) -> Self {
        Self {
            now: 0,
            backoff: Backoff::new(seed),
            link: Link::New,
            under_way: None,
            calls: 0,
            stage: Stage::Resting { until: 0 },
            job: Job::None,
            updates: Updates::found(kept),
            sent: None,
            stop: None,
        }
    }

    /// Takes one event in and returns what the shell must do, in order.
    ///
    /// `now` is in milliseconds; one earlier than a previous `now` counts as that. An answer to a call that
    /// is not under way, and a result of a job that is not running, leave no trace.
    #[must_use]
    pub fn step(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        self.take_in(event, &mut out);
        if self.stop.is_some() {
            self.advance_stop(&mut out);
        } else if self.under_way.is_none() {
            self.advance(&mut out);
        }
        out
    }

    /// When [`Event::Tick`] is due, at the latest; always after the time of the last step.
    pub fn next_deadline(&self) -> Option<Millis> {
        match (&self.stop, &self.under_way) {
            (Some(stopping), _) => self.is_running().then_some(stopping.until),
            (None, Some(_)) => None,
            (None, None) => self.next_call().map(|(at, _)| at),
        }
    }

    /// The session that calls are made in, while connected.
    pub fn session(&self) -> Option<Session> {
        match self.link {
            Link::Up { session, .. } => Some(session),
            _ => None,
        }
    }

    /// The updates that are durable, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.updates.durable()
    }

    /// Whether [`Effect::Exit`] is still to come.
    pub fn is_running(&self) -> bool {
        self.link != Link::Ended
    }

    fn take_in(&mut self, event: Event, out: &mut Vec<Effect>) {
        if self.link == Link::Ended {
            return;
        }
        match event {
            Event::Tick => {}
            Event::Start => self.started(out),
            Event::Stop => self.stopped(out),
            Event::Connected { call, session, lease_ms, protocol } => {
                self.connected(call, session, lease_ms, protocol);
            }
            Event::Polled { call, work } => self.polled(call, work, out),
            Event::Told { call, abandon } => self.told(call, abandon),
            Event::Done { call } => self.done(call, out),
            Event::Failed { call, failure } => self.failed(call, failure, out),
            Event::Progressed { key, percent } => self.progressed(key, percent),
            Event::Trained { key, digest, bytes, examples } => {
                self.trained(key, digest, bytes, examples, out);
            }
            Event::Kept { key } => self.updates.confirm(key),
            Event::Measured { key } => self.measured(key),
            Event::WorkFailed { key, reason } => self.work_failed(key, reason, out),
        }
    }

    fn advance(&mut self, out: &mut Vec<Effect>) {
        if let Some((at, kind)) = self.next_call()
            && at <= self.now
        {
            self.call(kind, out);
        }
    }
}

impl Job {
    /// Whether this is about the work.
    pub(super) fn is_for(&self, work: &Work) -> bool {
        match self {
            Self::None => false,
            Self::Running { work: running, .. } => running.key == work.key && running.kind == work.kind,
            Self::Measured { key } => *key == work.key && work.kind == WorkKind::Evaluate,
            Self::Failed { key, .. } => *key == work.key,
        }
    }
}
