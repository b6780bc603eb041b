use round::{Effect, Evaluation, Event, Refusal, WorkKind};

use crate::support::*;

fn evaluating() -> Run {
    Run::aggregated(evaluated_by(Evaluation::Workers))
}

#[test]
fn is_kept_and_the_last_one_publishes() {
    let mut run = evaluating();
    let assignment = run.machine.assignment(&name("b")).unwrap();
    assert_eq!((assignment.kind, assignment.lease), (WorkKind::Evaluate, 104));
    assert_eq!((assignment.model, assignment.shard), (digest("version 1"), Some(1)));
    assert_eq!(run.take(metrics("b", 104)), kept("b", 104));
    assert_eq!(run.members(), "a:0 b:done c:0");
    assert_eq!(run.take(metrics("a", 103)), kept("a", 103));
    assert_eq!(run.take(metrics("c", 105)), [&kept("c", 105)[..], &[Effect::Publish { round: 1 }]].concat());
}

#[test]
fn is_acknowledged_again_until_the_next_round_is_committed() {
    let mut run = evaluating();
    for (worker, lease) in [("a", 103), ("b", 104), ("c", 105)] {
        let _ = run.take(metrics(worker, lease));
        assert_eq!(run.take(metrics(worker, lease)), acknowledged(worker, lease));
    }
    let _ = run.take(Event::Published { round: 1, better: true });
    assert_eq!(run.take(metrics("a", 103)), acknowledged("a", 103));
}

#[test]
fn of_training_work_is_stale() {
    let mut run = Run::training(plan());
    run.refuses(metrics("a", 100), "a", 100, Refusal::Stale);
    let mut run = evaluating();
    run.refuses(metrics("a", 100), "a", 100, Refusal::Stale);
    run.refuses(metrics("a", 104), "a", 104, Refusal::Stale);
}

#[test]
fn of_workers_that_are_gone_is_not_waited_for() {
    let mut run = evaluating();
    let _ = run.take(metrics("a", 103));
    assert_eq!(run.take(left("b", 2)), [lost("b", 1, "it left")]);
    assert_eq!(run.take(left("c", 3)), [lost("c", 1, "it left"), Effect::Publish { round: 1 }]);
}

#[test]
fn after_the_deadline_is_stale() {
    let mut run = evaluating();
    for now in (9_000..60_000).step_by(9_000) {
        for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(run.at(now, seen(worker, session)), []);
        }
    }
    let late = "it sent no metrics before the deadline";
    let effects = run.at(60_000, metrics("b", 104));
    assert_eq!(
        effects,
        [&kept("b", 104)[..], &[lost("a", 1, late), lost("c", 1, late), Effect::Publish { round: 1 }]]
            .concat()
    );
    // Not without a trace: whoever holds a lease of the round was seen.
    assert_eq!(run.take(metrics("a", 103)), [reject("a", 103, Refusal::Stale)]);
}
