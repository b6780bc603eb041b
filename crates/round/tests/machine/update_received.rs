use round::{Effect, Evaluation, Event, Plan, Refusal};

use crate::support::*;

#[test]
fn is_folded_and_the_last_one_closes_the_round() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(update("c", 102, "c", 30)), folded("c", 102, "c", 30));
    assert_eq!((run.members().as_str(), run.lease("c")), ("a:0 b:0 c:done", None));
    assert_eq!(run.take(update("a", 100, "a", 1)), folded("a", 100, "a", 1));
    let effects = run.take(update("b", 101, "b", 20));
    assert_eq!(
        effects,
        [&folded("b", 101, "b", 20)[..], &[closed(1, 3, 3), Effect::Aggregate { round: 1 }]].concat()
    );
}

#[test]
fn is_folded_once() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    assert_eq!(run.take(update("a", 100, "a", 1)), acknowledged("a", 100));
    run.refuses(update("a", 100, "other", 1), "a", 100, Refusal::Duplicate);
}

#[test]
fn is_acknowledged_again_in_every_later_phase_and_the_next_round() {
    let mut run = Run::aggregating(evaluated_by(Evaluation::Workers));
    let again = update("a", 100, "a", 1);
    let known = acknowledged("a", 100);
    assert_eq!(run.take(again.clone()), known);
    let _ = run.take(aggregated(1));
    assert_eq!(run.take(again.clone()), known);
    for (worker, lease) in [("a", 103), ("b", 104), ("c", 105)] {
        let _ = run.take(metrics(worker, lease));
    }
    assert_eq!(run.take(again.clone()), known);
    assert_eq!(
        run.take(Event::Published { round: 1, better: true }),
        [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]
    );
    assert_eq!(run.take(again.clone()), known);
    run.refuses(update("a", 100, "other", 1), "a", 100, Refusal::Duplicate);
    // The end keeps what was committed and drops what was not.
    let lease = run.lease("b").unwrap();
    let _ = run.take(update("b", lease, "b2", 1));
    let _ = run.take(stop("enough"));
    assert_eq!(run.take(again), known);
    run.refuses(update("b", lease, "b2", 1), "b", lease, Refusal::Stale);
}

#[test]
fn of_two_rounds_ago_is_stale() {
    let mut run = Run::aggregated(Plan { rounds: 3, ..plan() });
    let _ = run.take(Event::Published { round: 1, better: true });
    for worker in ["a", "b", "c"] {
        let lease = run.lease(worker).unwrap();
        let _ = run.take(update(worker, lease, worker, 1));
    }
    let _ = run.take(aggregated(2));
    let _ = run.take(Event::Published { round: 2, better: true });
    run.refuses(update("a", 100, "a", 1), "a", 100, Refusal::Stale);
}

#[test]
fn under_a_foreign_or_unknown_lease_is_stale() {
    let mut run = Run::training(plan());
    run.refuses(update("a", 101, "a", 1), "a", 101, Refusal::Stale);
    run.refuses(update("a", 7, "a", 1), "a", 7, Refusal::Stale);
    run.refuses(update("stranger", 100, "a", 1), "stranger", 100, Refusal::Stale);
}

#[test]
fn must_weigh_what_the_worker_was_given() {
    let mut run = Run::training(plan());
    for claimed in [0, 11, u64::MAX] {
        run.refuses(update("a", 100, "a", claimed), "a", 100, Refusal::Weight { claimed, allowed: 10 });
    }
    assert_eq!(run.take(update("a", 100, "a", 10)), folded("a", 100, "a", 10));
}

#[test]
fn of_a_failed_attempt_is_forgotten() {
    let mut run = Run::training(Plan { cohort_min: 3, ..plan() });
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(left("c", 3));
    run.refuses(update("a", 100, "a", 1), "a", 100, Refusal::Stale);
}

#[test]
fn is_no_answer_to_an_evaluation() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    run.refuses(update("a", 103, "a", 1), "a", 103, Refusal::Stale);
}
