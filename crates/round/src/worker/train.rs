use params::Digest;

use super::{
    Call, Effect, Kept, Machine,
    calls::Kind,
    machine::{Job, Stage},
};
use crate::WorkKind;

impl Machine {
    /// All that the work needs is on this host.
    pub(super) fn fetched(&mut self, out: &mut Vec<Effect>) {
        self.backoff.reset();
        let Stage::Working(open) = &self.stage else { return };
        let work = open.work.clone();
        let (run, round, key) = (work.run.clone(), work.round, work.key);
        out.push(match work.kind {
            WorkKind::Train => Effect::Train { run, round, key },
            WorkKind::Evaluate => Effect::Evaluate { run, round, key },
        });
        self.job = Job::Running { work, percent: 0, news: false };
    }

    pub(super) fn progressed(&mut self, key: Digest, done: u32) {
        if let Job::Running { work, percent, news } = &mut self.job
            && work.key == key
        {
            *percent = done.min(100);
            // Also when the number is the same: it says that a batch was done.
            *news = true;
        }
    }

    /// What the coordinator is told.
    pub(super) fn percent(&self) -> u32 {
        match (&self.job, &self.stage) {
            (Job::Running { percent, .. }, _) => *percent,
            // Trained, and on its way to the disk.
            _ => 100,
        }
    }

    pub(super) fn told(&mut self, call: Call, abandon: bool) {
        if self.answered(call, |kind| kind == Kind::TellProgress).is_none() {
            return;
        }
        if abandon {
            // The next poll says whether the same work is wanted under another lease.
            self.rest(0);
            return;
        }
        self.backoff.reset();
        if let Stage::Working(open) = &mut self.stage {
            open.told = self.now;
        }
    }

    pub(super) fn trained(
        &mut self,
        key: Digest,
        digest: Digest,
        bytes: u64,
        examples: u64,
        out: &mut Vec<Effect>,
    ) {
        let running = |job: &mut Job| matches!(job, Job::Running { work, .. } if work.key == key && work.kind == WorkKind::Train);
        let Some(Job::Running { work, .. }) = take_if(&mut self.job, running) else { return };
        self.updates.add(Kept { run: work.run, round: work.round, key, digest, bytes, examples }, out);
    }

    /// A training, a measurement, or the keeping of an update failed for good.
    pub(super) fn work_failed(&mut self, key: Digest, reason: String, out: &mut Vec<Effect>) {
        let running = |job: &mut Job| matches!(job, Job::Running { work, .. } if work.key == key);
        if take_if(&mut self.job, running).is_some() {
            self.job = Job::Failed { key, reason };
        } else if self.updates.durability(key) == Some(false) {
            self.updates.forget(key, out);
            if self.job == Job::None {
                self.job = Job::Failed { key, reason };
            }
        }
    }
}

pub(super) fn take_if(job: &mut Job, fits: impl Fn(&mut Job) -> bool) -> Option<Job> {
    fits(job).then(|| std::mem::replace(job, Job::None))
}
