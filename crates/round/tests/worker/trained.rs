use round::worker::Effect;

use crate::support::*;

#[test]
fn is_made_durable_before_it_is_offered() {
    let mut life = Life::training();
    assert_eq!(life.take(trained(1)), [Effect::Keep(kept(1))]);
    assert!(life.machine.kept().next().is_none());
    life.ignores(trained(1));
}

#[test]
fn of_other_work_is_ignored() {
    let mut life = Life::training();
    life.ignores(trained(2));
    life.ignores(round::worker::Event::Measured { key: key(1) });
}

#[test]
fn while_the_coordinator_is_gone_is_kept_and_offered_when_it_is_back() {
    let mut life = Life::training();
    let _ = life.take(progressed(1, 99));
    let _ = life.wait(250, 251);
    let _ = life.take(failed(3, round::worker::Failure::Broken));
    assert_eq!(life.take(trained(1)), [Effect::Keep(kept(1))]);
    assert_eq!(life.take(round::worker::Event::Kept { key: key(1) }), []);
    let _ = life.wait(0, 200);
    assert_eq!(life.take(connected(4)), [poll(5)]);
    assert_eq!(life.take(polled(5, work(1, 9))), [submit(6, 9, 1, false)]);
}
