use round::worker::{Event, KEPT_MAX, Machine};

use crate::support::*;

#[test]
fn connects_at_once_and_only_the_first_time() {
    let mut life = Life::new(vec![]);
    assert_eq!(life.machine.next_deadline(), None);
    assert_eq!(life.take(Event::Tick), []);
    assert_eq!(life.take(Event::Start), [connect(0)]);
    life.ignores(Event::Start);
}

#[test]
fn deletes_what_the_bounds_of_kept_updates_do_not_allow() {
    let mut kept = vec![kept(1), kept(2)];
    kept.extend((0..KEPT_MAX as u32).map(|i| kept_of(&format!("other-{i}"), 1)));
    let mut machine = Machine::new(7, kept.clone());
    let gone = machine.step(0, Event::Start);
    // The newest eight stay, one per run.
    assert_eq!(gone, [forget(2), forget(1), connect(0)]);
    assert!(machine.kept().eq(&kept[2..]));
}
