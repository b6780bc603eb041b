use round::{Effect, Event, Note};

use crate::support::*;

const RESUMED: [Effect; 2] = [Effect::Tell(Note::Resumed), Effect::Persist];

#[test]
fn opens_the_next_round_at_once() {
    let mut run = Run::aggregated(plan());
    let _ = run.take(pause("night"));
    assert_eq!(run.take(published(1)), []);
    let expected = [&RESUMED[..], &[open(2, 1, &["a", "b", "c"], 60), Effect::Persist]].concat();
    assert_eq!(run.take(Event::Resume), expected);
    assert_eq!((run.machine.paused(), run.machine.is_held()), (None, false));
}

#[test]
fn during_the_open_round_only_takes_the_pause_back() {
    let mut run = Run::training(plan());
    let _ = run.take(pause("night"));
    assert_eq!(run.take(Event::Resume), RESUMED);
    assert_eq!((run.machine.paused(), run.members().as_str()), (None, "a:0 b:0 c:0"));
    assert_eq!(run.commit(true), [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]);
}

#[test]
fn of_a_run_that_is_not_paused_changes_nothing() {
    let mut run = Run::training(plan());
    let before = run.machine.clone();
    assert_eq!(run.take(Event::Resume), [Effect::Persist]);
    assert_eq!(run.machine, before);
}

#[test]
fn starts_the_wait_for_workers_anew() {
    let mut run = Run::new(plan());
    let _ = run.at(25_000, pause("night"));
    assert_eq!(run.at(100_000, Event::Resume), RESUMED);
    assert_eq!(run.machine.next_deadline(), Some(130_000));
    let cause = "0 of at least 2 workers after waiting 30 s";
    assert_eq!(run.at(130_000, Event::Tick), end_failed(cause));
}

#[test]
fn starts_the_wait_for_a_full_cohort_anew() {
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    let _ = run.take(join("b", 2));
    let _ = run.at(4_000, pause("night"));
    run.keep_alive(&[("a", 1), ("b", 2)], 20_000);
    assert_eq!(run.at(20_000, Event::Resume), RESUMED);
    assert_eq!(run.at(24_999, seen("a", 1)), []);
    assert_eq!(run.at(25_000, Event::Tick), [open(1, 1, &["a", "b"], 30), Effect::Persist]);
}
