use round::worker::{Effect, Event, Failure};

use crate::support::*;

fn measuring() -> Life {
    let mut life = Life::polling();
    let _ = life.take(polled(1, candidate(1, 5)));
    assert_eq!(life.take(done(2)), [evaluate(1)]);
    life
}

fn send(call: u64, lease: u64) -> Effect {
    Effect::SubmitEvaluation { call, lease, key: candidate_key(1) }
}

#[test]
fn is_sent() {
    let mut life = measuring();
    assert_eq!(life.take(Event::Measured { key: candidate_key(1) }), [send(3, 5)]);
    assert_eq!(life.take(done(3)), [poll(4)]);
    life.ignores(Event::Measured { key: candidate_key(1) });
}

#[test]
fn time_renews_the_lease_of_a_measurement() {
    let mut life = measuring();
    assert_eq!(life.wait(5_000, 5_001), [tell(3, 5, 0)]);
    let _ = life.take(told(3, false));
    assert_eq!(life.wait(5_000, 5_001), [tell(4, 5, 0)]);
}

#[test]
fn is_not_repeated_for_the_same_candidate() {
    let mut life = measuring();
    let _ = life.take(Event::Measured { key: candidate_key(1) });
    let _ = life.take(failed(3, Failure::Broken));
    let _ = life.wait(0, 200);
    let _ = life.take(connected(4));
    assert_eq!(life.take(polled(5, candidate(1, 9))), [send(6, 9)]);
}

#[test]
fn of_other_work_is_ignored() {
    let mut life = measuring();
    life.ignores(Event::Measured { key: candidate_key(2) });
    life.ignores(trained(1));
}
