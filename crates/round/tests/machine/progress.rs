use round::{Event, Refusal};

use crate::support::*;

#[test]
fn is_shown_and_renews_the_lease() {
    let mut run = Run::training(plan());
    assert_eq!(run.at(9_000, progress("a", 100, 40)), []);
    assert_eq!(run.take(progress("b", 101, 4_000_000)), []);
    assert_eq!(run.members(), "a:40 b:100 c:0");
    assert_eq!(run.at(10_000, Event::Tick), [lost("c", 1, "it was not seen for 10 s")]);
}

#[test]
fn of_other_work_is_refused() {
    let mut run = Run::training(plan());
    run.refuses(progress("a", 101, 40), "a", 101, Refusal::Stale);
    run.refuses(progress("stranger", 100, 40), "stranger", 100, Refusal::Stale);
}

#[test]
fn that_its_own_update_overtook_is_nothing() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    run.ignores(progress("a", 100, 90));
}

#[test]
fn of_a_lost_member_brings_it_back_but_not_its_lease() {
    let mut run = Run::training(plan());
    let _ = run.take(left("a", 1));
    assert_eq!(run.take(progress("a", 100, 50)), [ready("a"), reject("a", 100, Refusal::Stale)]);
    assert_eq!(run.lease("a"), Some(103));
}
