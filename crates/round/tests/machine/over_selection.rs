//! More workers are picked than the round wants updates.

use round::{Effect, Evaluation, Event, Plan, Refusal};

use crate::support::*;

/// Three are picked, two are wanted.
fn over() -> Plan {
    Plan { cohort_max: 2, cohort_select: 3, ..plan() }
}

fn closing(run: &mut Run) -> Vec<Effect> {
    let _ = run.take(update("a", 100, "a", 1));
    run.take(update("b", 101, "b", 1))
}

fn closed_without_c() -> Vec<Effect> {
    [&folded("b", 101, "b", 1)[..], &[closed(1, 2, 3), Effect::Aggregate { round: 1 }]].concat()
}

#[test]
fn the_round_closes_at_the_most_it_wants_and_blames_nobody() {
    let mut run = Run::training(over());
    let _ = run.take(progress("c", 102, 99));
    assert_eq!(closing(&mut run), closed_without_c());
    assert_eq!((run.members().as_str(), run.lease("c")), ("a:done b:done c:lost", None));
    // It is not left out of the next one.
    let _ = run.take(aggregated(1));
    assert_eq!(run.take(published(1)), [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]);
}

#[test]
fn what_the_slow_ones_send_is_stale_ever_after() {
    let mut run = Run::training(Plan { evaluation: Evaluation::Central, ..over() });
    let _ = closing(&mut run);
    let late = |run: &mut Run| {
        run.refuses(update("c", 102, "c", 1), "c", 102, Refusal::Stale);
        run.refuses(progress("c", 102, 100), "c", 102, Refusal::Stale);
        run.refuses(decline("c", 102, "too slow"), "c", 102, Refusal::Stale);
    };
    late(&mut run);
    let _ = run.take(aggregated(1));
    late(&mut run);
    let _ = run.take(Event::EvaluatedCentrally { round: 1 });
    late(&mut run);
    let _ = run.take(published(1));
    late(&mut run);
}

#[test]
fn the_slow_ones_do_not_evaluate_and_have_nothing_to_lose() {
    let mut run = Run::training(Plan { evaluation: Evaluation::Workers, ..over() });
    let _ = closing(&mut run);
    assert_eq!(run.take(left("c", 3)), []);
    assert_eq!(run.take(aggregated(1)), []);
    assert_eq!(run.take(join("c", 9)), [ready("c")]);
    assert_eq!((run.members().as_str(), run.lease("c")), ("a:0 b:0 c:lost", None));
}

#[test]
fn the_slow_ones_are_not_among_the_causes() {
    let mut run = Run::training(Plan { attempts_max: 1, ..over() });
    let _ = closing(&mut run);
    // Not even when the sum is dropped afterwards.
    let cause = "disk full";
    let expected = [&[Effect::Discard { round: 1 }][..], &end_failed(cause)].concat();
    assert_eq!(run.take(Event::Failed { reason: cause.into() }), expected);
    assert_eq!(run.machine.save().losses.len(), 0);
}

#[test]
fn the_first_round_waits_for_as_many_as_are_picked() {
    let mut run = Run::new(over());
    let _ = run.take(join("a", 1));
    assert_eq!(run.take(join("b", 2)), [ready("b")]);
    assert_eq!(run.machine.waiting_for().unwrap(), "2 of 3 workers, for at most 5 s more");
    assert_eq!(run.at(5_000, Event::Tick), [open(1, 1, &["a", "b"], 30), Effect::Persist]);
}

#[test]
fn those_in_excess_make_up_for_a_loss() {
    let mut run = Run::training(over());
    assert_eq!(run.take(left("c", 3)), [lost("c", 1, "it left")]);
    assert_eq!(closing(&mut run), closed_without_c());
}

#[test]
fn at_the_deadline_a_quorum_closes_the_round_and_the_rest_were_late() {
    let mut run = Run::training(Plan { cohort_min: 1, ..over() });
    let _ = run.take(update("a", 100, "a", 1));
    run.keep_alive(&[("a", 1), ("b", 2), ("c", 3)], 60_000);
    let late = "it sent no update before the deadline";
    let expected = [lost("b", 1, late), lost("c", 1, late), closed(1, 1, 3), Effect::Aggregate { round: 1 }];
    assert_eq!(run.at(60_000, Event::Tick), expected);
}

#[test]
fn bounds_that_make_no_sense_are_raised() {
    let mut run = Run::training(Plan { cohort_min: 3, cohort_max: 1, cohort_select: 2, ..plan() });
    let _ = run.take(update("a", 100, "a", 1));
    assert_eq!(run.take(update("b", 101, "b", 1)), folded("b", 101, "b", 1));
    let last = [&folded("c", 102, "c", 1)[..], &[closed(1, 3, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("c", 102, "c", 1)), last);
}

#[test]
fn after_a_restart_it_closes_only_with_all_that_was_acknowledged() {
    let mut run = Run::training(over());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(restarted(500));
    // One is in and one is owed: that is all the round wants.
    assert_eq!(run.take(update("b", 101, "b", 1)), folded("b", 101, "b", 1));
    run.refuses(update("c", 102, "c", 1), "c", 102, Refusal::Stale);
    let last = [&folded("a", 100, "a", 1)[..], &[closed(1, 2, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("a", 100, "a", 1)), last);
}
