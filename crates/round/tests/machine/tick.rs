use round::{Effect, Event, Plan, Refusal};

use crate::support::*;

/// Everybody but `silent` is seen every 5 s until just before `until`.
fn keep_alive(run: &mut Run, silent: &str, until: u64) {
    for now in (0..until).step_by(5_000) {
        for (worker, session) in [("a", 1), ("b", 2), ("c", 3)] {
            if worker != silent {
                let _ = run.at(now, seen(worker, session));
            }
        }
    }
}

#[test]
fn the_first_round_waits_a_while_for_a_full_cohort() {
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    let _ = run.at(1_000, join("b", 2));
    assert_eq!(run.machine.next_deadline(), Some(6_000));
    assert_eq!(run.at(5_999, Event::Tick), []);
    assert_eq!(run.at(6_000, Event::Tick), [open(1, 1, &["a", "b"], 30), Effect::Persist]);
}

#[test]
fn the_wait_starts_anew_when_a_worker_leaves() {
    let mut run = Run::new(plan());
    let _ = run.take(join("a", 1));
    let _ = run.take(join("b", 2));
    let _ = run.at(4_000, left("a", 1));
    assert_eq!(run.at(4_500, join("a", 3)), [ready("a")]);
    assert_eq!(run.at(9_499, Event::Tick), []);
    assert_eq!(run.at(9_500, Event::Tick), [open(1, 1, &["a", "b"], 30), Effect::Persist]);
}

#[test]
fn too_few_workers_for_too_long_end_the_run() {
    let mut run = Run::new(plan());
    let _ = run.at(25_000, join("a", 1));
    assert_eq!(run.machine.next_deadline(), Some(30_000));
    assert_eq!(run.at(29_999, Event::Tick), []);
    let cause = "1 of at least 2 workers after waiting 30 s";
    assert_eq!(run.at(30_000, Event::Tick), end_failed(cause));
}

#[test]
fn a_silent_worker_is_lost_when_its_lease_runs_out() {
    let mut run = Run::training(plan());
    keep_alive(&mut run, "b", 10_000);
    assert_eq!(run.machine.next_deadline(), Some(10_000));
    assert_eq!(run.at(9_999, Event::Tick), []);
    assert_eq!(run.at(10_000, Event::Tick), [lost("b", 1, "it was not seen for 10 s")]);
    run.refuses(update("b", 7, "b", 1), "b", 7, Refusal::Stale);
}

#[test]
fn the_deadline_closes_a_round_with_a_quorum() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    let _ = run.take(update("b", 101, "b", 1));
    keep_alive(&mut run, "nobody", 60_000);
    assert_eq!(run.at(59_999, Event::Tick), []);
    assert_eq!(run.machine.next_deadline(), Some(60_000));
    let late = lost("c", 1, "it sent no update before the deadline");
    assert_eq!(run.at(60_000, Event::Tick), [late, closed(1, 2, 3), Effect::Aggregate { round: 1 }]);
    assert_eq!(run.take(update("c", 102, "c", 1)), [reject("c", 102, Refusal::Stale)]);
}

#[test]
fn the_deadline_fails_an_attempt_below_the_quorum() {
    let mut run = Run::training(plan());
    let _ = run.take(update("a", 100, "a", 1));
    keep_alive(&mut run, "nobody", 60_000);
    let late = "it sent no update before the deadline";
    let expected = [
        lost("b", 1, late),
        lost("c", 1, late),
        Effect::Discard { round: 1 },
        attempt_failed(1, 1, 1, 2),
        open(1, 2, &["a", "b", "c"], 60),
        Effect::Persist,
    ];
    assert_eq!(run.at(60_000, Event::Tick), expected);
    assert_eq!(run.machine.assignment(&name("a")).unwrap().deadline, 120_000);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut run = Run::training(plan());
    let _ = run.at(9_000, seen("a", 1));
    let _ = run.at(3_000, seen("b", 2));
    assert_eq!(run.machine.next_deadline(), Some(10_000));
    assert_eq!(run.at(10_000, Event::Tick), [lost("c", 1, "it was not seen for 10 s"),]);
    assert_eq!(run.machine.next_deadline(), Some(19_000));
}

#[test]
fn senseless_plans_and_times_do_no_harm() {
    let nothing = Plan {
        cohort_min: 0,
        cohort_max: 0,
        deadline_ms: u64::MAX,
        lease_ms: u64::MAX,
        gather_ms: 0,
        wait_ms: u64::MAX,
        attempts_max: 0,
        ..private()
    };
    let mut run = Run::new(nothing);
    // The end of time is the deadline of everything, too.
    let effects = run.at(u64::MAX, join_with("a", 1, Some(u64::MAX)));
    assert_eq!(effects[..3], [ready("a"), open(1, 1, &["a"], u64::MAX), Effect::Persist]);
    assert!(matches!(run.machine.phase(), round::Phase::Ended(_)), "{effects:?}");
    assert_eq!(run.machine.next_deadline(), None);
}

#[test]
fn nothing_is_overdue_for_ever_at_the_end_of_time() {
    for joined in [&["a"][..], &["a", "b"]] {
        let mut run = Run::new(plan());
        for worker in joined {
            let _ = run.machine.step(u64::MAX, join(worker, 1));
        }
        let asked = (0..10).find_map(|_| match run.machine.overdue(u64::MAX) {
            Some(event) => {
                let _ = run.machine.step(u64::MAX, event);
                None
            }
            None => Some(run.machine.next_deadline()),
        });
        assert_eq!(asked, Some(None), "{joined:?}");
    }
}
