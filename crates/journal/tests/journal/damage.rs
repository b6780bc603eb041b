use std::fs;

use journal::{Fault, Kind, OpenError, Reason};

use crate::common::{
    HEAD, HEADER, add, damage, flip, image, make, open, open_with, segment, tens, tens_per_segment,
};

#[test]
fn a_journal_of_one_frame_has_these_bytes() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(9), &[b"abc".to_vec()]);
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    let mut expected = b"CNCLVSEG\x01\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    expected.extend([0; 32]);
    expected.extend([3, 0, 0, 0]);
    let mut hashed = vec![1, 0, 0, 0, 0, 0, 0, 0];
    hashed.extend([0; 8 + 32]);
    hashed.extend(b"abc");
    expected.extend(&params::Digest::of(&hashed).as_bytes()[..4]);
    expected.extend(hashed);
    assert_eq!(bytes, expected);
}

#[test]
fn damage_is_refused_with_the_place_and_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(3), &tens(8));
    let path = segment(dir.path(), 4);
    flip(&path, HEADER + HEAD + 10 + HEAD);
    let before = image(dir.path());
    let error = open(dir.path()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "the journal is damaged: {}, offset 118, frame 5: the frame does not match its check; \
             run: conclave-coordinator recover --home DIR",
            path.display()
        )
    );
    assert_eq!(image(dir.path()), before);
    let report = journal::verify(dir.path()).unwrap();
    assert_eq!((report.segments, report.frames, report.seqs), (3, 4, Some((1, 4))));
    assert_eq!(report.finding.unwrap().kind, Kind::Damage);
}

#[test]
fn a_missing_segment_is_named() {
    for (gone, file, seq, found) in [(1, 4, 1, 4), (4, 7, 4, 7)] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), tens_per_segment(3), &tens(8));
        fs::remove_file(segment(dir.path(), gone)).unwrap();
        let damage = damage(open(dir.path()));
        assert_eq!((damage.file, damage.seq), (segment(dir.path(), file), seq));
        assert_eq!(damage.reason, Reason::Missing { found });
    }
}

#[test]
fn a_torn_end_of_an_earlier_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(3), &tens(4));
    let path = segment(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let damage = damage(open(dir.path()));
    assert_eq!((damage.seq, damage.reason), (3, Reason::Short { bytes: 65 }));
}

/// Flips a byte of frame 2 of a last write of three frames, before and after another one follows.
#[test]
fn a_lost_frame_of_the_last_write_is_torn_until_a_later_one_knows_better() {
    let dir = tempfile::tempdir().unwrap();
    let options = tens_per_segment(9);
    let mut journal = open_with(dir.path(), options).unwrap().journal;
    add(&mut journal, &tens(1));
    add(&mut journal, &tens(4)[1..]);
    let path = segment(dir.path(), 1);
    let third = HEADER + 2 * (HEAD + 10);
    flip(&path, third + HEAD);
    let finding = journal::verify(dir.path()).unwrap().finding.unwrap();
    assert_eq!((finding.kind, finding.damage.seq), (Kind::TornTail, 3));
    flip(&path, third + HEAD);
    add(&mut journal, &tens(5)[4..]);
    flip(&path, third + HEAD);
    let damage = damage(open(dir.path()));
    assert_eq!((damage.seq, damage.reason), (3, Reason::Check));
    // The write of frame 5 was not durable either: without it, nobody knows of frame 3.
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let seen = open_with(dir.path(), options).unwrap();
    assert_eq!(seen.payloads, tens(2));
    let torn = seen.opened.torn.unwrap();
    assert_eq!((torn.offset, torn.bytes), (third as u64, 3 * (HEAD as u64 + 10) - 1));
}

#[test]
fn a_journal_that_ends_before_what_its_owner_knows_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let options = tens_per_segment(9);
    make(dir.path(), options, &tens(3));
    let knowing = |least| open_with(dir.path(), journal::Options { least, ..options });
    assert_eq!(knowing(3).unwrap().payloads, tens(3));
    let path = segment(dir.path(), 1);
    flip(&path, HEADER + 2 * (HEAD + 10) + HEAD);
    let before = image(dir.path());
    let error = knowing(3).err().unwrap();
    assert!(matches!(error, OpenError::Fault(Fault::Lost { last: 2, least: 3 })), "{error}");
    assert_eq!(image(dir.path()), before);
    flip(&path, HEADER + 2 * (HEAD + 10) + HEAD);
    assert!(matches!(knowing(4), Err(OpenError::Fault(Fault::Lost { last: 3, least: 4 }))));
    assert_eq!(knowing(3).unwrap().payloads, tens(3));
}

#[test]
fn whole_frames_in_the_wrong_place_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(9), &tens(3));
    let path = segment(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    let frame = |n: usize| &bytes[HEADER + (n - 1) * (HEAD + 10)..HEADER + n * (HEAD + 10)];
    fs::write(&path, [&bytes[..], frame(2)].concat()).unwrap();
    assert_eq!(damage(open(dir.path())).reason, Reason::Order { found: 2 });
    // The third frame of another history.
    let other = tempfile::tempdir().unwrap();
    make(other.path(), tens_per_segment(9), &[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
    let foreign = fs::read(segment(other.path(), 1)).unwrap();
    let third = &foreign[foreign.len() - HEAD - 1..];
    fs::write(&path, [&bytes[..HEADER], frame(1), frame(2), third].concat()).unwrap();
    let damage = damage(open(dir.path()));
    assert_eq!((damage.seq, damage.reason), (3, Reason::Chain));
}

#[test]
fn a_header_that_was_being_written_is_written_again() {
    for (len, zero) in [(0, false), (7, false), (51, false), (52, true), (30, true)] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), tens_per_segment(3), &tens(4));
        let path = segment(dir.path(), 4);
        let header = fs::read(&path).unwrap()[..HEADER].to_vec();
        let torn = if zero { vec![0; len] } else { header[..len].to_vec() };
        fs::write(&path, torn).unwrap();
        let mut seen = open_with(dir.path(), tens_per_segment(3)).unwrap();
        assert_eq!(seen.payloads, tens(3));
        let torn = seen.opened.torn.unwrap();
        assert_eq!((torn.file, torn.offset, torn.bytes), (path.clone(), 0, len as u64));
        assert_eq!(fs::read(&path).unwrap(), header);
        add(&mut seen.journal, &tens(4)[3..]);
        assert_eq!(open(dir.path()).unwrap().payloads, tens(4));
    }
}

#[test]
fn a_header_with_frames_behind_it_is_never_given_up() {
    for at in [0, 12, 20, 51] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), tens_per_segment(3), &tens(4));
        flip(&segment(dir.path(), 4), at);
        let damage = damage(open(dir.path()));
        assert_eq!((damage.file, damage.offset, damage.seq), (segment(dir.path(), 4), 0, 4));
    }
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    for (torn, name) in [(false, 1), (true, 4)] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), tens_per_segment(3), &tens(5));
        let path = segment(dir.path(), name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 2;
        bytes.truncate(if torn { HEADER } else { bytes.len() });
        fs::write(&path, bytes).unwrap();
        let before = image(dir.path());
        let refused = |fault: &Fault| matches!(fault, Fault::Format { found: 2, supported: 1, .. });
        assert!(matches!(open(dir.path()), Err(OpenError::Fault(fault)) if refused(&fault)));
        assert!(refused(&journal::verify(dir.path()).unwrap_err()));
        assert!(refused(&journal::recover(dir.path(), 1).unwrap_err()));
        assert_eq!(image(dir.path()), before);
    }
}

/// The way of a later format: what the old reader visits is appended to a journal in a new folder.
#[test]
fn an_older_format_is_rewritten_into_a_new_folder() {
    let home = tempfile::tempdir().unwrap();
    let (old, new) = (home.path().join("journal"), home.path().join("journal-new"));
    make(&old, tens_per_segment(3), &tens(8));
    let before = image(&old);
    let mut journal = open_with(&new, tens_per_segment(2)).unwrap().journal;
    let count = journal::read::<String>(&old, 1..=u64::MAX, |seq, payload| {
        // A later format changes the payload here.
        assert_eq!(journal.append(payload).unwrap(), seq);
        Ok(())
    });
    assert_eq!((count.unwrap(), journal.sync().unwrap()), (8, 8));
    assert_eq!(image(&old), before);
    fs::remove_dir_all(&old).unwrap();
    fs::rename(&new, &old).unwrap();
    assert_eq!(open(&old).unwrap().payloads, tens(8));
}

#[test]
fn an_error_of_the_visitor_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(9), &tens(2));
    let path = segment(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, [&bytes[..], b"torn"].concat()).unwrap();
    fs::write(dir.path().join("00000000000000000002.snap.tmp"), b"half").unwrap();
    let before = image(dir.path());
    let result = journal::Journal::open(dir.path(), tens_per_segment(9), &mut |item| match item {
        journal::Item::Frame { seq: 2, .. } => Err("no".to_owned()),
        _ => Ok(()),
    });
    assert!(matches!(result, Err(OpenError::Visit(text)) if text == "no"));
    assert_eq!(image(dir.path()), before);
    assert_eq!(open(dir.path()).unwrap().payloads, tens(2));
    assert_eq!(image(dir.path()).into_values().collect::<Vec<_>>(), [bytes]);
}
