use round::worker::{Effect, Failure, KEPT_MAX};

use crate::support::*;

#[test]
fn work_is_fetched_and_trained() {
    let mut life = Life::polling();
    assert_eq!(life.take(polled(1, work(1, 5))), [fetch(2, 5, 1)]);
    assert_eq!(life.take(done(2)), [train(1)]);
}

#[test]
fn nothing_is_asked_for_again_but_not_in_a_hurry() {
    let mut life = Life::polling();
    assert_eq!(life.take(polled(1, None)), []);
    assert_eq!(life.wait(200, 201), [poll(2)]);
    let later = life.now + 20_000;
    assert_eq!(life.at(later, polled(2, None)), [poll(3)]);
}

#[test]
fn nothing_cancels_what_is_being_computed() {
    let mut life = lost_while_training();
    assert_eq!(life.take(polled(5, None)), [cancel(key(1))]);
    life.ignores(trained(1));
}

#[test]
fn other_work_cancels_what_is_being_computed() {
    let mut life = lost_while_training();
    assert_eq!(life.take(polled(5, work(2, 9))), [cancel(key(1)), fetch(6, 9, 2)]);
}

#[test]
fn a_candidate_needs_the_compute_thread() {
    let mut life = lost_while_training();
    let fetch = Effect::Fetch { call: 6, lease: 9, key: candidate_key(1) };
    assert_eq!(life.take(polled(5, candidate(1, 9))), [cancel(key(1)), fetch]);
}

#[test]
fn work_that_was_trained_before_the_process_started_is_offered_at_once() {
    let mut life = Life::polling_with(vec![kept(1)]);
    assert_eq!(life.take(polled(1, work(1, 5))), [submit(2, 5, 1, true)]);
}

#[test]
fn protocol_1_cannot_go_on_with_an_upload() {
    let mut life = Life::new(vec![kept(1)]);
    let _ = life.take(round::worker::Event::Start);
    let _ = life.take(connected_with(0, 1));
    assert_eq!(life.take(polled(1, work(1, 5))), [submit(2, 5, 1, false)]);
}

#[test]
fn the_next_round_of_a_run_replaces_its_update_and_no_other() {
    let mut life = Life::polling_with(vec![kept(1), kept_of("other", 1)]);
    assert_eq!(life.take(polled(1, work(2, 5))), [forget(1), fetch(2, 5, 2)]);
    assert!(life.machine.kept().eq(&[kept_of("other", 1)]));
}

#[test]
fn the_update_stays_while_the_candidate_of_its_round_is_measured() {
    let mut life = Life::polling_with(vec![kept(1)]);
    let fetch = Effect::Fetch { call: 2, lease: 5, key: candidate_key(1) };
    assert_eq!(life.take(polled(1, candidate(1, 5))), [fetch]);
    let mut life = Life::polling_with(vec![kept(1)]);
    let fetch = Effect::Fetch { call: 2, lease: 5, key: candidate_key(2) };
    assert_eq!(life.take(polled(1, candidate(2, 5))), [forget(1), fetch]);
}

#[test]
fn the_oldest_update_makes_room() {
    let runs: Vec<String> = (0..KEPT_MAX).map(|i| format!("other-{i}")).collect();
    let mut life = Life::polling_with(runs.iter().map(|run| kept_of(run, 1)).collect());
    let _ = life.take(polled(1, work(1, 5)));
    let _ = life.take(done(2));
    let oldest = Effect::Forget { key: key_of("other-0", 1) };
    assert_eq!(life.take(trained(1)), [oldest, Effect::Keep(kept(1))]);
}

#[test]
fn late_and_foreign_answers_leave_no_trace() {
    let mut life = Life::training();
    life.ignores(polled(1, None));
    life.ignores(polled(99, work(2, 9)));
}

/// Polls with call 5 while the training of round 1 goes on.
fn lost_while_training() -> Life {
    let mut life = Life::training();
    let _ = life.take(progressed(1, 10));
    let _ = life.wait(250, 251);
    let _ = life.take(failed(3, Failure::Broken));
    assert_eq!(life.wait(0, 200), [connect(4)]);
    assert_eq!(life.take(connected(4)), [poll(5)]);
    life
}
