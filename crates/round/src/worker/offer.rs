use super::{
    Call, Effect, Machine,
    link::Link,
    machine::{Job, Stage},
};
use crate::Millis;

/// An upload may take this long beyond the deadline of its round: the coordinator answers then.
pub const UPLOAD_GRACE_MS: Millis = 30_000;

/// The first protocol in which an upload can go on where an earlier one ended.
const RESUME_PROTOCOL: u32 = 2;

impl Machine {
    /// The offer of the kept update for the open work.
    pub(super) fn offer(&mut self, call: Call) -> Option<Effect> {
        let Stage::Working(open) = &self.stage else { return None };
        let (update, before) = self.updates.offer(open.work.key)?;
        // Nothing of an update that was never offered can be there: the question would cost a round trip.
        let resume = before && matches!(self.link, Link::Up { protocol: RESUME_PROTOCOL.., .. });
        let limit_ms = open.deadline.saturating_sub(self.now).saturating_add(UPLOAD_GRACE_MS);
        Some(Effect::Submit { call, lease: open.work.lease, update, resume, limit_ms })
    }

    /// The coordinator has the update. It is kept: a coordinator that is restarted may ask again.
    pub(super) fn submitted(&mut self) {
        let Stage::Working(open) = &self.stage else { return };
        let before = self.sent.replace(open.work.lease);
        if before == self.sent {
            // It has it and wants it: do not hurry.
            self.rest(0);
        } else {
            self.backoff.reset();
            self.stage = Stage::Resting { until: self.now };
        }
    }

    /// The kept update cannot be read: the work starts from the beginning.
    pub(super) fn update_lost(&mut self, out: &mut Vec<Effect>) {
        if let Stage::Working(open) = &self.stage {
            self.updates.forget(open.work.key, out);
        }
    }

    /// The work, or its result, is refused for good: it is handed back next.
    pub(super) fn impossible(&mut self, reason: String, out: &mut Vec<Effect>) {
        let Stage::Working(open) = &self.stage else { return };
        let key = open.work.key;
        self.updates.forget(key, out);
        self.job = Job::Failed { key, reason };
    }

    /// The work was handed back, or there is nothing left to hand back.
    pub(super) fn handed_back(&mut self) {
        self.job = Job::None;
        self.rest(0);
    }
}
