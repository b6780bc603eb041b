use super::{Call, Effect, Ending, Machine, calls::Kind, machine::Stage};
use crate::{Millis, Session};

/// The connection to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The process has not started to work.
    New,
    /// There is none; it is tried (again) at this time.
    Down {
        until: Millis,
    },
    Up {
        session: Session,
        lease_ms: Millis,
        protocol: u32,
    },
    /// The process has ended.
    Ended,
}

impl Machine {
    pub(super) fn started(&mut self, out: &mut Vec<Effect>) {
        if self.link == Link::New {
            self.updates.trim(out);
            self.link = Link::Down { until: self.now };
        }
    }

    pub(super) fn connected(&mut self, call: Call, session: Session, lease_ms: Millis, protocol: u32) {
        if self.answered(call, |kind| kind == Kind::Connect).is_some() {
            self.link = Link::Up { session, lease_ms, protocol };
            self.stage = Stage::Resting { until: self.now };
        }
    }

    /// The connection or the session is over: another one follows after a while. What is being computed
    /// goes on.
    pub(super) fn lose_link(&mut self, at_least: Millis) {
        let wait = self.backoff.next(at_least);
        self.link = Link::Down { until: self.now.saturating_add(wait) };
        self.stage = Stage::Resting { until: self.now };
    }

    /// The coordinator is asked for work after a while. What is being computed goes on.
    pub(super) fn rest(&mut self, at_least: Millis) {
        let wait = self.backoff.next(at_least);
        self.stage = Stage::Resting { until: self.now.saturating_add(wait) };
    }

    /// The coordinator and this worker do not accept each other.
    pub(super) fn refused(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.end(Ending::Fatal { reason }, out);
    }

    pub(super) fn end(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        self.cancel(out);
        self.under_way = None;
        self.link = Link::Ended;
        out.push(Effect::Exit(ending));
    }
}
