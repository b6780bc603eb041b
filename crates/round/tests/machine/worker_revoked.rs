use round::{Effect, Evaluation, Event, Phase, Plan, Refusal};

use crate::support::*;

const WHY: &str = "it was revoked by an operator";

/// The attempt is given up for b, and the next one is without it.
fn without_b(updates: u32) -> [Effect; 6] {
    let discard = Effect::Discard { round: 1 };
    let given_up = given_up(1, 1, updates, 2, round::GivenUp::Revoked);
    [excluded("b", WHY), discard, given_up, Effect::Persist, open(1, 2, &["a", "c"], 40), Effect::Persist]
}

#[test]
fn whose_update_is_in_costs_the_attempt_and_is_not_in_the_next() {
    let mut run = Run::training(plan());
    let _ = run.take(update("b", 101, "b", 1));
    assert_eq!(run.take(revoke("b")), without_b(1));
    assert_eq!(["a", "b", "c"].map(|worker| run.lease(worker)), [Some(103), None, Some(104)]);
    run.refuses(update("b", 101, "b", 1), "b", 101, Refusal::Stale);
    assert_eq!(run.take(update("a", 103, "a", 1)), folded("a", 103, "a", 1));
}

#[test]
fn who_was_still_at_work_is_lost_and_the_round_goes_on() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(revoke("b")), [lost("b", 1, WHY), excluded("b", WHY), Effect::Persist]);
    assert_eq!((run.members().as_str(), run.lease("b")), ("a:0 b:lost c:0", None));
    run.refuses(update("b", 101, "b", 1), "b", 101, Refusal::Stale);
    assert_eq!(run.commit(true), [open(2, 1, &["a", "c"], 40), Effect::Persist]);
}

#[test]
fn who_was_not_picked_is_only_left_out() {
    let mut run = Run::new(Plan { cohort_max: 2, ..private() });
    for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
        let _ = run.take(join(worker, session));
    }
    assert_eq!(run.take(revoke("c")), [excluded("c", WHY), Effect::Persist]);
    assert_eq!(run.members(), "a:0 b:0");
}

#[test]
fn while_aggregating_the_sum_is_dropped() {
    let mut run = Run::aggregating(plan());
    assert_eq!(run.take(revoke("b")), without_b(3));
    run.ignores(aggregated(1));
}

#[test]
fn while_aggregating_without_its_update_the_round_goes_on() {
    let mut run = Run::training(plan());
    let _ = run.take(left("b", 2));
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("c", 102, "c", 1));
    assert_eq!(run.take(revoke("b")), [excluded("b", WHY), Effect::Persist]);
    assert_eq!(run.take(aggregated(1)), [Effect::Publish { round: 1 }]);
}

#[test]
fn while_its_candidate_is_measured_it_is_dropped() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Central));
    assert_eq!(run.take(revoke("b")), without_b(3));
    run.ignores(Event::EvaluatedCentrally { round: 1 });
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    let _ = run.take(metrics("a", 103));
    assert_eq!(run.take(revoke("b")), [&[lost("b", 1, WHY)][..], &without_b(3)].concat());
    run.refuses(metrics("a", 103), "a", 103, Refusal::Stale);
    assert_eq!((run.machine.candidate(), run.machine.phase()), (None, &Phase::Training));
}

#[test]
fn while_publishing_it_is_too_late() {
    let mut run = Run::aggregated(plan());
    assert_eq!(run.take(revoke("b")), [excluded("b", WHY), Effect::Persist]);
    assert_eq!(run.take(published(1)), [open(2, 1, &["a", "c"], 40), Effect::Persist]);
    assert_eq!(run.machine.committed().base, digest("version 1"));
    assert_eq!(run.take(update("b", 101, "b", 1)), acknowledged("b", 101));
}

#[test]
fn whose_update_is_owed_after_a_restart_costs_the_attempt() {
    let mut run = Run::training(plan());
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(restarted(500));
    let expected = [&[lost("b", 1, WHY)][..], &without_b(0)].concat();
    assert_eq!(run.take(revoke("b")), expected);
    assert_eq!(["a", "c"].map(|worker| run.lease(worker)), [Some(500), Some(501)]);
}

#[test]
fn nothing_brings_it_back() {
    let mut run = Run::training(plan());
    let _ = run.take(revoke("b"));
    run.ignores(join("b", 2));
    run.ignores(join("b", 9));
    run.ignores(seen("b", 2));
    run.ignores(left("b", 2));
    run.ignores(silent(&[("b", 2)]));
    assert_eq!(run.take(revoke("b")), [Effect::Persist]);
    let _ = run.take(drain("b", true));
    let _ = run.take(drain("b", false));
    let _ = run.take(stop("enough"));
    let expected = [Effect::Persist, open(1, 1, &["a", "c"], 40), Effect::Persist];
    assert_eq!(run.take(Event::AddRounds { count: 1 }), expected);
    run.ignores(join("b", 10));
    assert_eq!(run.machine.standing(&name("b")).unwrap().excluded, Some(WHY));
}

#[test]
fn who_never_came_stays_away_and_the_run_goes_on_waiting() {
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    assert_eq!(run.take(revoke("b")), [excluded("b", WHY), Effect::Persist]);
    run.ignores(join("b", 2));
    let waits = "1 of at least 2 workers, for at most 30 s more; left out: b: it was revoked by an operator";
    assert_eq!(run.machine.waiting_for().unwrap(), waits);
}

#[test]
fn a_run_that_needs_another_worker_waits_for_one() {
    let mut run = Run::training(plan());
    let _ = run.take(left("c", 3));
    let _ = run.take(update("b", 101, "b", 1));
    assert_eq!(run.take(revoke("b")), without_b(1)[..4]);
    assert_eq!(run.take(join("c", 4)), [ready("c"), open(1, 2, &["a", "c"], 40), Effect::Persist]);
}

#[test]
fn is_no_failure_that_ends_a_run_with_its_last_attempt() {
    let mut run = Run::training(Plan { attempts_max: 1, ..plan() });
    let _ = run.take(update("b", 101, "b", 1));
    assert_eq!(run.take(revoke("b")), without_b(1));
    let mut run = Run::training(Plan { attempts_max: 1, ..plan() });
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(restarted(500));
    assert_eq!(run.take(revoke("b")), [&[lost("b", 1, WHY)][..], &without_b(0)].concat());
}
