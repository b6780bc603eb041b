use round::{Effect, Event, Outcome, Phase, Plan};

use crate::support::*;

#[test]
fn lets_the_open_round_go_on_and_opens_no_other() {
    let mut run = Run::training(plan());
    assert_eq!(run.take(pause("night")), paused("night"));
    assert_eq!((run.machine.paused(), run.machine.is_held()), (Some("night"), false));
    assert_eq!(run.take(update("a", 100, "a", 1)), folded("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    let last = [&folded("c", 102, "c", 1)[..], &[closed(1, 3, 3), Effect::Aggregate { round: 1 }]].concat();
    assert_eq!(run.take(update("c", 102, "c", 1)), last);
    assert_eq!(run.take(aggregated(1)), [Effect::Publish { round: 1 }]);
    assert!(!run.machine.is_held());
    assert_eq!(run.take(published(1)), []);
    assert!(run.machine.is_held());
    assert_eq!((run.machine.committed().round, run.machine.phase()), (1, &Phase::Gathering));
    assert_eq!(run.machine.waiting_for().unwrap(), "night");
    assert_eq!((run.members().as_str(), run.lease("a")), ("", None));
}

#[test]
fn keeps_the_first_reason() {
    let mut run = Run::training(plan());
    let _ = run.take(pause("night"));
    let before = run.machine.clone();
    assert_eq!(run.take(pause("again")), [Effect::Persist]);
    assert_eq!(run.machine, before);
}

#[test]
fn stops_the_clocks_of_gathering() {
    let mut run = Run::new(plan());
    let _ = run.at(1_000, pause("night"));
    assert_eq!(run.machine.next_deadline(), None);
    assert_eq!(run.machine.overdue(u64::MAX), None);
    // Only leases still run.
    assert_eq!(run.at(1_000_000, join("a", 1)), [ready("a")]);
    assert_eq!(run.machine.next_deadline(), Some(1_010_000));
    assert_eq!(run.machine.overdue(1_010_000), Some(silent(&[("a", 1)])));
    assert_eq!(run.at(1_010_000, Event::Tick), []);
    assert_eq!(run.machine.next_deadline(), None);
}

#[test]
fn does_not_stop_the_clock_of_the_open_round() {
    let mut run = Run::training(plan());
    let _ = run.take(pause("night"));
    let _ = run.take(update("a", 100, "a", 1));
    run.keep_alive(&[("a", 1), ("b", 2), ("c", 3)], 60_000);
    let late = "it sent no update before the deadline";
    let failed =
        [lost("b", 1, late), lost("c", 1, late), Effect::Discard { round: 1 }, attempt_failed(1, 1, 1, 2)];
    assert_eq!(run.at(60_000, Event::Tick), failed);
    assert!(run.machine.is_held());
    assert_eq!(run.take(Event::Resume)[2..], [open(1, 2, &["a", "b", "c"], 60), Effect::Persist]);
}

#[test]
fn opens_nothing_for_a_full_cohort() {
    let mut run = Run::new(plan());
    let _ = run.take(pause("night"));
    for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(run.take(join(worker, session)), [ready(worker)]);
    }
    assert!(run.machine.is_held());
}

#[test]
fn does_not_hold_up_the_end_of_the_last_round() {
    let mut run = Run::aggregated(Plan { rounds: 1, ..plan() });
    let _ = run.take(pause("night"));
    assert_eq!(run.take(published(1)), end(Outcome::Completed));
    assert_eq!((run.machine.is_held(), run.machine.paused()), (false, None));
}

#[test]
fn a_paused_run_can_be_stopped() {
    let mut run = Run::new(plan());
    let _ = run.take(pause("night"));
    assert_eq!(run.take(stop("enough")), end_stopped("enough"));
    // There is nothing to resume.
    assert_eq!(run.machine.paused(), None);
    assert_eq!(run.take(Event::Resume), [Effect::Persist]);
    let mut run = Run::training(plan());
    let _ = run.take(pause("night"));
    let expected = [&[Effect::Discard { round: 1 }][..], &end_stopped("enough")].concat();
    assert_eq!(run.take(stop("enough")), expected);
}

#[test]
fn a_paused_run_takes_more_rounds_and_stays_paused() {
    let mut run = Run::aggregated(Plan { rounds: 1, ..plan() });
    let _ = run.take(pause("night"));
    assert_eq!(run.take(Event::AddRounds { count: 1 }), [Effect::Persist]);
    assert_eq!(run.take(published(1)), []);
    assert_eq!(run.take(Event::AddRounds { count: 2 }), [Effect::Persist]);
    assert_eq!((run.machine.is_held(), run.machine.plan().rounds), (true, 4));
    assert_eq!(run.take(Event::Resume)[2..], [open(2, 1, &["a", "b", "c"], 60), Effect::Persist]);
}

#[test]
fn rounds_that_wake_an_ended_run_are_not_held() {
    let mut run = Run::training(plan());
    let _ = run.take(pause("night"));
    let _ = run.take(stop("enough"));
    let expected = [Effect::Persist, open(1, 1, &["a", "b", "c"], 60), Effect::Persist];
    assert_eq!(run.take(Event::AddRounds { count: 1 }), expected);
    assert_eq!(run.machine.paused(), None);
}

#[test]
fn of_an_ended_run_is_ignored() {
    let mut run = Run::new(plan());
    let _ = run.take(stop("enough"));
    run.ignores(pause("night"));
}
