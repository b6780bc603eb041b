use params::Digest;

use super::{Machine, machine::Job, train::take_if};
use crate::WorkKind;

impl Machine {
    pub(super) fn measured(&mut self, key: Digest) {
        let running = |job: &mut Job| matches!(job, Job::Running { work, .. } if work.key == key && work.kind == WorkKind::Evaluate);
        if take_if(&mut self.job, running).is_some() {
            self.job = Job::Measured { key };
        }
    }

    /// The metrics are in. They stay with the shell until other work comes.
    pub(super) fn evaluation_submitted(&mut self) {
        self.submitted();
    }
}
