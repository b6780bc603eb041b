use journal::entry::{Aside, Item, Step};
use params::{Digest, Name};
use round::{Effect, Event, Machine, Millis, Note, Outcome, Phase, Saved};

use super::{ledger::Ledger, view::Events};
use crate::store::RunState;

/// A run as its journal makes it: the machine, what came beside its events, and what people were told. The
/// driver of a live run steps through the same functions as a restart does.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    pub(crate) machine: Machine,
    pub(crate) ledger: Ledger,
    pub(crate) events: Events,
}

impl Replay {
    /// A run that was just started.
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, ledger: Ledger::default(), events: Events::default() }
    }

    /// A run as it was opened, or as a snapshot has it.
    pub(crate) fn restore(saved: Saved, asides: &[u8]) -> Self {
        let (machine, ledger) = (Machine::restore(saved), Ledger::restore(asides));
        Self { machine, ledger, events: Events::default() }
    }

    /// As a snapshot has it.
    pub(crate) fn item(&self, run: Name) -> Item {
        Item::Run { run, saved: Box::new(self.machine.save()), asides: self.ledger.save() }
    }

    /// A step of the journal.
    pub(crate) fn take(&mut self, step: &Step) {
        // They were executed by the process that wrote the step, or are asked for again by the next `Restarted`.
        let _ = self.step(step.now, step.event.clone(), &step.aside);
    }

    /// One event; the effects are for the driver.
    #[must_use]
    pub(crate) fn step(&mut self, now: Millis, event: Event, aside: &Aside) -> Vec<Effect> {
        self.ledger.before(&event, aside);
        let ended = matches!(self.machine.phase(), Phase::Ended(_));
        let (restarted, committed) =
            (!ended && matches!(event, Event::Restarted { .. }), self.machine.committed().round);
        let effects = self.machine.step(now, event);
        if restarted {
            self.events.push("the coordinator was restarted");
        }
        if self.machine.committed().round != committed {
            self.ledger.committed();
        }
        self.ledger.after(self.machine.now(), &effects, aside);
        for effect in &effects {
            if let Effect::Tell(note) = effect
                && is_news(note)
            {
                self.events.push(&note.to_string());
            }
        }
        effects
    }

    /// How the run ended, if it did.
    pub(crate) fn ending(&self) -> Option<(RunState, String)> {
        match self.machine.phase() {
            Phase::Ended(outcome) => Some(ending(outcome)),
            _ => None,
        }
    }

    /// The blobs without which the run cannot go on.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        let optimizer =
            self.ledger.candidate.as_ref().and_then(|c| c.optimizer.as_ref()?.digest.parse().ok());
        [Some(self.machine.committed().base), self.machine.candidate(), optimizer].into_iter().flatten()
    }
}

/// Whether people who watch want to read it: a round that closed with everybody is a row of the table.
pub(crate) fn is_news(note: &Note) -> bool {
    !matches!(note, Note::RoundClosed { updates, cohort, .. } if updates == cohort)
}

/// An outcome as the record of a run has it.
pub(super) fn ending(outcome: &Outcome) -> (RunState, String) {
    // A record fits the index whatever a worker wrote into its reason.
    let short = |cause: &str| cause.chars().take(1024).collect();
    match outcome {
        Outcome::Completed => (RunState::Completed, String::new()),
        Outcome::StoppedEarly { unimproved } => {
            let rounds = if *unimproved == 1 { "the last round was" } else { "rounds in a row were" };
            let count = if *unimproved == 1 { String::new() } else { format!("{unimproved} ") };
            let cause =
                format!("stopped early: {count}{rounds} not better; alias 'best' names the best version");
            (RunState::Completed, cause)
        }
        Outcome::Failed { cause } => (RunState::Failed, short(cause)),
        Outcome::Stopped { cause } => (RunState::Stopped, short(cause)),
    }
}
