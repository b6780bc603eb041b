//! A process that is killed at each point: the hook unwinds out of the journal, and the files stay as they are.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

use journal::{CRASH_POINTS, Options};

use crate::common::{open, open_with, tens, tens_per_segment};

thread_local! {
    /// The point to die at, and how many times to pass it before.
    static ARMED: Cell<Option<(&'static str, u32)>> = const { Cell::new(None) };
}

fn hook(point: &'static str) {
    match ARMED.get() {
        Some((armed, 0)) if armed == point => resume_unwind(Box::new(point)),
        Some((armed, passes)) if armed == point => ARMED.set(Some((armed, passes - 1))),
        _ => {}
    }
}

/// Groups of one to three frames, a snapshot after every second group, and retirement after each snapshot.
fn live(dir: &Path, acknowledged: &Cell<u64>) {
    let options = Options { crash: hook, torn: true, ..tens_per_segment(3) };
    let mut journal = open_with(dir, options).unwrap().journal;
    for group in 0u64.. {
        let from = journal.durable() as usize;
        if from >= 24 {
            return;
        }
        let payloads = &tens(30)[from..from + 1 + group as usize % 3];
        for payload in payloads {
            journal.append(payload).unwrap();
        }
        acknowledged.set(journal.sync().unwrap());
        if group % 2 == 1 {
            journal.snapshot(tens(acknowledged.get() as usize).into_iter()).unwrap();
            journal.retire().unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_point_loses_nothing_that_was_acknowledged() {
    for point in CRASH_POINTS {
        let mut crashes = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let acknowledged = Cell::new(0);
            ARMED.set(Some((point, crashes)));
            let died = catch_unwind(AssertUnwindSafe(|| live(dir.path(), &acknowledged))).is_err();
            ARMED.set(None);
            let seen = open(dir.path()).unwrap_or_else(|e| panic!("{point}, hit {crashes}: {e}"));
            let found = seen.payloads.len();
            assert!(found as u64 >= acknowledged.get(), "{point}, hit {crashes}");
            assert_eq!(seen.payloads, tens(found), "{point}, hit {crashes}");
            assert_eq!(
                seen.opened.torn.is_some(),
                died && point == "journal-append-torn",
                "{point}, hit {crashes}"
            );
            assert!(journal::verify(dir.path()).unwrap().is_clean(), "{point}, hit {crashes}");
            drop(seen);
            // Life goes on to its end.
            live(dir.path(), &acknowledged);
            assert!(open(dir.path()).unwrap().payloads.len() >= 24, "{point}, hit {crashes}");
            if !died {
                break;
            }
            crashes += 1;
        }
        assert!(crashes >= 3, "{point} was met {crashes} times");
    }
}
