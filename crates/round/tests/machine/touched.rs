//! Whose work may have changed: whom the shell must answer.

use round::{Effect, Evaluation, Event, Machine, Touched};

use crate::support::*;

fn these(workers: &[&str]) -> Touched {
    Touched::Workers(workers.iter().map(|worker| name(worker)).collect())
}

/// Who is touched by an event alone.
fn by(run: &mut Run, event: Event) -> Touched {
    let _ = run.machine.take_touched();
    let _ = run.take(event);
    run.machine.take_touched()
}

#[test]
fn a_new_machine_touches_everybody_once() {
    let mut machine = Machine::new(plan(), start(), LEASE_BASE, 0);
    assert_eq!(machine.take_touched(), Touched::All);
    assert_eq!(machine.take_touched(), these(&[]));
    let mut restored = Machine::restore(machine.save());
    assert_eq!(restored.take_touched(), Touched::All);
}

#[test]
fn another_phase_touches_everybody() {
    let mut run = Run::new(evaluated_by(Evaluation::Workers));
    let _ = run.take(join("a", 1));
    let _ = run.take(join("b", 2));
    assert_eq!(by(&mut run, join("c", 3)), Touched::All, "the round opens");
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    assert_eq!(by(&mut run, update("c", 102, "c", 1)), Touched::All, "the round closes");
    assert_eq!(by(&mut run, aggregated(1)), Touched::All, "the candidate is handed out");
    let _ = run.take(metrics("a", 103));
    let _ = run.take(metrics("b", 104));
    assert_eq!(by(&mut run, metrics("c", 105)), Touched::All, "the round is committed");
    assert_eq!(by(&mut run, published(1)), Touched::All, "the next round opens");
    assert_eq!(by(&mut run, restarted(500)), Touched::All, "it opens again");
    assert_eq!(by(&mut run, stop("enough")), Touched::All, "the run ends");
}

#[test]
fn within_a_phase_only_members_whose_work_changes_are_touched() {
    let mut run = Run::training(plan());
    assert_eq!(by(&mut run, update("a", 100, "a", 1)), these(&["a"]));
    assert_eq!(by(&mut run, left("b", 2)), these(&["b"]));
    assert_eq!(by(&mut run, seen("b", 2)), these(&["b"]));
    assert_eq!(by(&mut run, join("b", 9)), these(&["b"]));
    assert_eq!(by(&mut run, decline("c", 102, "no")), these(&["c"]));
    let mut run = Run::training(plan());
    assert_eq!(by(&mut run, revoke("b")), these(&["b"]));
    let mut run = Run::aggregated(evaluated_by(Evaluation::Workers));
    assert_eq!(by(&mut run, metrics("a", 103)), these(&["a"]));
}

#[test]
fn the_same_work_is_no_change() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let events = [
        Event::Tick,
        seen("b", 2),
        join("b", 2),
        progress("b", 101, 40),
        update("a", 100, "a", 1),
        update("b", 7, "b", 1),
        left("a", 1),
        join("d", 4),
        drain("b", true),
        pause("night"),
        Event::Resume,
        Event::AddRounds { count: 1 },
    ];
    for event in events {
        assert_eq!(by(&mut run, event.clone()), these(&[]), "{event:?}");
    }
}

#[test]
fn touches_add_up_until_somebody_asks() {
    let mut run = Run::training(plan());
    let _ = run.machine.take_touched();
    let _ = run.take(update("b", 101, "b", 1));
    let _ = run.take(left("a", 1));
    assert_eq!(run.machine.clone().take_touched(), these(&["b", "a"]));
    let effects = run.take(update("c", 102, "c", 1));
    assert_eq!(effects.last(), Some(&Effect::Aggregate { round: 1 }));
    assert_eq!(run.machine.take_touched(), Touched::All);
    assert_eq!(run.machine.take_touched(), these(&[]));
}

#[test]
fn is_no_part_of_where_the_run_is() {
    let run = Run::training(plan());
    let mut asked = run.clone();
    let _ = asked.machine.take_touched();
    assert_eq!(asked.machine, run.machine);
}
