use super::{Effect, Ending, Machine, calls::Kind, link::Link};
use crate::Millis;

/// How long an upload, or an update on its way to the disk, holds the end of the process up.
pub const STOP_GRACE_MS: Millis = 7_000;

/// How long the answer to `Leave` does.
pub const LEAVE_MS: Millis = 2_000;

/// The process is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopping {
    /// Nothing is waited for beyond this.
    pub(super) until: Millis,
}

impl Machine {
    pub(super) fn stopped(&mut self, out: &mut Vec<Effect>) {
        if self.stop.is_some() {
            self.end(Ending::Stopped, out);
            return;
        }
        self.stop = Some(Stopping { until: self.now.saturating_add(STOP_GRACE_MS) });
        self.cancel(out);
    }

    /// Lets an upload finish, leaves, lets the disk finish, ends.
    pub(super) fn advance_stop(&mut self, out: &mut Vec<Effect>) {
        let Some(Stopping { until }) = self.stop else { return };
        if self.link == Link::Ended {
            return;
        }
        let late = self.now >= until;
        let holds = match self.under_way.as_ref().map(|under_way| under_way.kind) {
            Some(Kind::Leave) => true,
            Some(Kind::Submit | Kind::SubmitEvaluation) => {
                if late {
                    self.under_way = None;
                }
                !late
            }
            _ => false,
        };
        if !late && holds {
            return;
        }
        if matches!(self.link, Link::Up { .. }) && !holds {
            self.stop = Some(Stopping { until: until.max(self.now.saturating_add(LEAVE_MS)) });
            self.call(Kind::Leave, out);
        } else if late || !self.updates.pending() {
            self.end(Ending::Stopped, out);
        }
    }

    /// The coordinator knows that this process ends, or cannot be told.
    pub(super) fn left(&mut self) {
        self.link = Link::Down { until: self.now };
    }
}
