use crate::support::*;

#[test]
fn is_told_now_and_then() {
    let mut life = Life::training();
    assert_eq!(life.machine.next_deadline(), None);
    assert_eq!(life.take(progressed(1, 10)), []);
    assert_eq!(life.take(progressed(1, 20)), []);
    assert_eq!(life.wait(250, 251), [tell(3, 5, 20)]);
    // One call at a time.
    assert_eq!(life.take(progressed(1, 30)), []);
    assert_eq!(life.machine.next_deadline(), None);
    assert_eq!(life.take(told(3, false)), []);
    assert_eq!(life.wait(250, 251), [tell(4, 5, 30)]);
}

#[test]
fn without_a_batch_nothing_is_told_and_the_lease_runs_out() {
    let mut life = Life::training();
    let _ = life.take(progressed(1, 10));
    let _ = life.wait(250, 251);
    let _ = life.take(told(3, false));
    assert_eq!(life.machine.next_deadline(), None);
    // The same number is news all the same.
    let _ = life.take(progressed(1, 10));
    assert_eq!(life.wait(250, 251), [tell(4, 5, 10)]);
}

#[test]
fn of_other_work_is_ignored_and_figures_are_bounded() {
    let mut life = Life::training();
    life.ignores(progressed(2, 10));
    let _ = life.take(progressed(1, u32::MAX));
    assert_eq!(life.wait(250, 251), [tell(3, 5, 100)]);
}
