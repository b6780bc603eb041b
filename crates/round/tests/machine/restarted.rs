use round::{Effect, Evaluation, GivenUp, Machine, Note, Outcome, Phase, Plan, Refusal};

use crate::support::*;

const EVERYBODY: [(&str, u64); 3] = [("a", 1), ("b", 2), ("c", 3)];

/// What opens the first attempt at round 1 of a, b and c again.
fn again(owed: u32) -> [Effect; 2] {
    [open(1, 1, &["a", "b", "c"], 60), reopened(1, owed)]
}

fn replaced(worker: &str) -> Effect {
    Effect::Tell(Note::UpdateReplaced { worker: name(worker), round: 1 })
}

/// The updates of a and b were acknowledged, then the coordinator was restarted.
fn owing() -> Run {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    assert_eq!(run.take(restarted(500)), again(2));
    run
}

#[test]
fn while_gathering_the_wait_starts_anew() {
    let mut run = Run::new(plan());
    let _ = run.at(25_000, join("a", 1));
    // Nobody could join a coordinator that was down.
    assert_eq!(run.at(1_000_000, restarted(500)), []);
    assert_eq!(run.machine.next_deadline(), Some(1_010_000));
    run.keep_alive(&[("a", 1)], 1_030_000);
    assert_eq!(run.machine.next_deadline(), Some(1_030_000));
    let cause = "1 of at least 2 workers after waiting 30 s";
    assert_eq!(run.at(1_030_000, round::Event::Tick), end_failed(cause));
}

#[test]
fn while_gathering_the_wait_for_a_full_cohort_starts_anew() {
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    let _ = run.take(join("b", 2));
    assert_eq!(run.at(6_000, restarted(500)), []);
    assert_eq!(run.at(7_000, join("c", 3)), [ready("c"), open(1, 1, &["a", "b", "c"], 60), Effect::Persist]);
    assert_eq!(["a", "b", "c"].map(|worker| run.lease(worker)), [Some(500), Some(501), Some(502)]);
}

#[test]
fn while_paused_it_stays_paused() {
    let mut run = Run::new(plan());
    let _ = run.take(pause("night"));
    assert_eq!(run.at(1_000_000, restarted(500)), []);
    assert_eq!((run.machine.is_held(), run.machine.next_deadline()), (true, None));
}

#[test]
fn before_any_update_the_round_has_its_whole_time_again() {
    let mut run = Run::training(plan());
    let _ = run.take(progress("a", 100, 40));
    assert_eq!(run.at(50_000, restarted(500)), again(0));
    assert_eq!(run.members(), "a:40 b:0 c:0");
    assert_eq!(run.machine.assignment(&name("a")).unwrap().deadline, 110_000);
    // The same process of a worker still has the same work, another one has a new lease.
    assert_eq!(run.take(join("a", 1)), []);
    assert_eq!(run.take(join("b", 12)), [ready("b")]);
    assert_eq!(["a", "b", "c"].map(|worker| run.lease(worker)), [Some(100), Some(500), Some(102)]);
}

#[test]
fn every_acknowledged_update_is_owed_and_counts_once() {
    let mut run = owing();
    assert_eq!(run.members(), "a:0 b:0 c:0");
    let owed = |run: &Run| ["a", "b", "c"].map(|worker| run.machine.owed(&name(worker)));
    assert_eq!(owed(&run), [Some(digest("a")), Some(digest("b")), None]);
    assert_eq!(run.take(join("a", 11)), [ready("a")]);
    assert_eq!(run.take(update("a", 500, "a", 1)), folded("a", 500, "a", 1));
    assert_eq!(owed(&run), [None, Some(digest("b")), None]);
    assert_eq!(run.take(update("a", 500, "a", 1)), acknowledged("a", 500));
    assert_eq!(run.take(update("b", 101, "b", 1)), folded("b", 101, "b", 1));
    let last = [&folded("c", 102, "c", 1)[..], &[closed(1, 3, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("c", 102, "c", 1)), last);
}

#[test]
fn a_round_that_had_closed_takes_nobody_else_in() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    // c is late, and the round closes without it.
    let _ = run.take(left("c", 3));
    assert_eq!(run.machine.phase(), &Phase::Aggregating);
    assert_eq!(run.take(restarted(500)), again(2));
    assert_eq!(run.take(join("c", 13)), [ready("c")]);
    assert_eq!((run.lease("c"), run.members().as_str()), (None, "a:0 b:0 c:lost"));
    let _ = run.take(update("a", 100, "a", 1));
    let last = [&folded("b", 101, "b", 1)[..], &[closed(1, 2, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("b", 101, "b", 1)), last, "the version of the undisturbed run");
}

#[test]
fn other_bytes_for_an_owed_update_count_instead_and_people_are_told() {
    let mut run = owing();
    let _ = run.take(join("b", 12));
    let expected = [&[replaced("b")][..], &folded("b", 500, "other", 2)].concat();
    assert_eq!(run.take(update("b", 500, "other", 2)), expected);
    assert_eq!(run.take(update("b", 500, "other", 2)), acknowledged("b", 500));
    run.refuses(update("b", 500, "b", 1), "b", 500, Refusal::Duplicate);
    // Nothing was acknowledged of c.
    assert_eq!(run.take(update("c", 102, "any", 1)), folded("c", 102, "any", 1));
}

#[test]
fn an_owed_update_must_weigh_what_the_worker_was_given() {
    let mut run = owing();
    let refusal = Refusal::Weight { claimed: 11, allowed: 10 };
    run.refuses(update("a", 100, "a", 11), "a", 100, refusal);
    assert_eq!(run.machine.owed(&name("a")), Some(digest("a")));
}

#[test]
fn an_owed_worker_that_stays_away_is_waited_for_until_the_deadline() {
    let mut run = owing();
    assert_eq!(run.take(left("b", 2)), [awaited("b", 1)]);
    assert_eq!(run.take(update("a", 100, "a", 1)), folded("a", 100, "a", 1));
    // A quorum, and nobody else is at work: the round still does not close without b.
    assert_eq!(run.take(update("c", 102, "c", 1)), folded("c", 102, "c", 1));
    run.keep_alive(&[("a", 1), ("c", 3)], 60_000);
    assert_eq!((run.members().as_str(), run.machine.phase()), ("a:done b:0 c:done", &Phase::Training));
    let expected = [
        lost("b", 1, "it sent no update before the deadline"),
        Effect::Discard { round: 1 },
        given_up(1, 1, 2, 2, GivenUp::Owed),
        open(1, 2, &["a", "c"], 40),
        Effect::Persist,
    ];
    assert_eq!(run.at(60_000, round::Event::Tick), expected);
    run.refuses(update("a", 100, "a", 1), "a", 100, Refusal::Stale);
}

#[test]
fn an_owed_worker_that_comes_back_in_time_completes_the_round() {
    let mut run = owing();
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("c", 102, "c", 1));
    assert_eq!(run.take(left("b", 2)), [awaited("b", 1)]);
    run.keep_alive(&[("a", 1), ("c", 3)], 55_000);
    assert_eq!(run.at(55_000, join("b", 12)), [ready("b")]);
    let last = [&folded("b", 500, "b", 1)[..], &[closed(1, 3, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("b", 500, "b", 1)), last);
}

#[test]
fn who_is_silent_afterwards_is_awaited_if_owed_and_lost_if_not() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.at(1_000, restarted(500));
    let _ = run.at(10_999, seen("b", 2));
    assert_eq!(run.machine.next_deadline(), Some(11_000));
    let effects = run.at(11_000, round::Event::Tick);
    assert_eq!(effects, [awaited("a", 1), lost("c", 1, "it was not seen for 10 s")]);
    assert_eq!(run.members(), "a:0 b:0 c:lost");
}

#[test]
fn an_owed_worker_that_declines_fails_the_attempt_at_once() {
    let mut run = owing();
    let expected = [
        lost("b", 1, "the update is gone"),
        excluded("b", "the update is gone"),
        Effect::Discard { round: 1 },
        given_up(1, 1, 0, 2, GivenUp::Owed),
        open(1, 2, &["a", "c"], 40),
        Effect::Persist,
    ];
    assert_eq!(run.take(decline("b", 101, "the update is gone")), expected);
    assert_eq!(run.machine.owed(&name("a")), None);
}

#[test]
fn an_owed_worker_with_other_rows_fails_the_attempt_at_once() {
    let mut run = Run::training(private());
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(restarted(500));
    let expected = [
        ready("b"),
        lost("b", 1, "it came back with 11 examples instead of 10"),
        Effect::Discard { round: 1 },
        given_up(1, 1, 0, 2, GivenUp::Owed),
        open(1, 2, &["a", "b", "c"], 31),
        Effect::Persist,
    ];
    assert_eq!(run.take(join_with("b", 12, Some(11))), expected);
}

#[test]
fn who_did_not_owe_may_decline() {
    let mut run = owing();
    assert_eq!(run.take(decline("c", 102, "no")), [lost("c", 1, "no"), excluded("c", "no")]);
    let _ = run.take(update("a", 100, "a", 1));
    let last = [&folded("b", 101, "b", 1)[..], &[closed(1, 2, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("b", 101, "b", 1)), last);
}

#[test]
fn leases_that_were_handed_out_and_forgotten_never_match() {
    let durable = Run::training(plan());
    // What the process before did after its last durable write.
    let mut forgotten = durable.clone();
    let _ = forgotten.take(join("a", 9));
    assert_eq!(forgotten.lease("a"), Some(103));
    let mut run = durable;
    let _ = run.take(restarted(500));
    assert_eq!(run.take(join("a", 10)), [ready("a")]);
    assert_eq!(run.lease("a"), Some(500));
    for lease in [100, 103] {
        run.refuses(update("a", lease, "a", 1), "a", lease, Refusal::Stale);
        run.refuses(decline("a", lease, "no"), "a", lease, Refusal::Stale);
        run.refuses(progress("a", lease, 50), "a", lease, Refusal::Stale);
    }
}

#[test]
fn after_a_second_restart_everything_acknowledged_is_owed_again() {
    let mut run = owing();
    let _ = run.take(join("a", 11));
    let _ = run.take(update("a", 500, "other", 1));
    // a was folded after the first restart, with other bytes; b was not seen since.
    assert_eq!(run.at(5_000, restarted(900)), again(2));
    let owed = ["a", "b", "c"].map(|worker| run.machine.owed(&name(worker)));
    assert_eq!(owed, [Some(digest("other")), Some(digest("b")), None]);
    assert_eq!(run.machine.assignment(&name("c")).unwrap().deadline, 65_000);
    assert_eq!(run.take(update("a", 500, "other", 1)), folded("a", 500, "other", 1));
    assert_eq!(run.take(join("b", 13)), [ready("b")]);
    assert_eq!(run.lease("b"), Some(900));
    assert_eq!(run.take(update("b", 900, "b", 1)), folded("b", 900, "b", 1));
}

#[test]
fn while_aggregating_the_round_is_opened_again() {
    let mut run = Run::aggregating(plan());
    assert_eq!(run.take(restarted(500)), again(3));
    assert_eq!(run.members(), "a:0 b:0 c:0");
    // The answer of the process before.
    run.ignores(aggregated(1));
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    let last = [&folded("c", 102, "c", 1)[..], &[closed(1, 3, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("c", 102, "c", 1)), last);
}

#[test]
fn while_aggregating_a_quorum_those_who_were_late_stay_lost() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    run.keep_alive(&EVERYBODY, 60_000);
    let _ = run.at(60_000, round::Event::Tick);
    assert_eq!(run.take(restarted(500)), again(2));
    assert_eq!((run.members().as_str(), run.lease("c")), ("a:0 b:0 c:lost", None));
}

#[test]
fn while_the_candidate_is_measured_centrally_it_is_measured_again() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Central));
    assert_eq!(run.take(restarted(500)), [Effect::EvaluateCentrally { round: 1 }]);
    assert_eq!(run.machine.candidate(), Some(digest("version 1")));
    let publish = [Effect::Publish { round: 1 }];
    assert_eq!(run.take(round::Event::EvaluatedCentrally { round: 1 }), publish);
}

#[test]
fn while_workers_evaluate_they_have_their_whole_time_again() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    let _ = run.take(metrics("a", 103));
    assert_eq!(run.at(50_000, restarted(500)), []);
    assert_eq!(run.members(), "a:done b:0 c:0");
    assert_eq!(run.machine.assignment(&name("b")).unwrap().deadline, 110_000);
    assert_eq!(run.take(metrics("a", 103)), acknowledged("a", 103));
    assert_eq!(run.take(update("a", 100, "a", 1)), acknowledged("a", 100));
    assert_eq!(run.take(join("b", 12)), [ready("b")]);
    run.refuses(metrics("b", 104), "b", 104, Refusal::Stale);
    assert_eq!(run.take(metrics("b", 500)), kept("b", 500));
    let last = [&kept("c", 105)[..], &[Effect::Publish { round: 1 }]].concat();
    assert_eq!(run.take(metrics("c", 105)), last);
}

#[test]
fn while_publishing_the_round_is_published_again() {
    let mut run = Run::aggregated(plan());
    assert_eq!(run.take(restarted(500)), [Effect::Publish { round: 1 }]);
    assert_eq!(run.take(published(1)), [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]);
    assert_eq!(["a", "b", "c"].map(|worker| run.lease(worker)), [Some(500), Some(501), Some(502)]);
}

#[test]
fn a_stop_that_waits_for_the_commit_outlives_it() {
    let mut run = Run::aggregated(plan());
    let _ = run.take(stop("enough"));
    assert_eq!(run.take(restarted(500)), [Effect::Publish { round: 1 }]);
    assert_eq!(run.take(published(1)), end_stopped("enough"));
}

#[test]
fn of_an_ended_run_changes_nothing_that_is_seen() {
    let mut run = Run::aggregated(Plan { rounds: 1, ..plan() });
    let _ = run.take(published(1));
    assert_eq!(run.at(1_000_000, restarted(500)), []);
    assert_eq!(run.machine.phase(), &Phase::Ended(Outcome::Completed));
    assert_eq!(run.machine.next_deadline(), None);
    assert_eq!(run.take(update("a", 100, "a", 1)), acknowledged("a", 100));
}

#[test]
fn what_was_accepted_in_the_round_before_is_still_acknowledged() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    for (worker, lease) in [("a", 103), ("b", 104), ("c", 105)] {
        let _ = run.take(metrics(worker, lease));
    }
    assert_eq!(run.take(published(1)), [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]);
    let reopened = [open(2, 1, &["a", "b", "c"], 60), reopened(2, 0)];
    assert_eq!(run.take(restarted(500)), reopened);
    assert_eq!(run.take(update("a", 100, "a", 1)), acknowledged("a", 100));
    assert_eq!(run.take(metrics("b", 104)), acknowledged("b", 104));
    run.refuses(update("a", 100, "other", 1), "a", 100, Refusal::Duplicate);
}

#[test]
fn the_attempt_keeps_its_number() {
    let mut run = Run::training(Plan { cohort_min: 3, ..plan() });
    let _ = run.take(left("c", 3));
    let _ = run.take(join("c", 4));
    let again = [open(1, 2, &["a", "b", "c"], 60), reopened(1, 0)];
    assert_eq!(run.take(restarted(500)), again);
    let cause = "round 1 failed in 2 attempts, the last with 0 of at least 3 updates; lost: b: it left";
    let expected =
        [&[lost("b", 1, "it left"), Effect::Discard { round: 1 }][..], &end_failed(cause)].concat();
    assert_eq!(run.take(left("b", 2)), expected);
}

#[test]
fn of_a_restored_machine_is_that_of_the_one_that_was_saved() {
    let mut run = owing();
    let mut restored = Machine::restore(run.machine.save());
    let effects = take(&mut restored, 7_000, restarted(900));
    assert_eq!(run.at(7_000, restarted(900)), effects);
    assert_eq!(restored, run.machine);
}
