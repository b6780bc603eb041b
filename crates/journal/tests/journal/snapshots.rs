use std::fs;

use journal::{Reason, WriteError};

use crate::common::{
    HEADER, add, damage, flip, image, open, open_with, segment, snapshot, tens, tens_per_segment,
};

#[test]
fn a_snapshot_has_these_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path()).unwrap().journal;
    add(&mut journal, &[b"abc".to_vec()]);
    assert_eq!(journal.snapshot([b"state".to_vec()].into_iter()).unwrap(), 1);
    let bytes = fs::read(snapshot(dir.path(), 1)).unwrap();
    let log = fs::read(segment(dir.path(), 1)).unwrap();
    let hash = params::Digest::of(&log[HEADER + 8..]);
    let mut expected = b"CNCLVSNP\x01\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    expected.extend(hash.as_bytes());
    let mut prev = params::Digest::of(&expected);
    for (seq, payload) in [(1u64, &b"state"[..]), (1, b"")] {
        let hashed = [&seq.to_le_bytes()[..], &[0; 8], prev.as_bytes(), payload].concat();
        prev = params::Digest::of(&hashed);
        expected.extend((payload.len() as u32).to_le_bytes());
        expected.extend(&prev.as_bytes()[..4]);
        expected.extend(hashed);
    }
    assert_eq!(bytes, expected);
}

#[test]
fn opening_begins_with_the_newest_and_falls_back_to_the_older() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(2)).unwrap().journal;
    for n in [3, 5] {
        let durable = journal.durable() as usize;
        add(&mut journal, &tens(n)[durable..]);
        journal.snapshot(tens(n).into_iter()).unwrap();
    }
    add(&mut journal, &tens(8)[5..]);
    drop(journal);
    let seen = open(dir.path()).unwrap();
    assert_eq!((seen.payloads, seen.opened.snapshot, seen.opened.frames), (tens(8), Some(5), 3));
    let newest = snapshot(dir.path(), 5);
    let bytes = fs::read(&newest).unwrap();
    // Every byte and every length matters.
    for at in (0..bytes.len()).filter(|at| !(8..12).contains(at)) {
        flip(&newest, at);
        let seen = open(dir.path()).unwrap();
        assert_eq!((seen.payloads, seen.opened.snapshot, seen.opened.frames), (tens(8), Some(3), 5), "{at}");
        assert_eq!(seen.opened.skipped[0].file, newest);
        assert_eq!(journal::verify(dir.path()).unwrap().damaged_snapshots, seen.opened.skipped);
        flip(&newest, at);
    }
    for len in 0..bytes.len() {
        fs::write(&newest, &bytes[..len]).unwrap();
        assert_eq!(open(dir.path()).unwrap().opened.snapshot, Some(3), "{len}");
    }
    fs::write(&newest, [&bytes[..], b"x"].concat()).unwrap();
    assert_eq!(open(dir.path()).unwrap().opened.snapshot, Some(3));
}

#[test]
fn a_snapshot_of_another_history_is_noticed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, extra) in [(&dir, b"a"), (&other, b"b")] {
        let mut journal = open_with(folder.path(), tens_per_segment(2)).unwrap().journal;
        add(&mut journal, &[extra.to_vec(), b"same".to_vec(), b"same".to_vec()]);
        journal.snapshot(std::iter::empty()).unwrap();
    }
    fs::copy(snapshot(other.path(), 3), snapshot(dir.path(), 3)).unwrap();
    let damage = damage(open(dir.path()));
    assert_eq!((damage.seq, damage.reason), (3, Reason::OtherSnapshot));
    assert!(!journal::verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_mark_is_written_while_the_journal_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(2)).unwrap().journal;
    add(&mut journal, &tens(3));
    journal.append(&tens(4)[3]).unwrap();
    let mark = journal.mark();
    assert_eq!(mark.seq(), 3);
    let writer = std::thread::spawn(move || mark.write(tens(3).into_iter()).unwrap());
    add(&mut journal, &tens(20)[4..]);
    assert_eq!(writer.join().unwrap(), 3);
    let seen = open(dir.path()).unwrap();
    assert_eq!((seen.payloads, seen.opened.snapshot), (tens(20), Some(3)));
}

#[test]
fn a_refused_snapshot_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path()).unwrap().journal;
    add(&mut journal, &tens(1));
    let before = image(dir.path());
    let error = journal.snapshot([b"x".to_vec(), Vec::new()].into_iter()).unwrap_err();
    assert!(matches!(error, WriteError::Append(_)) && !error.is_fatal());
    assert_eq!(image(dir.path()), before);
    add(&mut journal, &tens(2)[1..]);
}

#[test]
fn only_what_the_two_newest_good_snapshots_do_not_need_is_retired() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(2)).unwrap().journal;
    // Segments 1-2, 3-4, 5-6, 7-8, 9.
    for n in [2, 5, 6, 9] {
        let durable = journal.durable() as usize;
        add(&mut journal, &tens(n)[durable..]);
        if n != 9 {
            journal.snapshot(tens(n).into_iter()).unwrap();
        }
        if n == 2 {
            assert_eq!(journal.retire().unwrap(), journal::Retired::default());
        }
    }
    // With a damaged one among them, the two others count, and nothing is at or below the first but 1-2.
    flip(&snapshot(dir.path(), 6), 60);
    let retired = journal.retire().unwrap();
    assert_eq!((retired.snapshots.len(), retired.segments), (0, vec![segment(dir.path(), 1)]));
    flip(&snapshot(dir.path(), 6), 60);
    let retired = journal.mark().retire().unwrap();
    assert_eq!(retired.snapshots, [snapshot(dir.path(), 2)]);
    assert_eq!(retired.segments, [segment(dir.path(), 3)]);
    assert_eq!(journal::first_seq(dir.path()).unwrap(), Some(5));
    assert_eq!(journal.retire().unwrap(), journal::Retired::default());
    assert!(journal::verify(dir.path()).unwrap().is_clean());
    assert_eq!(open(dir.path()).unwrap().payloads, tens(9));
    flip(&snapshot(dir.path(), 6), 60);
    let seen = open(dir.path()).unwrap();
    assert_eq!((seen.payloads, seen.opened.snapshot), (tens(9), Some(5)));
}
