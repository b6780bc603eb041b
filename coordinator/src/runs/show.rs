//! What the rest of the world sees of a run: its board, its view, and the manifest of a round.

use std::{collections::BTreeMap, sync::Arc};

use job::Task;
use params::Name;
use round::{MemberState, Phase};

use super::{
    driver::{Driver, SHOW_MS},
    view::View,
};
use crate::{
    registry::{Architecture, File, Lineage, Manifest, Signature, WEIGHTS},
    store::BlobRecord,
};

impl Driver {
    /// The manifest of the candidate; the registry gives it its number.
    pub(super) fn manifest(&self, round: u32, weights: &BlobRecord) -> Manifest {
        let (context, ledger) = (&self.context, &self.replay.ledger);
        let mut metrics = BTreeMap::new();
        if let Some(loss) = ledger.train_loss() {
            metrics.insert("train_loss".to_owned(), loss);
        }
        if let Some(test) = ledger.measured() {
            metrics.insert("test_loss".to_owned(), test.loss);
            metrics.insert("test_accuracy".to_owned(), test.correct as f64 / test.examples.max(1) as f64);
        }
        let (bytes_up, bytes_down) = self.traffic.take();
        let elapsed = self.now().saturating_sub(ledger.started);
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
                cohort: ledger.cohort.iter().map(ToString::to_string).collect(),
                updates: ledger.updates(),
                examples: ledger.examples(),
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

    /// Posts what each worker should be doing now, and wakes whom it concerns.
    pub(super) fn post(&mut self) {
        let touched = self.replay.machine.take_touched();
        let ended = matches!(self.replay.machine.phase(), Phase::Ended(_));
        // Nobody fetches from a run that has ended, and its bytes are in the registry.
        let model = (!ended).then_some(&self.model);
        let names = self.board.update(&self.replay.machine, touched, model);
        if !names.is_empty() {
            self.shared.workers.wake(&names);
        }
    }

    /// Shows the present state to whoever looks, `now` or when it is due.
    pub(super) fn show(&mut self, now: bool) {
        let clock = self.shared.clock.now_ms();
        if self.stale && (now || clock >= self.shown_ms + SHOW_MS || self.shown_ms == 0) {
            self.view.send_replace(Arc::new(self.view()));
            self.shown_ms = clock;
            self.stale = false;
        }
    }

    /// The view of the run as it is now.
    fn view(&self) -> View {
        let machine = &self.replay.machine;
        let (mut state, mut cause) = describe(machine.phase(), &self.record.cause);
        if let Some(waiting) = machine.waiting_for() {
            cause = waiting;
        }
        if machine.is_held() {
            state = "paused";
        }
        let standing = |name: &Name| {
            let known = machine.standing(name)?;
            let text = match (known.excluded, known.member) {
                (Some(reason), _) => format!("left out: {reason}"),
                (None, Some(member)) => describe_member(&member),
                (None, None) if known.drained => "drained".to_owned(),
                (None, None) => "waiting".to_owned(),
            };
            known.present.then(|| (name.clone(), text))
        };
        View {
            context: self.context.clone(),
            state,
            cause,
            ended: matches!(machine.phase(), Phase::Ended(_)),
            round: machine.round(),
            planned: machine.plan().rounds,
            rounds: self.rounds.clone(),
            members: machine.members(),
            standings: machine.workers().filter_map(standing).collect(),
            events: self.replay.events.clone(),
        }
    }
}

/// How far a worker is, for people.
pub(crate) fn describe_member(state: &MemberState) -> String {
    match state {
        MemberState::Working { percent } => format!("working {percent} %"),
        MemberState::Done => "sent".to_owned(),
        MemberState::Lost => "lost".to_owned(),
    }
}

/// A phase as one word, and the cause of an end.
fn describe(phase: &Phase, cause: &str) -> (&'static str, String) {
    use round::Outcome::{Completed, Failed, Stopped, StoppedEarly};
    let word = match phase {
        Phase::Gathering => "gathering",
        Phase::Training => "training",
        Phase::Aggregating => "aggregating",
        Phase::Evaluating => "evaluating",
        Phase::Publishing => "publishing",
        Phase::Ended(Completed | StoppedEarly { .. }) => return ("completed", cause.to_owned()),
        Phase::Ended(Failed { .. }) => return ("failed", cause.to_owned()),
        Phase::Ended(Stopped { .. }) => return ("stopped", cause.to_owned()),
    };
    (word, String::new())
}
