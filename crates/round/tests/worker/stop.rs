use round::worker::{Effect, Event, Failure, LEAVE_MS, STOP_GRACE_MS};

use crate::support::*;

#[test]
fn hands_the_lease_back_at_once() {
    let mut life = Life::training();
    assert_eq!(life.take(Event::Stop), [cancel(key(1)), leave(3)]);
    assert_eq!(life.take(done(3)), [exit()]);
    life.ignores(done(3));
    life.ignores(Event::Stop);
    assert_eq!(life.machine.next_deadline(), None);
}

#[test]
fn a_poll_is_given_up() {
    let mut life = Life::polling();
    assert_eq!(life.take(Event::Stop), [leave(2)]);
    life.ignores(polled(1, work(1, 5)));
    // Whether the coordinator could be told does not matter.
    assert_eq!(life.take(failed(2, Failure::Broken)), [exit()]);
}

#[test]
fn an_upload_is_finished() {
    let mut life = Life::sending();
    assert_eq!(life.take(Event::Stop), []);
    assert_eq!(life.take(done(3)), [leave(4)]);
    assert_eq!(life.take(done(4)), [exit()]);
}

#[test]
fn an_upload_holds_the_end_up_for_a_bounded_time() {
    let mut life = Life::sending();
    let _ = life.take(Event::Stop);
    assert_eq!(life.wait(STOP_GRACE_MS, STOP_GRACE_MS + 1), [leave(4)]);
    life.ignores(done(3));
    assert_eq!(life.wait(LEAVE_MS, LEAVE_MS + 1), [exit()]);
}

#[test]
fn an_upload_that_fails_is_not_tried_again() {
    for failure in [Failure::Stale, Failure::Lost, Failure::Busy { retry_ms: 9_000 }] {
        let mut life = Life::sending();
        let _ = life.take(Event::Stop);
        let effects = life.take(failed(3, failure));
        assert_eq!(effects.last(), Some(&leave(4)));
    }
    let mut life = Life::sending();
    let _ = life.take(Event::Stop);
    assert_eq!(life.take(failed(3, Failure::Broken)), [exit()]);
}

#[test]
fn an_update_on_its_way_to_the_disk_gets_there() {
    let mut life = Life::keeping();
    assert_eq!(life.take(Event::Stop), [leave(3)]);
    assert_eq!(life.take(done(3)), []);
    assert_eq!(life.take(Event::Kept { key: key(1) }), [exit()]);

    let mut life = Life::keeping();
    let _ = life.take(Event::Stop);
    let _ = life.take(done(3));
    assert_eq!(life.wait(STOP_GRACE_MS, STOP_GRACE_MS + 1), [exit()]);
}

#[test]
fn without_a_connection_there_is_nobody_to_tell() {
    let mut life = Life::new(vec![]);
    assert_eq!(life.clone().take(Event::Stop), [exit()]);
    let _ = life.take(Event::Start);
    assert_eq!(life.take(Event::Stop), [exit()]);
}

#[test]
fn twice_ends_at_once() {
    let mut life = Life::sending();
    assert_eq!(life.take(Event::Stop), []);
    assert_eq!(life.take(Event::Stop), [exit()]);
    let mut life = Life::training();
    let _: Vec<Effect> = life.take(Event::Stop);
    assert_eq!(life.take(Event::Stop), [exit()]);
}
