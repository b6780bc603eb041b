//! A run retold from its journal.

use journal::entry::{Aside, Entry, Step, What};
use params::Name;
use round::{Effect, Event, Machine, Phase};

use super::replay::{Replay, ending};

/// One thing that happened to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunEvent {
    pub(crate) sequence: u64,
    pub(crate) at_ms: u64,
    pub(crate) round: u32,
    /// One word for programs.
    pub(crate) kind: &'static str,
    pub(crate) worker: String,
    pub(crate) text: String,
}

/// Replays the entries of one run, and tells each event and what followed from it.
pub(crate) fn tell(history: &[(u64, Entry)]) -> Vec<RunEvent> {
    let mut told = Vec::new();
    let mut replay: Option<Replay> = None;
    for (sequence, entry) in history {
        match &entry.what {
            Some(What::Opened { saved, .. }) => {
                let machine = Machine::restore((**saved).clone());
                let (at_ms, round) = (machine.now(), machine.round());
                let text = format!("run started, {} rounds planned", machine.plan().rounds);
                told.push(RunEvent {
                    sequence: *sequence,
                    at_ms,
                    round,
                    kind: "run-started",
                    worker: String::new(),
                    text,
                });
                replay = Some(Replay::new(machine));
            }
            Some(What::Step(step)) => tell_step(*sequence, step, replay.as_mut(), &mut told),
            _ => {}
        }
    }
    told
}

fn tell_step(sequence: u64, step: &Step, replay: Option<&mut Replay>, told: &mut Vec<RunEvent>) {
    let (kind, worker, text) = describe(step);
    let ended = replay.as_ref().is_some_and(|replay| matches!(replay.machine.phase(), Phase::Ended(_)));
    // A run that had ended knows nothing of restarts: it is opened again by what comes next.
    let quiet = matches!(kind, "clock" | "workers-silent") || (ended && kind == "coordinator-restarted");
    // A run whose beginning was lost is told without what followed.
    let round = replay.as_ref().map_or(0, |replay| replay.machine.round());
    let event = |kind, worker: Option<&Name>, text: String| RunEvent {
        sequence,
        at_ms: step.now,
        round,
        kind,
        worker: worker.map(ToString::to_string).unwrap_or_default(),
        text,
    };
    if !quiet {
        told.push(event(kind, worker, text));
    }
    let Some(replay) = replay else { return };
    for effect in replay.step(step.now, step.event.clone(), &step.aside) {
        match &effect {
            Effect::Tell(note) => told.push(event(note.kind(), note.worker(), note.to_string())),
            Effect::OpenRound { round, attempt, cohort, .. } => {
                let names: Vec<&str> = cohort.iter().map(Name::as_str).collect();
                let text = format!("round {round} opened, attempt {attempt}, cohort {}", names.join(" "));
                told.push(RunEvent { round: *round, ..event("round-opened", None, text) });
            }
            Effect::Reject { worker, refusal, .. } => {
                told.push(event("refused", Some(worker), refusal.to_string()));
            }
            Effect::End(outcome) => {
                let (state, cause) = ending(outcome);
                let separator = if cause.is_empty() { "" } else { ": " };
                told.push(event("run-ended", None, format!("{}{separator}{cause}", state.word())));
            }
            _ => {}
        }
    }
}

/// An event as a word, whom it is about, and a sentence.
fn describe(step: &Step) -> (&'static str, Option<&Name>, String) {
    match &step.event {
        Event::Tick => ("clock", None, String::new()),
        Event::WorkersSeen { .. } => ("workers-seen", None, "workers came back".to_owned()),
        Event::WorkersSilent { .. } => ("workers-silent", None, String::new()),
        Event::WorkerJoined { worker, examples, .. } => {
            let offer = examples.map_or(String::new(), |rows| format!(" with {rows} rows"));
            ("worker-joined", Some(worker), format!("{worker} joined{offer}"))
        }
        Event::WorkerLeft { worker, .. } => ("worker-left", Some(worker), format!("{worker} left")),
        Event::WorkerDrained { worker, .. } => {
            ("worker-drain-asked", Some(worker), "by an operator".to_owned())
        }
        Event::WorkerRevoked { worker } => ("worker-revoked", Some(worker), "by an operator".to_owned()),
        Event::Progress { worker, percent, .. } => {
            ("progress", Some(worker), format!("{worker} is at {percent} %"))
        }
        Event::UpdateReceived { worker, digest, examples, .. } => {
            let loss = match step.aside {
                Aside::Trained { train_loss, .. } => format!(", train loss {train_loss:.4}"),
                _ => String::new(),
            };
            let text = format!("update {} of {worker} on {examples} examples{loss}", digest.short());
            ("update-received", Some(worker), text)
        }
        Event::EvaluationReceived { worker, .. } => {
            ("evaluation-received", Some(worker), format!("metrics of {worker}"))
        }
        Event::Declined { worker, reason, .. } => ("declined", Some(worker), format!("{worker}: {reason}")),
        Event::Aggregated { round, candidate } => {
            ("aggregated", None, format!("round {round} makes version {}", candidate.short()))
        }
        Event::EvaluatedCentrally { round } => ("evaluated", None, format!("round {round} measured here")),
        Event::Published { round, better } => {
            let better = if *better { ", the best so far" } else { "" };
            ("round-committed", None, format!("round {round} committed{better}"))
        }
        Event::Failed { reason } => ("failed", None, reason.clone()),
        Event::Pause { reason } => ("pause-asked", None, reason.clone()),
        Event::Resume => ("resume-asked", None, "by an operator".to_owned()),
        Event::Stop { reason } => ("stop-asked", None, reason.clone()),
        Event::AddRounds { count } => ("rounds-added", None, format!("{count} rounds added")),
        Event::Restarted { .. } => {
            ("coordinator-restarted", None, "the coordinator was restarted".to_owned())
        }
    }
}
