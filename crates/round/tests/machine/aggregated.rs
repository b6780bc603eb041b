use round::{Effect, Evaluation, Phase};

use crate::support::*;

#[test]
fn is_published_where_nobody_evaluates() {
    let mut run = Run::aggregating(plan());
    assert_eq!(run.take(aggregated(1)), [Effect::Publish { round: 1 }]);
    assert_eq!(run.machine.committed().base, digest("initial"));
}

#[test]
fn is_evaluated_by_the_coordinator() {
    let mut run = Run::aggregating(evaluated_by(Evaluation::Central));
    assert_eq!(run.take(aggregated(1)), [Effect::EvaluateCentrally { round: 1 }]);
    assert_eq!((run.members().as_str(), run.lease("a")), ("a:done b:done c:done", None));
    // No clock of the workers ends what the coordinator does.
    assert_eq!(run.at(1_000_000, round::Event::Tick), []);
    assert_eq!((run.machine.phase(), run.machine.next_deadline()), (&Phase::Evaluating, None));
}

#[test]
fn is_evaluated_by_the_workers_that_are_in_it_and_there() {
    let mut run = Run::training(evaluated_by(Evaluation::Workers));
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(left("b", 2));
    let _ = run.take(left("c", 3));
    assert_eq!(run.machine.phase(), &Phase::Aggregating);
    let _ = run.take(join("c", 4));
    assert_eq!(run.at(7_000, aggregated(1)), []);
    assert_eq!(run.members(), "a:0 b:lost c:lost");
    assert_eq!(run.machine.assignment(&name("a")).unwrap().deadline, 67_000);
}

#[test]
fn is_published_without_metrics_when_no_evaluator_is_there() {
    let mut run = Run::aggregating(evaluated_by(Evaluation::Workers));
    for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(run.take(left(worker, session)), []);
    }
    assert_eq!(run.take(aggregated(1)), [Effect::Publish { round: 1 }]);
}

#[test]
fn of_another_round_or_phase_is_ignored() {
    let mut run = Run::aggregating(plan());
    run.ignores(aggregated(0));
    run.ignores(aggregated(2));
    Run::training(plan()).ignores(aggregated(1));
    Run::aggregated(plan()).ignores(aggregated(1));
    Run::new(plan()).ignores(aggregated(1));
}
