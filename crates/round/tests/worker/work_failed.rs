use round::worker::{Event, Failure};

use crate::support::*;

#[test]
fn hands_the_work_back() {
    let mut life = Life::training();
    assert_eq!(life.take(work_failed(key(1))), [decline(3, 5)]);
    life.ignores(work_failed(key(1)));
    assert_eq!(life.take(done(3)), []);
    // Should the same work come again, it is tried again, but not in a hurry.
    assert_eq!(life.wait(0, 200), [poll(4)]);
    assert_eq!(life.take(polled(4, work(1, 6))), [fetch(5, 6, 1)]);
}

#[test]
fn an_update_that_the_disk_does_not_take_is_not_offered() {
    let mut life = Life::keeping();
    assert_eq!(life.take(work_failed(key(1))), [forget(1), decline(3, 5)]);
    life.ignores(Event::Kept { key: key(1) });
}

#[test]
fn is_remembered_until_the_coordinator_is_back() {
    let mut life = Life::training();
    let _ = life.take(progressed(1, 1));
    let _ = life.wait(250, 251);
    let _ = life.take(failed(3, Failure::Broken));
    assert_eq!(life.take(work_failed(key(1))), []);
    let _ = life.wait(0, 200);
    let _ = life.take(connected(4));
    assert_eq!(life.take(polled(5, work(1, 9))), [decline(6, 9)]);
}

#[test]
fn of_other_work_is_ignored() {
    let mut life = Life::training();
    life.ignores(work_failed(key(2)));
}
