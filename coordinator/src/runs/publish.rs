//! What the rest of the world sees of a run: its view, and the manifest of a round.

use std::{collections::BTreeMap, sync::Arc};

use job::Task;
use round::Phase;

use super::{attempt::Attempt, driver::Driver, view::View};
use crate::{
    registry::{Architecture, File, Lineage, Manifest, Signature, WEIGHTS},
    store::BlobRecord,
};

impl Driver {
    /// The manifest of the candidate; the registry gives it its number.
    pub(super) fn manifest(&self, round: u32, attempt: &Attempt, weights: &BlobRecord) -> Manifest {
        let context = &self.context;
        let mut metrics = BTreeMap::new();
        if let Some(loss) = attempt.train_loss() {
            metrics.insert("train_loss".to_owned(), loss);
        }
        if let Some(test) = self.measured.or_else(|| attempt.measured()) {
            metrics.insert("test_loss".to_owned(), test.loss);
            metrics.insert("test_accuracy".to_owned(), test.correct as f64 / test.examples.max(1) as f64);
        }
        let (bytes_up, bytes_down) = self.traffic.take();
        let elapsed = self.shared.clock.now_ms().saturating_sub(attempt.started_ms);
        let network = &context.network;
        Manifest {
            format: 1,
            model: self.record.model.clone(),
            version: 0,
            task: context.job.task.word().to_owned(),
            architecture: Architecture {
                arch: network.arch.clone(),
                inputs: network.inputs,
                hidden: network.hidden.clone(),
                outputs: network.outputs,
            },
            signature: match context.job.task {
                Task::Classification => {
                    Signature::classifier(context.prepared.features.clone(), context.prepared.classes.clone())
                }
                Task::Synthetic(_) => Signature::default(),
            },
            metrics,
            lineage: Lineage {
                run: context.run.to_string(),
                round,
                base: self.record.base.digest.clone(),
                job: self.record.job.digest.clone(),
                cohort: attempt.cohort.iter().map(ToString::to_string).collect(),
                updates: attempt.updates(),
                examples: attempt.examples(),
                seconds: elapsed as f64 / 1000.0,
                bytes_up,
                bytes_down,
            },
            files: BTreeMap::from([(
                WEIGHTS.to_owned(),
                File { digest: weights.digest.clone(), bytes: weights.bytes },
            )]),
            created_unix_ms: service::clock::unix_ms(),
        }
    }

    /// The view of the run as it is now.
    pub(super) fn view(&self) -> View {
        let (state, mut cause) = describe(self.machine.phase());
        if let Some(waiting) = self.machine.waiting_for() {
            cause = waiting;
        }
        let ended = matches!(self.machine.phase(), Phase::Ended(_));
        let members = self.machine.members();
        let work = members
            .iter()
            .filter_map(|m| Some((m.worker.clone(), self.machine.assignment(&m.worker)?)))
            .collect();
        View {
            context: self.context.clone(),
            state,
            cause,
            ended,
            round: self.machine.round(),
            planned: self.machine.plan().rounds,
            rounds: self.rounds.clone(),
            members,
            work,
            folded: self.folded.clone(),
            // Nobody fetches from a run that has ended, and its bytes are in the registry.
            model: (!ended).then(|| self.model.clone()),
            events: self.events.clone(),
            traffic: self.traffic.clone(),
        }
    }

    /// Shows the present state to whoever looks, and wakes who waits for work.
    pub(super) fn show(&self) {
        self.view.send_replace(Arc::new(self.view()));
        self.shared.changed.send_modify(|n| *n += 1);
    }
}

/// A phase as one word, and the cause of an end.
fn describe(phase: &Phase) -> (&'static str, String) {
    use round::Outcome::{Completed, Failed, Stopped};
    let word = match phase {
        Phase::Gathering => "gathering",
        Phase::Training => "training",
        Phase::Aggregating => "aggregating",
        Phase::Evaluating => "evaluating",
        Phase::Publishing => "publishing",
        Phase::Ended(Completed) => "completed",
        Phase::Ended(Failed { cause }) => return ("failed", cause.clone()),
        Phase::Ended(Stopped { cause }) => return ("stopped", cause.clone()),
    };
    (word, String::new())
}
