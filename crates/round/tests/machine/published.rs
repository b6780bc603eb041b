use round::{Committed, Effect, Event, Machine, Outcome, Plan};

use crate::support::*;

#[test]
fn commits_and_opens_the_next_round_at_once() {
    let mut run = Run::aggregated(plan());
    let _ = run.take(left("c", 3));
    assert_eq!(
        run.take(Event::Published { round: 1, better: true }),
        [open(2, 1, &["a", "b"], 30), Effect::Persist]
    );
    let committed = run.machine.committed();
    assert_eq!((committed.round, committed.base), (1, digest("version 1")));
    assert_eq!(run.machine.round(), 2);
    assert_eq!(run.machine.assignment(&name("a")).unwrap().model, digest("version 1"));
}

#[test]
fn of_the_last_round_completes_the_run() {
    let mut run = Run::aggregated(Plan { rounds: 1, ..plan() });
    assert_eq!(run.take(Event::Published { round: 1, better: true }), end(Outcome::Completed));
    assert_eq!((run.members().as_str(), run.machine.committed().round), ("", 1));
}

#[test]
fn of_another_round_or_phase_is_ignored() {
    let mut run = Run::aggregated(plan());
    run.ignores(Event::Published { round: 0, better: true });
    run.ignores(Event::Published { round: 2, better: true });
    Run::aggregating(plan()).ignores(Event::Published { round: 1, better: true });
}

#[test]
fn a_restart_after_the_last_round_completes_or_goes_on() {
    let from = Committed { round: 2, ..start() };
    let mut machine = Machine::new(plan(), from, LEASE_BASE, 0);
    assert_eq!(machine.next_deadline(), Some(0));
    let mut other = machine.clone();
    assert_eq!(machine.step(0, Event::Tick), end(Outcome::Completed));
    assert_eq!(other.step(0, Event::AddRounds { count: 1 }), [Effect::Persist]);
    assert_eq!(other.round(), 3);
}

#[test]
fn the_last_round_that_can_be_counted_ends_a_run() {
    let from = Committed { round: u32::MAX, ..start() };
    let mut machine = Machine::new(Plan { rounds: u32::MAX, ..plan() }, from, u64::MAX, u64::MAX);
    let effects = machine.step(0, Event::AddRounds { count: 9 });
    assert_eq!(effects, [&[Effect::Persist][..], &end(Outcome::Completed)].concat());
    assert_eq!(machine.round(), u32::MAX);
}

#[test]
fn starts_the_count_of_attempts_anew() {
    let mut run = Run::training(Plan { cohort_min: 3, ..plan() });
    let _ = run.take(left("c", 3));
    assert_eq!(run.take(join("c", 4)), [ready("c"), open(1, 2, &["a", "b", "c"], 60), Effect::Persist]);
    for worker in ["a", "b", "c"] {
        let lease = run.lease(worker).unwrap();
        let _ = run.take(update(worker, lease, worker, 1));
    }
    let _ = run.take(aggregated(1));
    assert_eq!(
        run.take(Event::Published { round: 1, better: true }),
        [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]
    );
}

/// Five rounds, and two in a row that are not better are enough.
fn patient() -> Run {
    Run::training(Plan { rounds: 5, patience: Some(2), ..plan() })
}

fn early(unimproved: u32) -> [Effect; 2] {
    end(Outcome::StoppedEarly { unimproved })
}

#[test]
fn ends_a_run_whose_patience_is_over() {
    let mut run = patient();
    assert_eq!(run.commit(false), [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]);
    assert_eq!(run.commit(false), early(2));
    assert_eq!((run.machine.committed().round, run.machine.next_deadline()), (2, None));
}

#[test]
fn a_better_version_renews_the_patience() {
    let mut run = patient();
    let _ = run.commit(false);
    assert_eq!(run.commit(true), [open(3, 1, &["a", "b", "c"], 60), Effect::Persist]);
    assert_eq!(run.commit(false), [open(4, 1, &["a", "b", "c"], 60), Effect::Persist]);
    assert_eq!(run.commit(false), early(2));
}

#[test]
fn failed_attempts_do_not_cost_patience() {
    let mut run = patient();
    let _ = run.commit(false);
    let _ = run.take(left("b", 2));
    let failed = [lost("c", 2, "it left"), Effect::Discard { round: 2 }, attempt_failed(2, 1, 0, 2)];
    assert_eq!(run.take(left("c", 3)), failed);
    assert_eq!(run.take(join("b", 12)), [ready("b"), open(2, 2, &["a", "b"], 30), Effect::Persist]);
    assert_eq!(run.commit(false), early(2));
}

#[test]
fn without_patience_no_round_is_ever_too_many() {
    let mut run = Run::training(Plan { rounds: 5, ..plan() });
    for round in 2..=5 {
        assert_eq!(run.commit(false), [open(round, 1, &["a", "b", "c"], 60), Effect::Persist]);
    }
    assert_eq!(run.commit(false), end(Outcome::Completed));
}

#[test]
fn of_the_last_round_completes_a_run_whatever_its_patience() {
    let mut run = Run::training(Plan { rounds: 2, patience: Some(2), ..plan() });
    let _ = run.commit(false);
    assert_eq!(run.commit(false), end(Outcome::Completed));
}

#[test]
fn a_stop_that_was_asked_for_is_the_outcome() {
    let mut run = Run::aggregated(Plan { patience: Some(1), ..plan() });
    let _ = run.take(stop("enough"));
    assert_eq!(run.take(no_better(1)), end_stopped("enough"));
}

#[test]
fn rounds_that_are_added_after_it_have_the_whole_patience() {
    let mut run = patient();
    let _ = run.commit(false);
    assert_eq!(run.commit(false), early(2));
    let added = [Effect::Persist, open(3, 1, &["a", "b", "c"], 60), Effect::Persist];
    assert_eq!(run.take(Event::AddRounds { count: 5 }), added);
    assert_eq!(run.commit(false), [open(4, 1, &["a", "b", "c"], 60), Effect::Persist]);
    assert_eq!(run.commit(false), early(2));
}

#[test]
fn rounds_that_are_added_before_it_do_not_renew_the_patience() {
    let mut run = patient();
    let _ = run.commit(false);
    assert_eq!(run.take(Event::AddRounds { count: 5 }), [Effect::Persist]);
    assert_eq!(run.commit(false), early(2));
}
