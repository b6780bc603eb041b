use round::worker::{BACKOFF_MAX_MS, Event, Failure};

use crate::support::*;

#[test]
fn a_broken_connection_is_tried_again_for_ever_ever_more_slowly() {
    let mut life = Life::new(vec![]);
    let _ = life.take(Event::Start);
    for (call, bound) in (0..).zip([200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]) {
        assert_eq!(life.take(failed(call, Failure::Broken)), []);
        assert_eq!(life.wait(0, bound), [connect(call + 1)]);
    }
    for call in 8..200 {
        let _ = life.take(failed(call, Failure::Broken));
        assert_eq!(life.wait(0, BACKOFF_MAX_MS), [connect(call + 1)]);
    }
    let _ = life.take(connected(200));
    let _ = life.take(polled(201, None));
    let _ = life.wait(200, 201);
    // Something worked: from the start.
    let _ = life.take(failed(202, Failure::Broken));
    assert_eq!(life.wait(0, 200), [connect(203)]);
}

#[test]
fn the_coordinator_says_how_long_to_wait_at_least() {
    let mut life = Life::new(vec![]);
    let _ = life.take(Event::Start);
    let _ = life.take(failed(0, Failure::Busy { retry_ms: 3_000 }));
    assert_eq!(life.wait(3_000, 3_200), [connect(1)]);
    let _ = life.take(connected(1));
    let _ = life.take(failed(2, Failure::Busy { retry_ms: u64::MAX }));
    // The session is good: it is kept.
    assert_eq!(life.wait(60_000, 60_400), [poll(3)]);
}

#[test]
fn a_session_that_is_over_is_followed_by_another_one() {
    let mut life = Life::polling();
    let _ = life.take(failed(1, Failure::Stale));
    assert_eq!(life.wait(0, 200), [connect(2)]);
}

#[test]
fn a_late_update_is_kept_until_the_next_poll_decides() {
    let mut life = Life::sending();
    assert_eq!(life.take(failed(3, Failure::Stale)), []);
    assert_eq!(life.wait(0, 200), [poll(4)]);
    assert!(life.machine.kept().eq(&[kept(1)]));
    assert_eq!(life.take(polled(4, work(2, 6))), [forget(1), fetch(5, 6, 2)]);
}

#[test]
fn a_broken_upload_goes_on_where_it_ended() {
    let mut life = Life::sending();
    let _ = life.take(failed(3, Failure::Broken));
    let _ = life.wait(0, 200);
    let _ = life.take(connected(4));
    assert_eq!(life.take(polled(5, work(1, 5))), [submit(6, 5, 1, true)]);
    let _ = life.take(failed(6, Failure::Busy { retry_ms: 1_000 }));
    // Nothing worked in between: the bound doubles.
    assert_eq!(life.wait(1_000, 1_400), [poll(7)]);
}

#[test]
fn an_update_that_is_refused_for_good_is_deleted_and_handed_back() {
    let mut life = Life::sending();
    assert_eq!(life.take(impossible(3)), [forget(1), decline(4, 5)]);
    // Nothing is left to hand back.
    let _ = life.take(failed(4, Failure::Stale));
    assert_eq!(life.wait(0, 200), [poll(5)]);
}

#[test]
fn an_update_that_cannot_be_read_is_trained_again() {
    let mut life = Life::sending();
    assert_eq!(life.take(failed(3, Failure::Lost)), [forget(1), fetch(4, 5, 1)]);
    assert_eq!(life.take(done(4)), [train(1)]);
}

#[test]
fn work_whose_needs_cannot_be_had_is_handed_back() {
    let mut life = Life::polling();
    let _ = life.take(polled(1, work(1, 5)));
    assert_eq!(life.take(impossible(2)), [decline(3, 5)]);
}

#[test]
fn progress_that_is_not_taken_stops_nothing() {
    for failure in
        [Failure::Stale, Failure::Busy { retry_ms: 0 }, Failure::Impossible { reason: "no".into() }]
    {
        let mut life = Life::training();
        let _ = life.take(progressed(1, 10));
        let _ = life.wait(250, 251);
        assert_eq!(life.take(failed(3, failure)), []);
        assert_eq!(life.wait(0, 200), [poll(4)]);
        assert_eq!(life.take(polled(4, work(1, 6))), []);
    }
}

#[test]
fn sides_that_do_not_accept_each_other_part() {
    let refusal = || Failure::Fatal { reason: "no".into() };
    let mut life = Life::training();
    let _ = life.take(progressed(1, 10));
    let _ = life.wait(250, 251);
    assert_eq!(life.take(failed(3, refusal())), [cancel(key(1)), fatal()]);
    assert!(!life.machine.is_running());
    life.ignores(Event::Tick);
    life.ignores(Event::Start);
    // What is wrong with a registration or a poll is not wrong with a piece of work.
    assert_eq!(Life::polling().take(impossible(1)), [fatal()]);
}

#[test]
fn a_call_that_is_not_under_way_cannot_fail() {
    let mut life = Life::training();
    life.ignores(failed(2, Failure::Broken));
    life.ignores(failed(9, Failure::Fatal { reason: "no".into() }));
}
