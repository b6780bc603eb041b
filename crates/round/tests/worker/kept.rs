use round::worker::{Event, Failure};

use crate::support::*;

#[test]
fn is_offered() {
    let mut life = Life::keeping();
    assert_eq!(life.take(Event::Kept { key: key(1) }), [submit(3, 5, 1, false)]);
    assert!(life.machine.kept().eq(&[kept(1)]));
    life.ignores(Event::Kept { key: key(1) });
    life.ignores(Event::Kept { key: key(2) });
}

#[test]
fn a_slow_disk_does_not_cost_the_lease() {
    let mut life = Life::keeping();
    assert_eq!(life.wait(5_000, 5_001), [tell(3, 5, 100)]);
    assert_eq!(life.take(Event::Kept { key: key(1) }), []);
    let limit_ms = 85_000;
    let round::worker::Effect::Submit { limit_ms: found, .. } = life.take(told(3, false))[0] else {
        panic!("it is offered once the call is done")
    };
    assert_eq!(found, limit_ms);
}

#[test]
fn of_work_that_was_replaced_meanwhile_is_ignored() {
    let mut life = Life::keeping();
    let _ = life.wait(5_000, 5_001);
    let _ = life.take(failed(3, Failure::Stale));
    assert_eq!(life.wait(0, 200), [poll(4)]);
    assert_eq!(life.take(polled(4, work(2, 6))), [forget(1), fetch(5, 6, 2)]);
    life.ignores(Event::Kept { key: key(1) });
    assert!(life.machine.kept().next().is_none());
}
