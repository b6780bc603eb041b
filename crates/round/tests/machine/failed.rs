use round::{Effect, Event, Outcome, Phase, Refusal};

use crate::support::*;

fn failure() -> Event {
    Event::Failed { reason: "disk full".into() }
}

#[test]
fn ends_the_run_and_drops_what_is_open() {
    let expected = [&[Effect::Discard { round: 1 }][..], &end_failed("disk full")].concat();
    assert_eq!(Run::training(plan()).take(failure()), expected);
    assert_eq!(Run::aggregating(plan()).take(failure()), expected);
    assert_eq!(Run::aggregated(evaluated_by(round::Evaluation::Workers)).take(failure()), expected);
    assert_eq!(Run::aggregated(plan()).take(failure()), expected);
    assert_eq!(Run::new(plan()).take(failure()), end_failed("disk full"));
}

#[test]
fn the_first_end_counts() {
    let mut run = Run::training(plan());
    let _ = run.take(stop("enough"));
    run.ignores(failure());
    run.refuses(progress("a", 100, 1), "a", 100, Refusal::Stale);
    run.refuses(decline("a", 100, "x"), "a", 100, Refusal::Stale);
    assert_eq!(run.machine.phase(), &Phase::Ended(Outcome::Stopped { cause: "enough".into() }));
}

#[test]
fn settles_a_stop_that_waited_for_the_commit() {
    let mut run = Run::aggregated(plan());
    assert_eq!(run.take(stop("enough")), [Effect::Persist]);
    assert_eq!(run.take(failure()), [&[Effect::Discard { round: 1 }][..], &end_failed("disk full")].concat());
    // The run goes on later, and that stop is not remembered.
    let _ = run.take(Event::AddRounds { count: 2 });
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
