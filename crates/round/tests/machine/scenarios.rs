//! Whole runs as text: each line is a time and an event, and `>` lines are the effects of it.
//!
//! After a change that is meant, `ROUND_SCENARIOS=write cargo test -p round` writes the files anew;
//! read the difference.

use std::{fs, path::Path};

use round::{DataPlan, Effect, Evaluation, Event, Machine, Millis, Outcome, Plan};

use crate::support::*;

#[test]
fn runs_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 13, "scenarios are missing in {}", folder.display());
    for file in files {
        let written = fs::read_to_string(&file).unwrap();
        let played = play(&written);
        if std::env::var_os("ROUND_SCENARIOS").is_some_and(|value| value == "write") {
            fs::write(&file, played).unwrap();
        } else {
            assert_eq!(written, played, "{}", file.display());
        }
    }
}

/// The same text, with the effects that the machine really has.
fn play(text: &str) -> String {
    let mut out = String::new();
    let mut machine = None;
    for line in text.lines().filter(|line| !line.starts_with('>')) {
        out.push_str(line);
        out.push('\n');
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["plan", settings @ ..] => {
                machine = Some(Machine::new(plan_of(settings), start(), LEASE_BASE, 0));
            }
            [now, event @ ..] => {
                let machine: &mut Machine = machine.as_mut().unwrap();
                let now: Millis = now.parse().unwrap();
                let event = event_of(event, machine);
                let effects = take(machine, now, event);
                for effect in effects {
                    out.push_str(&format!("> {}\n", show(&effect)));
                }
            }
        }
    }
    out
}

fn plan_of(settings: &[&str]) -> Plan {
    let mut plan = Plan { rounds: 1, ..plan() };
    for setting in settings {
        let (key, value) = setting.split_once('=').unwrap();
        match key {
            "rounds" => plan.rounds = value.parse().unwrap(),
            "min" => plan.cohort_min = value.parse().unwrap(),
            "max" => {
                plan.cohort_max = value.parse().unwrap();
                plan.cohort_select = plan.cohort_max;
            }
            "select" => plan.cohort_select = value.parse().unwrap(),
            "patience" => plan.patience = Some(value.parse().unwrap()),
            "attempts" => plan.attempts_max = value.parse().unwrap(),
            "data" if value == "private" => plan.data = DataPlan::Private,
            "evaluation" => {
                plan.evaluation = match value {
                    "central" => Evaluation::Central,
                    "workers" => Evaluation::Workers,
                    _ => panic!("{value}"),
                };
            }
            _ => panic!("{setting}"),
        }
    }
    plan
}

/// A lease is a number, or `-` for the one that the worker holds.
fn event_of(words: &[&str], machine: &Machine) -> Event {
    let lease = |worker: &str, text: &str| match text {
        "-" => machine.assignment(&name(worker)).unwrap().lease,
        number => number.parse().unwrap(),
    };
    let number = |text: &str| text.parse().unwrap();
    let round = machine.round();
    match *words {
        ["tick"] => Event::Tick,
        ["join", worker, session] => join(worker, number(session)),
        ["join", worker, session, examples] => join_with(worker, number(session), Some(number(examples))),
        ["seen", worker, session] => seen(worker, number(session)),
        ["left", worker, session] => left(worker, number(session)),
        ["update", worker, at, payload, examples] => {
            update(worker, lease(worker, at), payload, number(examples))
        }
        ["metrics", worker, at] => metrics(worker, lease(worker, at)),
        ["decline", worker, at, ref reason @ ..] => decline(worker, lease(worker, at), &reason.join(" ")),
        ["aggregated"] => aggregated(round),
        ["evaluated"] => Event::EvaluatedCentrally { round },
        ["published"] => Event::Published { round, better: true },
        ["published", "no", "better"] => Event::Published { round, better: false },
        ["drain", worker] => Event::WorkerDrained { worker: name(worker), drained: true },
        ["undrain", worker] => Event::WorkerDrained { worker: name(worker), drained: false },
        ["revoke", worker] => Event::WorkerRevoked { worker: name(worker) },
        ["pause", ref reason @ ..] => Event::Pause { reason: reason.join(" ") },
        ["resume"] => Event::Resume,
        ["restarted", lease_base] => Event::Restarted { lease_base: number(lease_base) },
        ["stop", ref reason @ ..] => stop(&reason.join(" ")),
        ["add", count] => Event::AddRounds { count: count.parse().unwrap() },
        _ => panic!("{words:?}"),
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::OpenRound { round, attempt, cohort, examples_max } => {
            format!(
                "open round {round}, attempt {attempt}, cohort {cohort:?}, at most {examples_max} examples"
            )
        }
        Effect::Fold { worker, lease, examples, .. } => {
            format!("fold {worker} {lease} with {examples} examples")
        }
        Effect::Persist => "persist".to_owned(),
        Effect::Acknowledge { worker, lease } => format!("acknowledge {worker} {lease}"),
        Effect::KeepEvaluation { worker, lease } => format!("keep metrics of {worker} {lease}"),
        Effect::Reject { worker, lease, refusal } => format!("reject {worker} {lease}: {refusal}"),
        Effect::Aggregate { round } => format!("aggregate round {round}"),
        Effect::EvaluateCentrally { round } => format!("evaluate round {round}"),
        Effect::Publish { round } => format!("publish round {round}"),
        Effect::Discard { round } => format!("discard round {round}"),
        Effect::Tell(note) => format!("note: {note}"),
        Effect::End(Outcome::Completed) => "end: completed".to_owned(),
        Effect::End(Outcome::StoppedEarly { unimproved }) => {
            format!("end: {unimproved} rounds in a row were not better")
        }
        Effect::End(Outcome::Failed { cause }) => format!("end: failed: {cause}"),
        Effect::End(Outcome::Stopped { cause }) => format!("end: stopped: {cause}"),
    }
}
