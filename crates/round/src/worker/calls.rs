//! Which call comes next is a function of the state: nothing has to be remembered to be done later.

use super::{
    Call, Effect, Failure, Machine,
    link::Link,
    machine::{Job, Open, PROGRESS_EVERY_MS, Stage},
};
use crate::{Millis, WorkKind};

/// The call that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) call: Call,
    pub(super) kind: Kind,
    pub(super) since: Millis,
}

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Poll,
    Fetch,
    TellProgress,
    Submit,
    SubmitEvaluation,
    Decline,
    Leave,
}

impl Machine {
    /// The next call and when it is due; `None`: something else must happen first.
    pub(super) fn next_call(&self) -> Option<(Millis, Kind)> {
        match (&self.link, &self.stage) {
            (Link::New | Link::Ended, _) => None,
            (Link::Down { until }, _) => Some((*until, Kind::Connect)),
            (Link::Up { .. }, Stage::Resting { until }) => Some((*until, Kind::Poll)),
            (Link::Up { lease_ms, .. }, Stage::Working(open)) => self.next_of_work(open, *lease_ms),
        }
    }

    fn next_of_work(&self, open: &Open, lease_ms: Millis) -> Option<(Millis, Kind)> {
        let tell = |every: Millis| Some((open.told.saturating_add(every), Kind::TellProgress));
        // Where there are no steps to tell of, time must do.
        let alive = || tell((lease_ms / 3).max(PROGRESS_EVERY_MS));
        if open.work.kind == WorkKind::Train
            && let Some(durable) = self.updates.durability(open.work.key)
        {
            return if durable { Some((self.now, Kind::Submit)) } else { alive() };
        }
        match &self.job {
            job if !job.is_for(&open.work) => Some((self.now, Kind::Fetch)),
            // A training that hangs is not told of, and loses its lease.
            Job::Running { work, news, .. } => match work.kind {
                WorkKind::Train if *news => tell(PROGRESS_EVERY_MS),
                WorkKind::Train => None,
                WorkKind::Evaluate => alive(),
            },
            Job::Measured { .. } => Some((self.now, Kind::SubmitEvaluation)),
            Job::Failed { .. } => Some((self.now, Kind::Decline)),
            Job::None => None,
        }
    }

    /// Makes a call.
    pub(super) fn call(&mut self, kind: Kind, out: &mut Vec<Effect>) {
        let call = self.calls;
        let Some(effect) = self.effect(kind, call) else { return };
        self.calls = call.wrapping_add(1);
        self.under_way = Some(UnderWay { call, kind, since: self.now });
        if kind == Kind::TellProgress
            && let Job::Running { news, .. } = &mut self.job
        {
            *news = false;
        }
        out.push(effect);
    }

    /// The call is answered, if it is under way and of the kind that this is an answer to.
    pub(super) fn answered(&mut self, call: Call, fits: impl Fn(Kind) -> bool) -> Option<UnderWay> {
        self.under_way.take_if(|under_way| under_way.call == call && fits(under_way.kind))
    }

    /// A call without data in its answer worked.
    pub(super) fn done(&mut self, call: Call, out: &mut Vec<Effect>) {
        let fits = |kind| !matches!(kind, Kind::Connect | Kind::Poll | Kind::TellProgress);
        match self.answered(call, fits).map(|under_way| under_way.kind) {
            Some(Kind::Fetch) => self.fetched(out),
            Some(Kind::Submit) => self.submitted(),
            Some(Kind::SubmitEvaluation) => self.evaluation_submitted(),
            // Work that cannot be done here may come again at once: ask for it with care.
            Some(Kind::Decline) => self.handed_back(),
            Some(Kind::Leave) => self.left(),
            _ => {}
        }
    }

    /// A call did not work.
    pub(super) fn failed(&mut self, call: Call, failure: Failure, out: &mut Vec<Effect>) {
        let Some(UnderWay { kind, .. }) = self.answered(call, |_| true) else { return };
        let outside = matches!(kind, Kind::Connect | Kind::Poll);
        match failure {
            _ if kind == Kind::Leave => self.left(),
            Failure::Fatal { reason } => self.refused(reason, out),
            Failure::Impossible { reason } if outside => self.refused(reason, out),
            Failure::Broken => self.lose_link(0),
            Failure::Stale if outside => self.lose_link(0),
            Failure::Busy { retry_ms } if kind == Kind::Connect => self.lose_link(retry_ms),
            Failure::Busy { retry_ms } => self.rest(retry_ms),
            Failure::Lost if kind == Kind::Submit => self.update_lost(out),
            Failure::Lost if outside => self.lose_link(0),
            Failure::Impossible { .. } | Failure::Stale if kind == Kind::Decline => self.handed_back(),
            Failure::Impossible { reason } if kind != Kind::TellProgress => self.impossible(reason, out),
            Failure::Stale | Failure::Lost | Failure::Impossible { .. } => self.rest(0),
        }
    }

    fn effect(&mut self, kind: Kind, call: Call) -> Option<Effect> {
        let open = match &self.stage {
            Stage::Working(open) => Some(open),
            Stage::Resting { .. } => None,
        };
        Some(match kind {
            Kind::Connect => Effect::Connect { call },
            Kind::Poll => Effect::Poll { call },
            Kind::Leave => Effect::Leave { call },
            Kind::Fetch => Effect::Fetch { call, lease: open?.work.lease, key: open?.work.key },
            Kind::TellProgress => {
                Effect::TellProgress { call, lease: open?.work.lease, percent: self.percent() }
            }
            Kind::Submit => return self.offer(call),
            Kind::SubmitEvaluation => {
                Effect::SubmitEvaluation { call, lease: open?.work.lease, key: open?.work.key }
            }
            Kind::Decline => match &self.job {
                Job::Failed { reason, .. } => {
                    Effect::Decline { call, lease: open?.work.lease, reason: reason.clone() }
                }
                _ => return None,
            },
        })
    }
}
