use crate::support::*;

#[test]
fn an_accepted_update_is_kept_and_the_next_work_asked_for() {
    let mut life = Life::sending();
    assert_eq!(life.take(done(3)), [poll(4)]);
    assert!(life.machine.kept().eq(&[kept(1)]));
    life.ignores(done(3));
}

#[test]
fn a_coordinator_that_was_restarted_gets_the_update_again() {
    let mut life = Life::sending();
    let _ = life.take(done(3));
    assert_eq!(life.take(polled(4, work(1, 6))), [submit(5, 6, 1, true)]);
    assert_eq!(life.take(done(5)), [poll(6)]);
}

#[test]
fn a_coordinator_that_accepts_and_asks_for_ever_is_not_answered_in_a_hurry() {
    let mut life = Life::sending();
    let _ = life.take(done(3));
    assert_eq!(life.take(polled(4, work(1, 5))), [submit(5, 5, 1, true)]);
    assert_eq!(life.take(done(5)), []);
    assert_eq!(life.wait(0, 200), [poll(6)]);
}

#[test]
fn is_no_answer_to_calls_with_one_of_their_own() {
    let mut life = Life::polling();
    life.ignores(done(1));
}
