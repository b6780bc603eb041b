//! What commands print about runs, rounds, events and versions, as JSON and as cells of tables. The names of
//! the JSON keys are a contract.

use std::collections::BTreeMap;

use params::Digest;
use proto::v1;
use serde::Serialize;

use crate::output::{self, Table};

/// A run in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Run {
    pub(super) run: String,
    pub(super) model: String,
    pub(super) state: String,
    pub(super) cause: String,
    pub(super) rounds_done: u32,
    pub(super) rounds_planned: u32,
    pub(super) started_unix_ms: u64,
}

/// A run with its rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RunWithRounds {
    pub(super) run: String,
    pub(super) model: String,
    pub(super) state: String,
    pub(super) cause: String,
    pub(super) rounds: Vec<Round>,
}

/// A finished round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Round {
    pub(super) round: u32,
    pub(super) version: u64,
    /// Hexadecimal.
    pub(super) digest: String,
    pub(super) cohort: Vec<String>,
    pub(super) updates: u32,
    pub(super) seconds: f64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) metrics: BTreeMap<String, f64>,
}

/// One thing that happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Event {
    /// Of the journal.
    pub(super) sequence: u64,
    /// Since the run was started, without the time that no coordinator ran.
    pub(super) at_ms: u64,
    /// The round in progress then; 0 before the first.
    pub(super) round: u32,
    pub(super) kind: String,
    /// Whom it is about; empty: the run.
    pub(super) worker: String,
    pub(super) text: String,
}

/// A version of a model in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Version {
    pub(super) model: String,
    pub(super) version: u64,
    /// Hexadecimal.
    pub(super) digest: String,
    pub(super) aliases: Vec<String>,
    pub(super) run: String,
    pub(super) round: u32,
    pub(super) metrics: BTreeMap<String, f64>,
    pub(super) created_unix_ms: u64,
}

impl Run {
    /// Whether nothing more happens by itself.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "stopped")
    }

    /// Whether no further round opens until an operator says so.
    pub(super) fn is_paused(&self) -> bool {
        self.state == "paused"
    }

    /// With its rounds.
    pub(super) fn with(&self, rounds: Vec<Round>) -> RunWithRounds {
        let Self { run, model, state, cause, .. } = self.clone();
        RunWithRounds { run, model, state, cause, rounds }
    }

    /// One line for people.
    pub(super) fn headline(&self) -> String {
        let Self { run, model, state, rounds_done, rounds_planned, .. } = self;
        let mut line =
            format!("run {run} (model {model}): {state}, {rounds_done} of {rounds_planned} rounds");
        if !self.cause.is_empty() {
            line = format!("{line}: {}", self.cause);
        }
        output::clean(&line)
    }
}

impl Round {
    /// A metric for people.
    pub(super) fn metric(&self, name: &str) -> String {
        metric(&self.metrics, name)
    }

    /// Updates of the cohort's workers: `2/3`.
    pub(super) fn workers(&self) -> String {
        format!("{}/{}", self.updates, self.cohort.len())
    }
}

/// The metric `name` with four decimals; empty where it was not measured.
pub(super) fn metric(metrics: &BTreeMap<String, f64>, name: &str) -> String {
    metrics.get(name).map_or(String::new(), |value| format!("{value:.4}"))
}

/// The rounds of a run as a table; `narrow` leaves out what does not fit 80 columns.
pub(super) fn rounds_table(rounds: &[Round], narrow: bool) -> Table {
    let headings =
        ["ROUND", "LOSS", "TEST LOSS", "ACCURACY", "WORKERS", "UP", "DOWN", "TIME", "VERSION", "DIGEST"];
    let shown = if narrow { 8 } else { headings.len() };
    let mut table = Table::new(&headings[..shown], &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for round in rounds {
        let cells = [
            round.round.to_string(),
            round.metric("train_loss"),
            round.metric("test_loss"),
            round.metric("test_accuracy"),
            round.workers(),
            output::bytes(round.bytes_up),
            output::bytes(round.bytes_down),
            format!("{:.1} s", round.seconds),
            round.version.to_string(),
            short(&round.digest),
        ];
        table.row(&cells[..shown]);
    }
    table
}

/// The events of a run as a table.
pub(super) fn events_table(events: &[Event]) -> Table {
    let mut table = Table::new(&["TIME", "ROUND", "EVENT", "WORKER", "TEXT"], &[0, 1]);
    for event in events {
        table.row([
            &format!("+{:.1}s", event.at_ms as f64 / 1000.0),
            &event.round.to_string(),
            &event.kind,
            &event.worker,
            &event.text,
        ]);
    }
    table
}

/// The first digits of a digest, for tables.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// A digest as hexadecimal text; empty when there is none.
pub(super) fn hex(digest: &[u8]) -> String {
    Digest::try_from(digest).map_or(String::new(), |digest| digest.to_string())
}

impl From<v1::RunSummary> for Run {
    fn from(run: v1::RunSummary) -> Self {
        let v1::RunSummary { run, model, state, cause, rounds_done, rounds_planned, started_unix_ms } = run;
        Self { run, model, state, cause, rounds_done, rounds_planned, started_unix_ms }
    }
}

impl From<v1::RoundReport> for Round {
    fn from(round: v1::RoundReport) -> Self {
        Self {
            round: round.round,
            version: round.version,
            digest: hex(&round.digest),
            cohort: round.cohort,
            updates: round.updates,
            seconds: round.seconds,
            bytes_up: round.bytes_up,
            bytes_down: round.bytes_down,
            metrics: round.metrics.into_iter().collect(),
        }
    }
}

impl From<v1::RunEvent> for Event {
    fn from(event: v1::RunEvent) -> Self {
        let v1::RunEvent { sequence, at_ms, round, kind, worker, text } = event;
        Self { sequence, at_ms, round, kind, worker, text }
    }
}

impl From<v1::VersionSummary> for Version {
    fn from(version: v1::VersionSummary) -> Self {
        Self {
            model: version.model,
            version: version.version,
            digest: hex(&version.digest),
            aliases: version.aliases,
            run: version.run,
            round: version.round,
            metrics: version.metrics.into_iter().collect(),
            created_unix_ms: version.created_unix_ms,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A round with round figures.
    pub(crate) fn report(round: u32) -> v1::RoundReport {
        v1::RoundReport {
            round,
            version: u64::from(round) + 1,
            digest: vec![0xab; 32],
            cohort: vec!["a".into(), "b".into(), "c".into()],
            updates: 2,
            seconds: 1.25,
            bytes_up: 2048,
            bytes_down: 512,
            metrics: [("train_loss".to_owned(), 0.5), ("test_accuracy".to_owned(), 0.9666)].into(),
        }
    }

    #[test]
    fn the_json_of_a_run_is_a_contract() {
        let run =
            Run { run: "iris-1".into(), model: "iris".into(), state: "completed".into(), ..Run::default() };
        let json = serde_json::to_string(&run.with(vec![report(3).into()])).unwrap();
        assert_eq!(
            json,
            format!(
                r#"{{"run":"iris-1","model":"iris","state":"completed","cause":"","rounds":[{{"round":3,"version":4,"digest":"{}","cohort":["a","b","c"],"updates":2,"seconds":1.25,"bytes_up":2048,"bytes_down":512,"metrics":{{"test_accuracy":0.9666,"train_loss":0.5}}}}]}}"#,
                "ab".repeat(32)
            )
        );
    }

    #[test]
    fn rounds_for_people() {
        let rounds = [report(3).into()];
        let lines = rounds_table(&rounds, true).lines();
        assert_eq!(
            lines,
            [
                "ROUND    LOSS  TEST LOSS  ACCURACY  WORKERS       UP   DOWN   TIME",
                "    3  0.5000               0.9666      2/3  2.0 KiB  512 B  1.2 s"
            ]
        );
        let wide = rounds_table(&rounds, false).lines();
        assert!(wide[1].ends_with("      4  abababababab"), "{}", wide[1]);
    }

    fn event(at_ms: u64, kind: &str, worker: &str, text: &str) -> Event {
        let [kind, worker, text] = [kind, worker, text].map(str::to_owned);
        v1::RunEvent { sequence: 17, at_ms, round: 3, kind, worker, text }.into()
    }

    #[test]
    fn the_json_of_an_event_is_a_contract() {
        let lost = event(12_345, "worker-lost", "b", "no progress for 10 s");
        assert_eq!(
            serde_json::to_string(&lost).unwrap(),
            r#"{"sequence":17,"at_ms":12345,"round":3,"kind":"worker-lost","worker":"b","text":"no progress for 10 s"}"#
        );
    }

    #[test]
    fn events_for_people() {
        let events = [
            event(0, "run-started", "", "20 rounds"),
            event(12_345, "worker-lost", "hospital-b", "no progress\x1b for 10 s"),
            event(3_600_000, "round-committed", "", "version 4"),
        ];
        assert_eq!(
            events_table(&events).lines(),
            [
                "    TIME  ROUND  EVENT            WORKER      TEXT",
                "   +0.0s      3  run-started                  20 rounds",
                "  +12.3s      3  worker-lost      hospital-b  no progress\u{fffd} for 10 s",
                "+3600.0s      3  round-committed              version 4",
            ]
        );
    }

    #[test]
    fn the_headline_tells_the_cause() {
        let mut run = Run { run: "r".into(), model: "m".into(), state: "failed".into(), ..Run::default() };
        assert_eq!(run.headline(), "run r (model m): failed, 0 of 0 rounds");
        run.cause = "no worker\x1b".into();
        assert_eq!(run.headline(), "run r (model m): failed, 0 of 0 rounds: no worker\u{fffd}");
        assert!(run.has_ended());
        // A run may be done before its last round.
        run.state = "completed".into();
        (run.rounds_done, run.rounds_planned) = (12, 20);
        run.cause = "stopped early: test_loss did not improve in 5 rounds".into();
        assert_eq!(
            run.headline(),
            "run r (model m): completed, 12 of 20 rounds: stopped early: test_loss did not improve in 5 rounds"
        );
        assert!(run.has_ended());
    }

    #[test]
    fn a_pause_is_not_an_end() {
        let ended = |state: &str| Run { state: state.into(), ..Run::default() }.has_ended();
        for state in ["gathering", "training", "aggregating", "evaluating", "publishing", "paused"] {
            assert!(!ended(state), "{state}");
        }
        for state in ["completed", "failed", "stopped"] {
            assert!(ended(state), "{state}");
        }
        assert!(Run { state: "paused".into(), ..Run::default() }.is_paused());
    }
}
