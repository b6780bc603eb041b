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
