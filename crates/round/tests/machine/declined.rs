use round::{Effect, Evaluation, Phase, Plan, Refusal};

use crate::support::*;

#[test]
fn leaves_the_worker_out_and_the_round_goes_on() {
    let mut run = Run::training(plan());
    assert_eq!(
        run.take(decline("a", 100, "no such column")),
        [lost("a", 1, "no such column"), excluded("a", "no such column")]
    );
    assert_eq!((run.members().as_str(), run.lease("a")), ("a:lost b:0 c:0", None));
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(update("c", 102, "c", 1));
    let _ = run.take(aggregated(1));
    let effects = run.take(round::Event::Published { round: 1, better: true });
    assert_eq!(effects, [open(2, 1, &["b", "c"], 50), Effect::Persist]);
}

#[test]
fn ends_the_run_at_once_when_too_few_are_left() {
    let mut run = Run::training(plan());
    let _ = run.take(decline("a", 100, "no such column"));
    assert_eq!(
        run.take(decline("c", 102, "line 3 is not a number")),
        [
            &[
                lost("c", 1, "line 3 is not a number"),
                excluded("c", "line 3 is not a number"),
                Effect::Discard { round: 1 },
            ][..],
            &end_failed(
                "1 of at least 2 workers can be used; left out: a: no such column, c: line 3 is not a number"
            ),
        ]
        .concat()
    );
}

#[test]
fn does_not_end_a_later_round_that_lacks_another_worker() {
    let mut run = Run::training(plan());
    let _ = run.take(decline("a", 100, "no such column"));
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(update("c", 102, "c", 1));
    let _ = run.take(aggregated(1));
    let _ = run.take(round::Event::Published { round: 1, better: true });
    let expected = [lost("c", 2, "it left"), Effect::Discard { round: 2 }, attempt_failed(2, 1, 0, 2)];
    assert_eq!(run.take(left("c", 3)), expected);
    let lacks = "1 of at least 2 workers, for at most 30 s more; left out: a: no such column";
    assert_eq!(run.machine.waiting_for().unwrap(), lacks);
}

#[test]
fn of_work_that_is_not_open_is_stale() {
    let mut run = Run::training(plan());
    run.refuses(decline("a", 101, "x"), "a", 101, Refusal::Stale);
    run.refuses(decline("stranger", 100, "x"), "stranger", 100, Refusal::Stale);
    let _ = run.take(update("a", 100, "a", 1));
    run.refuses(decline("a", 100, "x"), "a", 100, Refusal::Stale);
}

#[test]
fn of_an_evaluation_does_not_hold_the_round_up() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    let _ = run.take(metrics("a", 103));
    let _ = run.take(metrics("b", 104));
    let expected = [lost("c", 1, "no rows"), excluded("c", "no rows"), Effect::Publish { round: 1 }];
    assert_eq!(run.take(decline("c", 105, "no rows")), expected);
    assert_eq!(run.machine.phase(), &Phase::Publishing);
}

#[test]
fn quotes_foreign_reasons_within_bounds() {
    let mut run = Run::new(Plan { cohort_min: 6, cohort_max: 6, ..private() });
    for worker in ["a", "b", "c", "d", "e", "f"] {
        let _ = run.take(join(worker, 1));
    }
    let mut ends = Vec::new();
    for (lease, worker) in (100..).zip(["a", "b", "c", "d", "e", "f"]) {
        ends.extend(run.take(decline(worker, lease, &"é".repeat(1000))));
    }
    let reason = "é".repeat(200);
    assert!(ends.windows(2).any(
        |pair| pair == end_failed(&format!("5 of at least 6 workers can be used; left out: a: {reason}"))
    ));
}
