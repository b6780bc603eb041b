use std::collections::BTreeMap;

use round::{
    Assignment, Committed, DataPlan, Effect, Event, Machine, Outcome, Phase, Plan, Refusal, WorkKind,
};

use crate::support::*;

#[test]
fn a_full_cohort_opens_the_first_round_at_once() {
    let mut run = Run::new(plan());
    assert_eq!(run.take(join("c", 3)), [ready("c")]);
    assert_eq!(run.machine.waiting_for().unwrap(), "1 of at least 2 workers, for at most 30 s more");
    assert_eq!(run.take(join("a", 1)), [ready("a")]);
    assert_eq!(run.machine.waiting_for().unwrap(), "2 of 3 workers, for at most 5 s more");
    assert_eq!(run.take(join("b", 2)), [ready("b"), open(1, 1, &["a", "b", "c"], 60), Effect::Persist]);
    assert_eq!(run.machine.waiting_for(), None);
    assert_eq!(run.members(), "a:0 b:0 c:0");
}

#[test]
fn shards_go_by_name_and_not_by_arrival() {
    let run = Run::training(plan());
    let expected = Assignment {
        round: 1,
        lease: 101,
        kind: WorkKind::Train,
        model: digest("initial"),
        shard: Some(1),
        examples_max: 20,
        deadline: 60_000,
    };
    assert_eq!(run.machine.assignment(&name("b")), Some(expected));
    let ledger: Vec<_> = run.machine.committed().shards.iter().map(|(w, i)| (w.as_str(), *i)).collect();
    assert_eq!(ledger, [("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(run.machine.assignment(&name("stranger")), None);
}

#[test]
fn a_kept_ledger_decides_before_names_do() {
    let shards = BTreeMap::from([(name("z"), 0)]);
    let from = Committed { round: 1, shards, ..start() };
    let mut machine = Machine::new(plan(), from, LEASE_BASE, 0);
    for worker in ["a", "b"] {
        let _ = machine.step(0, join(worker, 1));
    }
    assert_eq!(
        machine.step(0, join("z", 1)),
        [ready("z"), open(2, 1, &["a", "b", "z"], 60), Effect::Persist]
    );
    let shard = |worker| machine.assignment(&name(worker)).unwrap().shard;
    assert_eq!(["a", "b", "z"].map(shard), [Some(1), Some(2), Some(0)]);
}

#[test]
fn workers_without_a_shard_are_not_used() {
    let mut run = Run::new(Plan { data: DataPlan::Hosted { shards: vec![10, 20] }, ..plan() });
    let _ = run.take(join("b", 2));
    let _ = run.take(join("a", 1));
    // Sorted by name it comes last, and there is no third shard.
    assert_eq!(run.take(join("c", 3)), []);
    assert_eq!(run.at(5_000, Event::Tick), [open(1, 1, &["a", "b"], 30), Effect::Persist]);
    assert_eq!(run.machine.assignment(&name("c")), None);
}

#[test]
fn private_workers_must_offer_rows() {
    let mut run = Run::new(private());
    assert_eq!(run.take(join_with("a", 1, None)), []);
    assert_eq!(run.take(join_with("b", 2, Some(0))), []);
    assert_eq!(run.take(join_with("c", 3, Some(7))), [ready("c")]);
    assert_eq!(run.take(join_with("d", 4, Some(5))), [ready("d")]);
    assert_eq!(
        run.take(join_with("e", 5, Some(1))),
        [ready("e"), open(1, 1, &["c", "d", "e"], 13), Effect::Persist]
    );
    let assignment = run.machine.assignment(&name("c")).unwrap();
    assert_eq!((assignment.shard, assignment.examples_max), (None, 7));
}

#[test]
fn more_workers_than_the_cohort_takes_stay_idle() {
    let mut run = Run::new(Plan { cohort_max: 2, ..private() });
    let _ = run.take(join("a", 1));
    assert_eq!(run.take(join("b", 2)), [ready("b"), open(1, 1, &["a", "b"], 20), Effect::Persist]);
    assert_eq!(run.take(join("c", 3)), [ready("c")]);
    assert_eq!(run.lease("c"), None);
}

#[test]
fn a_new_process_takes_over_with_a_new_lease() {
    let mut run = Run::training(plan());
    let _ = run.take(progress("a", 100, 40));
    assert_eq!(run.take(join("a", 9)), [ready("a")]);
    assert_eq!((run.lease("a"), run.members().as_str()), (Some(103), "a:0 b:0 c:0"));
    run.refuses(update("a", 100, "a", 1), "a", 100, Refusal::Stale);
    assert_eq!(run.take(update("a", 103, "a", 1)), folded("a", 103, "a", 1));
}

#[test]
fn a_new_process_of_a_worker_that_is_done_changes_nothing() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    assert_eq!(run.take(join("a", 9)), [ready("a")]);
    assert_eq!((run.lease("a"), run.members().as_str()), (None, "a:done b:0 c:0"));
    assert_eq!(run.take(update("a", 100, "a", 1)), acknowledged("a", 100));
}

#[test]
fn the_same_process_keeps_its_lease() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(join("a", 1)), []);
    assert_eq!(run.lease("a"), Some(100));
}

#[test]
fn a_lost_member_that_restarts_gets_work_in_the_same_round() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(left("b", 2)), [lost("b", 1, "it left")]);
    assert_eq!(run.take(join("b", 8)), [ready("b")]);
    assert_eq!((run.lease("b"), run.members().as_str()), (Some(103), "a:0 b:0 c:0"));
}

#[test]
fn other_rows_than_when_it_was_picked_cost_it_the_round() {
    let mut run = Run::training(private());
    let reason = "it came back with 11 examples instead of 10";
    assert_eq!(run.take(join_with("a", 9, Some(11))), [ready("a"), lost("a", 1, reason)]);
    assert_eq!(run.take(join_with("a", 10, Some(10))), [ready("a")]);
    assert_eq!(run.lease("a"), Some(103));
}

#[test]
fn an_excluded_worker_stays_out_after_a_restart() {
    let mut run = Run::training(plan());
    let _ = run.take(decline("a", 100, "no such column"));
    assert_eq!(run.take(join("a", 9)), []);
    assert_eq!(run.lease("a"), None);
}

#[test]
fn after_the_end_it_is_only_remembered() {
    let mut run = Run::new(plan());
    assert_eq!(run.take(stop("enough")), end_stopped("enough"));
    assert_eq!(run.take(join("a", 1)), []);
    assert_eq!(run.machine.phase(), &Phase::Ended(Outcome::Stopped { cause: "enough".into() }));
    assert_eq!((run.machine.next_deadline(), run.machine.round()), (None, 1));
}
