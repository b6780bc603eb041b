use round::{Effect, Event, Outcome, Phase, Plan};

use crate::support::*;

fn add(count: u32) -> Event {
    Event::AddRounds { count }
}

#[test]
fn raises_the_plan_of_a_run_in_progress() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(add(3)), [Effect::Persist]);
    assert_eq!((run.machine.plan().rounds, run.machine.phase()), (5, &Phase::Training));
    assert_eq!(run.take(add(u32::MAX)), [Effect::Persist]);
    assert_eq!(run.machine.plan().rounds, u32::MAX);
    run.ignores(add(0));
}

#[test]
fn wakes_a_completed_run() {
    let mut run = Run::aggregated(Plan { rounds: 1, ..plan() });
    assert_eq!(run.take(Event::Published { round: 1, better: true }), end(Outcome::Completed));
    run.ignores(add(0));
    assert_eq!(run.take(add(1)), [Effect::Persist, open(2, 1, &["a", "b", "c"], 60), Effect::Persist]);
}

#[test]
fn wakes_a_stopped_run_without_the_first_wait() {
    let mut run = Run::training(plan());
    let _ = run.take(stop("enough"));
    let _ = run.take(left("c", 3));
    assert_eq!(run.take(add(1)), [Effect::Persist, open(1, 1, &["a", "b"], 30), Effect::Persist]);
}

#[test]
fn gives_the_workers_of_a_failed_run_another_chance() {
    let mut run = Run::training(plan());
    let _ = run.take(decline("a", 100, "no such column"));
    let _ = run.take(decline("b", 101, "no such column"));
    assert!(matches!(run.machine.phase(), Phase::Ended(Outcome::Failed { .. })));
    // Exclusion lasts for the rest of the run, and the run had ended.
    assert_eq!(run.take(add(1)), [Effect::Persist, open(1, 1, &["a", "b", "c"], 60), Effect::Persist]);
}

#[test]
fn starts_the_wait_for_workers_anew() {
    let mut run = Run::new(plan());
    let cause = "0 of at least 2 workers after waiting 30 s";
    assert_eq!(run.at(30_000, Event::Tick), end_failed(cause));
    assert_eq!(run.at(50_000, add(1)), [Effect::Persist]);
    assert_eq!(run.machine.next_deadline(), Some(80_000));
    assert_eq!(run.at(79_999, Event::Tick), []);
    assert_eq!(run.at(80_000, Event::Tick), end_failed(cause));
}
