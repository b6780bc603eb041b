use round::{Effect, Event, Standing};

use crate::support::*;

#[test]
fn finishes_what_it_has_and_is_in_no_later_cohort() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(drain("a", true)), [drained("a", true), Effect::Persist]);
    assert_eq!(run.lease("a"), Some(100));
    assert_eq!(run.take(update("a", 100, "a", 1)), folded("a", 100, "a", 1));
    assert_eq!(run.commit(true), [open(2, 1, &["b", "c"], 50), Effect::Persist]);
    let standing = Standing { present: true, excluded: None, drained: true, revoked: false, member: None };
    assert_eq!(run.machine.standing(&name("a")), Some(standing));
}

#[test]
fn is_not_in_the_next_attempt_either() {
    let mut run = Run::training(plan());
    let _ = run.take(drain("a", true));
    let _ = run.take(left("b", 2));
    let _ = run.take(join("b", 5));
    let effects = run.take(decline("a", 100, "no"));
    assert_eq!(effects, [lost("a", 1, "no"), excluded("a", "no")]);
    let mut run = Run::training(plan());
    let _ = run.take(drain("a", true));
    run.keep_alive(&[("a", 1), ("b", 2), ("c", 3)], 60_000);
    assert_eq!(run.at(60_000, Event::Tick).iter().nth_back(1), Some(&open(1, 2, &["b", "c"], 50)));
}

#[test]
fn another_process_of_it_finishes_the_open_round_too() {
    let mut run = Run::training(plan());
    let _ = run.take(drain("a", true));
    assert_eq!(run.take(left("a", 1)), [lost("a", 1, "it left")]);
    // Nobody is told that it is ready: it is not, for anything new.
    assert_eq!(run.take(join("a", 9)), []);
    assert_eq!(run.lease("a"), Some(103));
    assert_eq!(run.take(update("a", 103, "a", 1)), folded("a", 103, "a", 1));
}

#[test]
fn is_used_again_when_it_is_allowed() {
    let mut run = Run::training(plan());
    let _ = run.take(drain("a", true));
    assert_eq!(run.commit(true), [open(2, 1, &["b", "c"], 50), Effect::Persist]);
    assert_eq!(run.take(drain("a", false)), [drained("a", false), Effect::Persist]);
    // Not in the open round: its cohort was picked.
    assert_eq!(run.lease("a"), None);
    let _ = run.take(Event::AddRounds { count: 1 });
    assert_eq!(run.commit(true), [open(3, 1, &["a", "b", "c"], 60), Effect::Persist]);
}

#[test]
fn may_be_what_the_run_waits_for() {
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    assert_eq!(run.take(drain("a", true)), [drained("a", true), Effect::Persist]);
    let _ = run.take(join("b", 2));
    assert_eq!(run.machine.waiting_for().unwrap(), "1 of at least 2 workers, for at most 30 s more");
    assert_eq!(run.take(join("c", 3)), [ready("c")]);
    assert_eq!(
        run.take(drain("a", false)),
        [drained("a", false), Effect::Persist, open(1, 1, &["a", "b", "c"], 60), Effect::Persist]
    );
}

#[test]
fn a_run_without_others_fails_after_its_wait() {
    let mut run = Run::training(plan());
    for worker in ["a", "b"] {
        let _ = run.take(drain(worker, true));
    }
    assert_eq!(run.commit(true), []);
    run.keep_alive(&[("a", 1), ("b", 2), ("c", 3)], 30_000);
    assert_eq!(run.at(30_000, Event::Tick), end_failed("1 of at least 2 workers after waiting 30 s"));
}

#[test]
fn before_it_ever_came_it_is_remembered() {
    let mut run = Run::new(plan());
    assert_eq!(run.take(drain("a", true)), [drained("a", true), Effect::Persist]);
    let standing = Standing { present: false, excluded: None, drained: true, revoked: false, member: None };
    assert_eq!(run.machine.standing(&name("a")), Some(standing));
    assert_eq!(run.take(join("a", 1)), []);
    let _ = run.take(join("b", 2));
    assert_eq!(run.machine.waiting_for().unwrap(), "1 of at least 2 workers, for at most 30 s more");
}

#[test]
fn twice_is_once() {
    let mut run = Run::training(plan());
    let before = run.machine.save();
    // The first answer may still wait for the journal, and so must the next.
    assert_eq!(run.take(drain("a", false)), [Effect::Persist]);
    assert_eq!(run.take(drain("stranger", false)), [Effect::Persist]);
    assert_eq!(run.machine.save(), before);
    let _ = run.take(drain("a", true));
    let before = run.machine.save();
    assert_eq!(run.take(drain("a", true)), [Effect::Persist]);
    assert_eq!(run.machine.save(), before);
}

#[test]
fn stays_drained_when_rounds_are_added_to_an_ended_run() {
    let mut run = Run::training(plan());
    let _ = run.take(drain("a", true));
    let _ = run.take(stop("enough"));
    let effects = run.take(Event::AddRounds { count: 1 });
    assert_eq!(effects, [Effect::Persist, open(1, 1, &["b", "c"], 50), Effect::Persist]);
}
