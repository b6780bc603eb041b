use round::Event;

use crate::support::*;

#[test]
fn renews_the_lease() {
    let mut run = Run::training(plan());
    for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(run.at(9_999, seen(worker, session)), []);
    }
    assert_eq!(run.machine.next_deadline(), Some(19_999));
    assert_eq!(run.at(19_998, Event::Tick), []);
    assert_eq!(run.members(), "a:0 b:0 c:0");
}

#[test]
fn is_heard_before_the_clock() {
    let mut run = Run::training(plan());
    let gone = "it was not seen for 10 s";
    // b and c ran out in the same step; a spoke in time to keep its lease, but not alone the round.
    let effects = run.at(10_000, seen("a", 1));
    assert_eq!(effects[..2], [lost("b", 1, gone), lost("c", 1, gone)]);
    assert_eq!(run.machine.waiting_for().unwrap(), "1 of at least 2 workers, for at most 30 s more");
}

#[test]
fn another_process_or_a_stranger_renews_nothing() {
    let mut run = Run::training(plan());
    run.ignores(seen("a", 9));
    run.ignores(seen("stranger", 1));
}

#[test]
fn brings_a_lost_member_back_under_a_new_lease() {
    let mut run = Run::training(plan());
    let _ = run.at(5_000, seen("a", 1));
    let _ = run.at(5_000, seen("b", 2));
    assert_eq!(run.at(10_000, Event::Tick), [lost("c", 1, "it was not seen for 10 s")]);
    assert_eq!(run.at(11_000, seen("c", 3)), [ready("c")]);
    assert_eq!((run.lease("c"), run.members().as_str()), (Some(103), "a:0 b:0 c:0"));
}

#[test]
fn brings_an_evaluator_back_too() {
    let mut run = Run::aggregated(evaluated_by(round::Evaluation::Workers));
    assert_eq!(run.take(left("a", 1)), [lost("a", 1, "it left")]);
    assert_eq!(run.take(seen("a", 1)), [ready("a")]);
    assert_eq!((run.lease("a"), run.members().as_str()), (Some(106), "a:0 b:0 c:0"));
}

#[test]
fn does_not_make_an_evaluator_of_a_worker_whose_update_is_not_in() {
    let mut run = Run::training(evaluated_by(round::Evaluation::Workers));
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(left("c", 3));
    let _ = run.take(aggregated(1));
    assert_eq!(run.take(seen("c", 3)), [ready("c")]);
    assert_eq!((run.lease("c"), run.members().as_str()), (None, "a:0 b:0 c:lost"));
}

#[test]
fn of_one_moment_are_seen_together() {
    // The shell was busy for longer than a lease, and all three had called meanwhile.
    let mut run = Run::aggregated(plan());
    let workers = [("a", 1), ("b", 2), ("c", 3)].map(|(worker, session)| (name(worker), session)).to_vec();
    assert_eq!(run.at(60_000, Event::WorkersSeen { workers }), []);
    let effects = run.take(Event::Published { round: 1, better: true });
    let opened = effects.iter().find_map(|effect| match effect {
        round::Effect::OpenRound { cohort, .. } => Some(cohort.len()),
        _ => None,
    });
    assert_eq!(opened, Some(3), "{effects:?}");
}
