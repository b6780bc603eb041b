use super::{
    Call, Effect, Machine, Work,
    calls::Kind,
    machine::{Job, Open, POLL_GAP_MS, Stage},
};

impl Machine {
    pub(super) fn polled(&mut self, call: Call, work: Option<Work>, out: &mut Vec<Effect>) {
        let Some(poll) = self.answered(call, |kind| kind == Kind::Poll) else { return };
        match work {
            None => {
                // Work alone proves nothing: it may be what fails each time.
                self.backoff.reset();
                self.cancel(out);
                self.stage = Stage::Resting { until: self.now.max(poll.since.saturating_add(POLL_GAP_MS)) };
            }
            Some(work) => {
                self.updates.replaced_by(&work, out);
                if !self.job.is_for(&work) {
                    self.cancel(out);
                }
                let deadline = self.now.saturating_add(work.deadline_ms);
                self.stage = Stage::Working(Open { work, deadline, told: self.now });
            }
        }
    }

    /// What the compute thread does is not wanted.
    pub(super) fn cancel(&mut self, out: &mut Vec<Effect>) {
        if let Job::Running { work, .. } = std::mem::replace(&mut self.job, Job::None) {
            out.push(Effect::Cancel { key: work.key });
        }
    }
}
