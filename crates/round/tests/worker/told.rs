use crate::support::*;

#[test]
fn abandon_asks_whether_the_same_work_is_wanted_under_another_lease() {
    let mut life = Life::training();
    let _ = life.take(progressed(1, 10));
    let _ = life.wait(250, 251);
    assert_eq!(life.take(told(3, true)), []);
    assert_eq!(life.wait(0, 200), [poll(4)]);
    assert_eq!(life.take(polled(4, work(1, 6))), []);
    let _ = life.take(progressed(1, 20));
    assert_eq!(life.wait(250, 251), [tell(5, 6, 20)]);
}

#[test]
fn is_an_answer_to_progress_only() {
    let mut life = Life::sending();
    life.ignores(told(3, true));
}
