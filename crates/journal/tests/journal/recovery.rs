use std::fs;

use journal::{Reason, recover};

use crate::common::{
    HEAD, HEADER, add, damage, flip, image, make, open, open_with, restore, segment, snapshot, tens,
    tens_per_segment,
};

const FRAME: usize = HEAD + 10;

#[test]
fn damage_in_each_segment_keeps_what_is_before_it() {
    // Segments 1-3, 4-6, 7-9; the damaged frame, what is moved, what is given up.
    for (seq, moved, bytes) in [
        (2u64, &[1u64, 4, 7][..], 2 * FRAME + 2 * (HEADER + 3 * FRAME)),
        (4, &[4, 7], 3 * FRAME + HEADER + 3 * FRAME),
        (8, &[7], 2 * FRAME),
    ] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), tens_per_segment(3), &tens(9));
        let first = (seq - 1) / 3 * 3 + 1;
        flip(&segment(dir.path(), first), HEADER + (seq - first) as usize * FRAME + 9);
        let before = image(dir.path());
        let recovered = recover(dir.path(), 42).unwrap();
        assert_eq!(recovered.last, seq - 1);
        assert_eq!((recovered.frames, recovered.seqs), (9 - seq, Some((seq + 1, 9))));
        assert_eq!(recovered.bytes, bytes as u64);
        assert_eq!(recovered.found[0].seq, seq);
        let mut originals = recovered.moved.clone();
        originals.sort();
        let aside = dir.path().join("damaged-42");
        assert_eq!(originals, moved.iter().map(|first| segment(&aside, *first)).collect::<Vec<_>>());
        for path in &originals {
            assert_eq!(fs::read(path).unwrap(), before[path.file_name().unwrap().to_str().unwrap()]);
        }
        let after = image(dir.path());
        let again = recover(dir.path(), 42).unwrap();
        assert_eq!((again.last, again.moved.len(), again.bytes), (seq - 1, 0, 0));
        assert_eq!(image(dir.path()), after);
        let mut seen = open_with(dir.path(), tens_per_segment(3)).unwrap();
        assert_eq!(seen.payloads, tens(9)[..seq as usize - 1]);
        add(&mut seen.journal, &tens(9)[seq as usize - 1..]);
        assert_eq!(open(dir.path()).unwrap().payloads, tens(9));
        assert!(journal::verify(dir.path()).unwrap().is_clean());
    }
}

#[test]
fn a_damaged_header_costs_no_frame() {
    for first in [1, 4, 7] {
        for at in [0, 13, 20] {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path(), tens_per_segment(3), &tens(9));
            let before = image(dir.path());
            flip(&segment(dir.path(), first), at);
            damage(open(dir.path()));
            let recovered = recover(dir.path(), 1).unwrap();
            assert_eq!((recovered.last, recovered.frames, recovered.bytes), (9, 0, 0));
            let after = image(dir.path());
            assert!(before.iter().all(|(name, bytes)| after[name] == *bytes));
        }
    }
}

#[test]
fn segments_behind_a_missing_one_are_moved() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(3), &tens(9));
    fs::remove_file(segment(dir.path(), 4)).unwrap();
    let recovered = recover(dir.path(), 1).unwrap();
    assert_eq!((recovered.last, recovered.frames, recovered.seqs), (3, 3, Some((7, 9))));
    assert_eq!(open(dir.path()).unwrap().payloads, tens(3));
}

#[test]
fn a_snapshot_saves_what_is_behind_damage_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(9)).unwrap().journal;
    add(&mut journal, &tens(4));
    journal.snapshot(tens(4).into_iter()).unwrap();
    add(&mut journal, &tens(20)[4..]);
    flip(&segment(dir.path(), 1), HEADER + FRAME + 9);
    assert_eq!(damage(open(dir.path())).seq, 2);
    let recovered = recover(dir.path(), 1).unwrap();
    assert_eq!((recovered.last, recovered.frames), (20, 0));
    let seen = open(dir.path()).unwrap();
    assert_eq!((seen.payloads, seen.opened.snapshot), (tens(20), Some(4)));
    assert_eq!(journal::first_seq(dir.path()).unwrap(), Some(5));
    assert!(journal::verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_snapshot_alone_is_enough_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(2)).unwrap().journal;
    add(&mut journal, &tens(5));
    journal.snapshot(tens(5).into_iter()).unwrap();
    drop(journal);
    for first in [1, 3, 5] {
        fs::remove_file(segment(dir.path(), first)).unwrap();
    }
    assert_eq!(damage(open(dir.path())).reason, Reason::Missing { found: 0 });
    assert_eq!(recover(dir.path(), 1).unwrap().last, 5);
    let mut seen = open(dir.path()).unwrap();
    assert_eq!(seen.payloads, tens(5));
    add(&mut seen.journal, &tens(6)[5..]);
    assert_eq!(open(dir.path()).unwrap().payloads, tens(6));
}

#[test]
fn a_snapshot_ahead_of_the_segments_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(9)).unwrap().journal;
    add(&mut journal, &tens(5));
    journal.snapshot(tens(5).into_iter()).unwrap();
    let path = segment(dir.path(), 1);
    fs::File::options().write(true).open(&path).unwrap().set_len((HEADER + 3 * FRAME) as u64).unwrap();
    let damage = damage(open(dir.path()));
    assert_eq!((damage.seq, damage.reason), (4, Reason::Behind { snapshot: 5 }));
    assert_eq!(recover(dir.path(), 1).unwrap().last, 5);
    assert_eq!(open(dir.path()).unwrap().payloads, tens(5));
}

#[test]
fn a_damaged_snapshot_is_moved_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(2)).unwrap().journal;
    add(&mut journal, &tens(3));
    journal.snapshot(tens(3).into_iter()).unwrap();
    flip(&snapshot(dir.path(), 3), 60);
    let recovered = recover(dir.path(), 9).unwrap();
    assert_eq!((recovered.last, recovered.frames, recovered.found.len()), (3, 0, 1));
    assert_eq!(recovered.moved, [snapshot(&dir.path().join("damaged-9"), 3)]);
    let seen = open(dir.path()).unwrap();
    assert_eq!((seen.payloads, seen.opened.skipped.len()), (tens(3), 0));
}

#[test]
fn a_recovery_that_was_interrupted_is_run_again() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(3), &tens(9));
    flip(&segment(dir.path(), 4), HEADER + FRAME + 9);
    let damaged = image(dir.path());
    recover(dir.path(), 1).unwrap();
    let mended = image(dir.path());
    // The order of its steps: the original is kept, the prefix takes its place, segments move, the last one first.
    let name = |first: u64| format!("{first:020}.seg");
    let mut kept = damaged.clone();
    kept.insert(format!("damaged-1/{}", name(4)), damaged[&name(4)].clone());
    let mut replaced = kept.clone();
    replaced.insert(name(4), mended[&name(4)].clone());
    let mut linked = replaced.clone();
    linked.insert(format!("damaged-1/{}", name(7)), damaged[&name(7)].clone());
    for state in [kept, replaced, linked] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("damaged-1")).unwrap();
        restore(dir.path(), &state);
        damage(open(dir.path()));
        assert_eq!(recover(dir.path(), 1).unwrap().last, 4);
        let after = image(dir.path());
        assert!(mended.iter().all(|(name, bytes)| after[name] == *bytes));
        assert_eq!(open(dir.path()).unwrap().payloads, tens(4));
    }
}
