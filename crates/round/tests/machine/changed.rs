//! What belongs in the journal, and what is known in memory only.

use round::{Evaluation, Event, Machine, Millis, Saved};

use crate::support::*;

/// What a journal would bring back, but for the time.
fn durable(machine: &Machine) -> Saved {
    Saved { now: 0, ..machine.save() }
}

/// Steps, and says whether the event belongs in the journal. One that does not leaves no durable trace.
fn journalled(run: &Run, now: Millis, event: &Event) -> bool {
    let mut machine = run.machine.clone();
    let _ = machine.step(now, event.clone());
    let changed = machine.changed();
    assert!(changed || durable(&machine) == durable(&run.machine), "{event:?} changed more than it says");
    changed
}

#[test]
fn of_each_event_while_training() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let table = [
        (Event::Tick, false),
        (join("d", 4), true),
        // The shell may have lost the first answer: that there is this process is durable again.
        (join("b", 2), true),
        (seen("b", 2), false),
        (seen("b", 9), false),
        (seen("stranger", 1), false),
        (silent(&[("b", 2)]), true),
        (left("b", 2), true),
        (drain("b", true), true),
        (revoke("b"), true),
        (progress("b", 101, 40), false),
        (progress("b", 7, 40), false),
        (update("b", 101, "b", 1), true),
        // Acknowledged again, a duplicate, stale, too heavy.
        (update("a", 100, "a", 1), false),
        (update("a", 100, "other", 1), false),
        (update("b", 7, "b", 1), false),
        (update("b", 101, "b", 99), false),
        (metrics("b", 101), false),
        (decline("b", 101, "no"), true),
        (decline("b", 7, "no"), false),
        (Event::Failed { reason: "disk full".into() }, true),
        (pause("night"), true),
        (Event::Resume, true),
        (stop("enough"), true),
        (Event::AddRounds { count: 1 }, true),
        (restarted(500), true),
    ];
    for (event, expected) in table {
        assert_eq!(journalled(&run, 0, &event), expected, "{event:?}");
    }
}

#[test]
fn of_the_answers_of_the_shell() {
    assert!(journalled(&Run::aggregating(plan()), 0, &aggregated(1)));
    let central = Run::aggregated(evaluated_by(Evaluation::Central));
    assert!(journalled(&central, 0, &Event::EvaluatedCentrally { round: 1 }));
    assert!(journalled(&Run::aggregated(plan()), 0, &published(1)));
}

#[test]
fn of_metrics() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    assert!(journalled(&run, 0, &metrics("a", 103)));
    let _ = run.take(metrics("a", 103));
    assert!(!journalled(&run, 0, &metrics("a", 103)));
}

#[test]
fn a_tick_counts_if_time_brought_something_about() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    assert!(!journalled(&run, 59_999, &Event::Tick));
    assert!(journalled(&run, 60_000, &Event::Tick));
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    let _ = run.take(join("b", 2));
    assert!(!journalled(&run, 4_999, &Event::Tick));
    assert!(journalled(&run, 5_000, &Event::Tick));
    // Being heard of may be the first step after it, and then carries it.
    assert!(journalled(&run, 5_000, &seen("a", 1)));
}

#[test]
fn being_heard_of_counts_if_it_brings_a_worker_back() {
    let mut run = Run::training(plan());
    let _ = run.take(left("b", 2));
    assert!(journalled(&run, 0, &seen("b", 2)));
    let mixed = Event::WorkersSeen { workers: vec![(name("a"), 1), (name("b"), 2)] };
    assert!(journalled(&run, 0, &mixed));
    // Also where nobody is told: a drained or an excluded one, and by an input that is refused.
    let _ = run.take(drain("b", true));
    assert!(journalled(&run, 0, &seen("b", 2)));
    assert!(journalled(&run, 0, &update("b", 101, "b", 99)));
    let mut run = Run::training(plan());
    let _ = run.take(decline("c", 102, "no"));
    let _ = run.take(left("c", 3));
    assert!(journalled(&run, 0, &seen("c", 3)));
    assert!(journalled(&run, 0, &update("c", 102, "c", 1)));
}

#[test]
fn the_time_that_was_seen_goes_with_it() {
    let mut run = Run::training(plan());
    let _ = run.at(9_000, seen("a", 1));
    let _ = run.at(3_000, update("a", 100, "a", 1));
    assert_eq!((run.machine.now(), run.machine.changed()), (9_000, true));
}
