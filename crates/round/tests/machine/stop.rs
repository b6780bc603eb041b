use round::{Effect, Evaluation, Event, Outcome, Plan};

use crate::support::*;

#[test]
fn ends_the_run_in_every_phase_but_one() {
    let expected = [&[Effect::Discard { round: 1 }][..], &end_stopped("enough")].concat();
    assert_eq!(Run::training(plan()).take(stop("enough")), expected);
    assert_eq!(Run::aggregating(plan()).take(stop("enough")), expected);
    assert_eq!(Run::aggregated(evaluated_by(Evaluation::Central)).take(stop("enough")), expected);
    assert_eq!(Run::new(plan()).take(stop("enough")), end_stopped("enough"));
}

#[test]
fn waits_for_a_round_that_is_being_committed() {
    let mut run = Run::aggregated(plan());
    assert_eq!(run.take(stop("enough")), [Effect::Persist]);
    assert_eq!(run.take(Event::Published { round: 1, better: true }), end_stopped("enough"));
    assert_eq!(run.machine.committed().round, 1);
}

#[test]
fn comes_too_late_for_the_last_round() {
    let mut run = Run::aggregated(Plan { rounds: 1, ..plan() });
    assert_eq!(run.take(stop("enough")), [Effect::Persist]);
    assert_eq!(run.take(Event::Published { round: 1, better: true }), end(Outcome::Completed));
}

#[test]
fn of_an_ended_run_is_ignored() {
    let mut run = Run::new(plan());
    let _ = run.take(stop("enough"));
    run.ignores(stop("again"));
}
