//! A snapshot is as good as the journal that led to it.

use round::{Evaluation, Event, Machine, Outcome, Phase, Plan, Touched};

use crate::support::*;

/// A run in every phase, and in every way that a phase can be.
fn runs() -> Vec<(&'static str, Run)> {
    let mut runs = vec![("new", Run::new(plan()))];
    let mut case = |name, from: Run, events: &[Event]| {
        let mut run = from;
        for event in events {
            let _ = run.take(event.clone());
        }
        runs.push((name, run));
    };
    let training = || Run::training(plan());
    let over = || Run::training(Plan { cohort_max: 2, cohort_select: 3, ..plan() });
    let workers = || Run::aggregated(evaluated_by(Evaluation::Workers));
    case("gathering", Run::new(plan()), &[join("a", 1), join("b", 2)]);
    case("waiting", Run::new(private()), &[join("a", 1), join_with("b", 2, None), drain("z", true)]);
    case("held", Run::aggregated(plan()), &[pause("night"), published(1)]);
    case("training", training(), &[update("a", 100, "a", 1), left("b", 2), drain("c", true)]);
    case("excluding", training(), &[decline("a", 100, "no"), revoke("b")]);
    case("second attempt", training(), &[left("a", 1), left("b", 2), join("a", 9)]);
    case("owing", training(), &[update("a", 100, "a", 1), restarted(500), join("a", 9)]);
    case("aggregating", Run::aggregating(plan()), &[]);
    case("over-selected", over(), &[update("a", 100, "a", 1), update("b", 101, "b", 1)]);
    case("measuring", Run::aggregated(evaluated_by(Evaluation::Central)), &[]);
    case("evaluating", workers(), &[metrics("a", 103), left("b", 2), join("c", 9)]);
    case("publishing", Run::aggregated(plan()), &[stop("enough")]);
    case("second round", workers(), &[metrics("a", 103), left("b", 2), left("c", 3), published(1)]);
    case("unimproved", Run::aggregated(Plan { patience: Some(2), ..plan() }), &[no_better(1)]);
    case("completed", Run::aggregated(Plan { rounds: 1, ..plan() }), &[published(1)]);
    case("early", Run::aggregated(Plan { patience: Some(1), ..plan() }), &[no_better(1)]);
    case("failed", training(), &[Event::Failed { reason: "disk full".into() }]);
    case("stopped", training(), &[pause("night"), stop("enough")]);
    case("going on", training(), &[revoke("b"), stop("enough"), Event::AddRounds { count: 2 }]);
    runs
}

/// What may come next, wherever the run is.
fn next() -> Vec<Event> {
    let mut events = vec![
        Event::Tick,
        aggregated(1),
        Event::EvaluatedCentrally { round: 1 },
        published(1),
        no_better(2),
        Event::Resume,
        pause("again"),
        stop("now"),
        Event::AddRounds { count: 3 },
        restarted(900),
    ];
    for (worker, session) in [("a", 1), ("a", 9), ("b", 2), ("c", 3), ("c", 9), ("z", 26)] {
        events.extend([join(worker, session), seen(worker, session), left(worker, session)]);
        events.extend([silent(&[(worker, session)]), drain(worker, true), drain(worker, false)]);
        events.push(revoke(worker));
        for lease in [100, 101, 102, 103, 104, 105, 500] {
            events.extend([update(worker, lease, worker, 1), metrics(worker, lease)]);
            events.push(decline(worker, lease, "no"));
        }
    }
    events
}

#[test]
fn the_restored_machine_is_the_one_that_was_saved() {
    for (case, run) in runs() {
        let saved = run.machine.save();
        let restored = Machine::restore(saved.clone());
        assert_eq!(restored, run.machine, "{case}");
        assert_eq!(restored.save(), saved, "{case}");
    }
}

#[test]
fn whatever_comes_next_has_the_same_effects() {
    for (case, run) in runs() {
        for event in next() {
            let mut restored = Machine::restore(run.machine.save());
            let mut machine = run.machine.clone();
            let effects = machine.step(1_000, event.clone());
            assert_eq!(restored.step(1_000, event.clone()), effects, "{case}: {event:?}");
            assert_eq!(restored, machine, "{case}: {event:?}");
            assert_eq!(restored.changed(), machine.changed(), "{case}: {event:?}");
        }
    }
}

#[test]
fn the_cases_are_all_phases_and_outcomes() {
    let runs = runs();
    let phases: Vec<&Phase> = runs.iter().map(|(_, run)| run.machine.phase()).collect();
    let ended = |outcome| Phase::Ended(outcome);
    for phase in [
        Phase::Gathering,
        Phase::Training,
        Phase::Aggregating,
        Phase::Evaluating,
        Phase::Publishing,
        ended(Outcome::Completed),
        ended(Outcome::StoppedEarly { unimproved: 1 }),
        ended(Outcome::Failed { cause: "disk full".into() }),
        ended(Outcome::Stopped { cause: "enough".into() }),
    ] {
        assert!(phases.contains(&&phase), "{phase:?} is missing in {phases:?}");
    }
}

#[test]
fn progress_and_the_age_of_leases_are_not_kept() {
    let mut run = Run::training(plan());
    let _ = run.take(progress("a", 100, 40));
    let _ = run.at(5_000, seen("b", 2));
    assert_eq!(run.machine.next_deadline(), Some(10_000));
    let mut restored = Machine::restore(run.machine.save());
    assert_eq!(restored.next_deadline(), Some(15_000));
    assert_eq!(restored.take_touched(), Touched::All);
    assert!(!restored.changed());
    run.machine = restored;
    assert_eq!(run.members(), "a:0 b:0 c:0");
}
