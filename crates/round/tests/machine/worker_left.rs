use round::{Effect, Plan};

use crate::support::*;

#[test]
fn loses_open_work_and_not_the_round() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(left("a", 1)), [lost("a", 1, "it left")]);
    assert_eq!((run.members().as_str(), run.lease("a")), ("a:lost b:0 c:0", None));
    assert_eq!(run.take(update("b", 101, "b", 20)), folded("b", 101, "b", 20));
    let effects = run.take(update("c", 102, "c", 30));
    assert_eq!(
        effects,
        [&folded("c", 102, "c", 30)[..], &[closed(1, 2, 3), Effect::Aggregate { round: 1 }]].concat()
    );
}

#[test]
fn closes_the_round_if_it_was_the_last_to_wait_for() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    let expected = [lost("c", 1, "it left"), closed(1, 2, 3), Effect::Aggregate { round: 1 }];
    assert_eq!(run.take(left("c", 3)), expected);
}

#[test]
fn an_update_outlives_its_worker() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    assert_eq!(run.take(left("a", 1)), []);
    assert_eq!(run.members(), "a:done b:0 c:0");
}

#[test]
fn an_older_process_does_not_count() {
    let mut run = Run::training(plan());
    let _ = run.take(join("a", 9));
    run.ignores(left("a", 1));
    run.ignores(left("stranger", 1));
}

#[test]
fn an_attempt_that_cannot_reach_the_quorum_fails_at_once() {
    let mut run = Run::training(Plan { cohort_min: 3, ..plan() });
    let _ = run.take(update("a", 100, "a", 1));
    let discard = Effect::Discard { round: 1 };
    assert_eq!(
        run.take(left("c", 3)),
        [lost("c", 1, "it left"), discard.clone(), attempt_failed(1, 1, 1, 3)]
    );
    assert_eq!((run.members().as_str(), run.lease("b")), ("", None));
    // The second attempt opens as soon as there are enough workers, and is the last.
    assert_eq!(run.take(join("c", 4)), [ready("c"), open(1, 2, &["a", "b", "c"], 60), Effect::Persist]);
    let cause = "round 1 failed in 2 attempts, the last with 0 of at least 3 updates; lost: b: it left";
    assert_eq!(
        run.take(left("b", 2)),
        [&[lost("b", 1, "it left"), discard][..], &end_failed(cause)].concat()
    );
}

#[test]
fn the_next_attempt_goes_on_with_those_who_are_left() {
    let mut run = Run::new(Plan { cohort_max: 2, ..private() });
    for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
        let _ = run.take(join(worker, session));
    }
    let expected = [
        lost("a", 1, "it left"),
        Effect::Discard { round: 1 },
        attempt_failed(1, 1, 0, 2),
        open(1, 2, &["b", "c"], 20),
        Effect::Persist,
    ];
    assert_eq!(run.take(left("a", 1)), expected);
}
