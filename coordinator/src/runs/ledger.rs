use std::collections::BTreeMap;

use journal::entry::Aside;
use model::Measured;
use params::{Digest, Name};
use round::{Effect, Event, Millis};
use serde::{Deserialize, Serialize};

use crate::store::BlobRecord;

/// What belongs to the open round and the machine does not look at: measurements, and the names of the
/// candidate's blobs. It follows from the journal like the machine does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ledger {
    /// Who was picked, sorted.
    pub(crate) cohort: Vec<Name>,
    /// The machine's time when the round was opened.
    pub(crate) started: Millis,
    /// Train loss and weight of each update that is in. Sorted, so that the mean has the same bits whatever the
    /// order of arrival.
    losses: BTreeMap<Name, (f64, u64)>,
    evaluations: BTreeMap<Name, Measured>,
    /// Measured by the coordinator.
    central: Option<Measured>,
    /// The version that is being evaluated or published.
    pub(crate) candidate: Option<Candidate>,
}

/// The blobs of a version that is not published yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) weights: BlobRecord,
    /// The server optimizer's state with it; `None`: it has none.
    pub(crate) optimizer: Option<BlobRecord>,
}

impl Ledger {
    /// Takes in an event that the machine is about to take.
    pub(super) fn before(&mut self, event: &Event, aside: &Aside) {
        match (event, aside) {
            (Event::Aggregated { candidate, .. }, Aside::Candidate { weights_bytes, optimizer }) => {
                let blob = |digest: &Digest, bytes| BlobRecord { digest: digest.to_string(), bytes };
                self.candidate = Some(Candidate {
                    weights: blob(candidate, *weights_bytes),
                    optimizer: optimizer.as_ref().map(|(digest, bytes)| blob(digest, *bytes)),
                });
            }
            (Event::EvaluatedCentrally { .. }, Aside::Measured { loss, correct, examples }) => {
                self.central = Some(Measured { loss: *loss, correct: *correct, examples: *examples });
            }
            _ => {}
        }
    }

    /// Takes in what the machine made of it.
    pub(super) fn after(&mut self, now: Millis, effects: &[Effect], aside: &Aside) {
        for effect in effects {
            match (effect, aside) {
                (Effect::OpenRound { cohort, .. }, _) => {
                    // The same round may be opened again after a restart: its updates come again.
                    let started = if self.cohort.is_empty() { now } else { self.started };
                    *self = Self { cohort: cohort.clone(), started, ..Self::default() };
                }
                (Effect::Fold { worker, .. }, Aside::Trained { train_loss, examples }) => {
                    self.losses.insert(worker.clone(), (*train_loss, *examples));
                }
                (Effect::KeepEvaluation { worker, .. }, Aside::Measured { loss, correct, examples }) => {
                    let measured = Measured { loss: *loss, correct: *correct, examples: *examples };
                    self.evaluations.insert(worker.clone(), measured);
                }
                (Effect::Discard { .. }, _) => *self = Self::default(),
                _ => {}
            }
        }
    }

    /// The round is committed.
    pub(super) fn committed(&mut self) {
        *self = Self::default();
    }

    /// Updates that are in.
    pub(super) fn updates(&self) -> u32 {
        u32::try_from(self.losses.len()).unwrap_or(u32::MAX)
    }

    /// Training examples behind them.
    pub(super) fn examples(&self) -> u64 {
        self.losses.values().map(|(_, examples)| examples).sum()
    }

    /// The example-weighted mean of the train losses.
    pub(super) fn train_loss(&self) -> Option<f64> {
        weighted_mean(self.losses.values().copied())
    }

    /// What was measured: by the coordinator, or the example-weighted metrics of the workers.
    pub(super) fn measured(&self) -> Option<Measured> {
        if self.central.is_some() {
            return self.central;
        }
        let all = || self.evaluations.values();
        let loss = weighted_mean(all().map(|m| (m.loss, m.examples)))?;
        let sum = |of: fn(&Measured) -> u64| all().map(of).fold(0u64, u64::saturating_add);
        Some(Measured { loss, correct: sum(|m| m.correct), examples: sum(|m| m.examples) })
    }

    /// As a snapshot has it. Floats go as bits: the same figures come back.
    pub(super) fn save(&self) -> Vec<u8> {
        let bits = |m: &Measured| (m.loss.to_bits(), m.correct, m.examples);
        let stored = Stored {
            cohort: self.cohort.iter().map(ToString::to_string).collect(),
            started: self.started,
            losses: self.losses.iter().map(|(n, (loss, w))| (n.to_string(), (loss.to_bits(), *w))).collect(),
            evaluations: self.evaluations.iter().map(|(name, m)| (name.to_string(), bits(m))).collect(),
            central: self.central.as_ref().map(bits),
            candidate: self.candidate.clone(),
        };
        // A map with text for keys can be written.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads what [`Ledger::save`] wrote; nothing where there is nothing.
    pub(super) fn restore(bytes: &[u8]) -> Self {
        let Ok(stored) = serde_json::from_slice::<Stored>(bytes) else { return Self::default() };
        let name = |text: &String| text.parse::<Name>().ok();
        let measured = |(loss, correct, examples): (u64, u64, u64)| Measured {
            loss: f64::from_bits(loss),
            correct,
            examples,
        };
        Self {
            cohort: stored.cohort.iter().filter_map(name).collect(),
            started: stored.started,
            losses: stored
                .losses
                .iter()
                .filter_map(|(text, (loss, weight))| Some((name(text)?, (f64::from_bits(*loss), *weight))))
                .collect(),
            evaluations: stored
                .evaluations
                .iter()
                .filter_map(|(text, m)| Some((name(text)?, measured(*m))))
                .collect(),
            central: stored.central.map(measured),
            candidate: stored.candidate,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    cohort: Vec<String>,
    started: Millis,
    losses: BTreeMap<String, (u64, u64)>,
    evaluations: BTreeMap<String, (u64, u64, u64)>,
    central: Option<(u64, u64, u64)>,
    candidate: Option<Candidate>,
}

/// The mean of values with weights; `None` for no weight at all.
fn weighted_mean(values: impl Iterator<Item = (f64, u64)>) -> Option<f64> {
    let (sum, weight) = values.fold((0.0, 0.0), |(s, w), (value, n)| (s + value * n as f64, w + n as f64));
    (weight > 0.0).then(|| sum / weight).filter(|mean| mean.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn fold(worker: &str) -> Effect {
        Effect::Fold { worker: name(worker), lease: 1, digest: Digest::of(b"u"), examples: 1 }
    }

    #[test]
    fn means_are_weighted_and_have_the_same_bits_in_any_order() {
        let updates = [("a", 0.1, 1), ("b", 0.7, 3), ("c", 0.3, 5)];
        let play = |order: [usize; 3]| {
            let mut ledger = Ledger::default();
            let cohort = vec![name("a"), name("b"), name("c")];
            let open = Effect::OpenRound { round: 1, attempt: 1, cohort, examples_max: 9 };
            ledger.after(7, &[open], &Aside::None);
            for at in order {
                let (worker, train_loss, examples) = updates[at];
                ledger.after(8, &[fold(worker)], &Aside::Trained { train_loss, examples });
            }
            ledger
        };
        let ledger = play([0, 1, 2]);
        assert_eq!(ledger.train_loss(), Some((0.1 + 0.7 * 3.0 + 0.3 * 5.0) / 9.0));
        assert_eq!((ledger.updates(), ledger.examples(), ledger.started), (3, 9, 7));
        assert_eq!(play([2, 0, 1]), ledger);
        assert_eq!(Ledger::restore(&ledger.save()), ledger);
    }

    #[test]
    fn a_round_that_is_opened_again_asks_for_its_updates_again() {
        let mut ledger = Ledger::default();
        let open = || Effect::OpenRound { round: 1, attempt: 1, cohort: vec![name("a")], examples_max: 9 };
        ledger.after(7, &[open()], &Aside::None);
        ledger.after(8, &[fold("a")], &Aside::Trained { train_loss: 0.5, examples: 1 });
        ledger.after(9, &[open()], &Aside::None);
        assert_eq!((ledger.updates(), ledger.started), (0, 7));
        ledger.after(9, &[Effect::Discard { round: 1 }], &Aside::None);
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn metrics_come_from_the_coordinator_or_from_all_workers() {
        let mut ledger = Ledger::default();
        let keep = |worker: &str| Effect::KeepEvaluation { worker: name(worker), lease: 1 };
        let measured = |loss, correct, examples| Aside::Measured { loss, correct, examples };
        ledger.after(1, &[keep("a")], &measured(1.0, 1, 2));
        ledger.after(1, &[keep("b")], &measured(2.0, 5, 6));
        assert_eq!(ledger.measured(), Some(Measured { loss: 1.75, correct: 6, examples: 8 }));
        ledger.before(&Event::EvaluatedCentrally { round: 1 }, &measured(0.5, 9, 10));
        assert_eq!(ledger.measured(), Some(Measured { loss: 0.5, correct: 9, examples: 10 }));
        let aside = Aside::Candidate { weights_bytes: 4, optimizer: Some((Digest::of(b"o"), 2)) };
        ledger.before(&Event::Aggregated { round: 1, candidate: Digest::of(b"w") }, &aside);
        assert_eq!(ledger.candidate.as_ref().unwrap().weights.bytes, 4);
        assert_eq!(Ledger::restore(&ledger.save()), ledger);
        assert_eq!(Ledger::restore(b""), Ledger::default());
    }
}
