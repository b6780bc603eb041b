use round::{Effect, Evaluation, Event, Machine};

use crate::support::*;

const GONE: &str = "it was not seen for 10 s";

fn everybody() -> Event {
    silent(&[("a", 1), ("b", 2), ("c", 3)])
}

#[test]
fn all_of_one_moment_come_in_one_event() {
    let run = Run::training(plan());
    assert_eq!(run.machine.overdue(9_999), None);
    assert_eq!(run.machine.overdue(10_000), Some(everybody()));
    // The longest silent first, then by name; those who were heard of are not in it.
    let mut run = Run::new(private());
    let _ = run.at(2_000, join("a", 1));
    let _ = run.at(1_000, join("c", 3));
    let _ = run.at(3_000, join("b", 2));
    assert_eq!(run.machine.overdue(12_000), Some(silent(&[("a", 1), ("c", 3)])));
    assert_eq!(run.machine.overdue(13_000), Some(everybody_by_silence()));
}

/// a and c were last heard of in the same moment: the clock did not go back for c.
fn everybody_by_silence() -> Event {
    silent(&[("a", 1), ("c", 3), ("b", 2)])
}

#[test]
fn are_lost_before_anybody_is_counted_on() {
    let mut run = Run::training(plan());
    let expected = [
        lost("a", 1, GONE),
        lost("b", 1, GONE),
        lost("c", 1, GONE),
        Effect::Discard { round: 1 },
        attempt_failed(1, 1, 0, 2),
    ];
    assert_eq!(run.machine.step(10_000, everybody()), expected);
    // No attempt was opened with workers that are away.
    assert_eq!(run.members(), "");
    assert_eq!(run.machine.next_deadline(), Some(40_000));
}

#[test]
fn come_before_the_deadline_of_the_same_moment() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    let machine: &mut Machine = &mut run.machine;
    assert_eq!(machine.overdue(60_000), Some(everybody()));
    let effects = machine.step(60_000, everybody());
    assert_eq!(effects, [lost("c", 1, GONE), closed(1, 2, 3), Effect::Aggregate { round: 1 }]);
    assert_eq!(machine.overdue(60_000), None);
}

#[test]
fn an_older_process_a_stranger_and_who_is_away_do_not_count() {
    let mut run = Run::training(plan());
    let _ = run.take(join("a", 9));
    run.ignores(silent(&[("a", 1), ("stranger", 1)]));
    let _ = run.take(left("b", 2));
    run.ignores(silent(&[("b", 2)]));
    run.ignores(silent(&[]));
}

#[test]
fn an_update_outlives_their_silence() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    assert_eq!(run.take(silent(&[("a", 1)])), []);
    assert_eq!(run.members(), "a:done b:0 c:0");
}

#[test]
fn who_is_heard_of_before_anybody_looked_keeps_its_lease() {
    let mut run = Run::training(plan());
    assert_eq!(run.machine.step(10_001, seen("a", 1)), []);
    assert_eq!(run.machine.overdue(10_001), Some(silent(&[("b", 2), ("c", 3)])));
}

#[test]
fn start_the_wait_for_workers_anew() {
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    let _ = run.at(4_000, join("b", 2));
    assert_eq!(run.at(4_500, silent(&[("a", 1)])), []);
    assert_eq!(run.machine.waiting_for().unwrap(), "1 of at least 2 workers, for at most 30 s more");
    assert_eq!(run.machine.next_deadline(), Some(14_000));
}

#[test]
fn evaluators_are_not_waited_for() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    let expected = [lost("a", 1, GONE), lost("b", 1, GONE), lost("c", 1, GONE), Effect::Publish { round: 1 }];
    assert_eq!(run.at(10_000, Event::Tick), expected);
}

#[test]
fn nobody_is_silent_for_an_ended_run() {
    let mut run = Run::training(plan());
    let _ = run.take(stop("enough"));
    assert_eq!((run.machine.overdue(u64::MAX), run.machine.next_deadline()), (None, None));
}
