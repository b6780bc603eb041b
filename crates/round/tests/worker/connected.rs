use round::worker::{Event, Failure};

use crate::support::*;

#[test]
fn asks_for_work() {
    let mut life = Life::new(vec![]);
    let _ = life.take(Event::Start);
    assert_eq!(life.machine.session(), None);
    assert_eq!(life.take(connected(0)), [poll(1)]);
    assert_eq!(life.machine.session(), Some(70));
    life.ignores(connected(0));
}

#[test]
fn is_an_answer_to_a_connect_only() {
    let mut life = Life::polling();
    life.ignores(connected(1));
}

#[test]
fn again_goes_on_with_the_training_that_runs() {
    let mut life = Life::training();
    let _ = life.take(progressed(1, 10));
    let _ = life.wait(250, 251);
    assert_eq!(life.take(failed(3, Failure::Broken)), []);
    assert_eq!(life.machine.session(), None);
    assert_eq!(life.wait(0, 200), [connect(4)]);
    assert_eq!(life.take(connected(4)), [poll(5)]);
    assert_eq!(life.take(polled(5, work(1, 9))), []);
    // Under the new lease.
    let _ = life.take(progressed(1, 20));
    assert_eq!(life.wait(250, 251), [tell(6, 9, 20)]);
}
