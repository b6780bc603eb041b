use round::worker::{Event, Failure};

use crate::support::*;

#[test]
fn before_its_time_does_nothing() {
    let mut life = Life::polling();
    let _ = life.take(failed(1, Failure::Busy { retry_ms: 1_000 }));
    let due = life.machine.next_deadline().unwrap();
    assert_eq!(life.at(due - 1, Event::Tick), []);
    assert_eq!(life.at(due, Event::Tick), [poll(2)]);
    life.ignores(Event::Tick);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut life = Life::polling();
    let _ = life.take(failed(1, Failure::Busy { retry_ms: 1_000 }));
    let due = life.machine.next_deadline();
    assert_eq!(life.machine.step(0, Event::Tick), []);
    assert_eq!(life.machine.next_deadline(), due);
}
