use std::fs;

use journal::{AppendError, Journal, OpenError, WriteError, first_seq, read};

use crate::common::{add, flip, image, make, open, open_with, segment, tens, tens_per_segment};

fn numbers(dir: &std::path::Path, from: u64, to: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    let count = read::<String>(dir, from..=to, |seq, payload| {
        assert_eq!(payload, tens(seq as usize).pop().unwrap());
        seen.push(seq);
        Ok(())
    });
    assert_eq!(count.unwrap(), seen.len() as u64);
    seen
}

#[test]
fn a_range_is_read_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!((first_seq(dir.path()).unwrap(), numbers(dir.path(), 1, 9)), (None, vec![]));
    make(dir.path(), tens_per_segment(3), &tens(8));
    for (from, to) in [(1, 8), (2, 7), (3, 4), (4, 4), (7, 8)] {
        assert_eq!(numbers(dir.path(), from, to), (from..=to).collect::<Vec<_>>());
    }
    assert_eq!(numbers(dir.path(), 0, u64::MAX), (1..=8).collect::<Vec<_>>());
    assert_eq!(numbers(dir.path(), 9, u64::MAX), [0u64; 0]);
    fs::remove_file(segment(dir.path(), 1)).unwrap();
    assert_eq!((first_seq(dir.path()).unwrap(), numbers(dir.path(), 1, 5)), (Some(4), vec![4, 5]));
    // What lies behind the range is not looked at.
    flip(&segment(dir.path(), 7), 60);
    assert_eq!(numbers(dir.path(), 5, 6), [5, 6]);
}

#[test]
fn reading_stops_at_an_unfinished_end_but_not_at_damage() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), tens_per_segment(3), &tens(8));
    let path = segment(dir.path(), 7);
    let bytes = fs::read(&path).unwrap();
    for len in [0, 20, 52, 60, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        let before = image(dir.path());
        assert_eq!(numbers(dir.path(), 5, u64::MAX).len(), 2 + usize::from(len > 118));
        assert_eq!(image(dir.path()), before);
    }
    flip(&segment(dir.path(), 4), 130);
    let error = read::<String>(dir.path(), 1..=u64::MAX, |_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("offset 118, frame 5"), "{error}");
    let error = read(dir.path(), 1..=9, |seq, _| if seq == 2 { Err("enough") } else { Ok(()) });
    assert!(matches!(error, Err(OpenError::Visit("enough"))));
}

#[test]
fn a_reader_beside_a_writer_sees_whole_frames_in_order() {
    const FRAMES: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with(dir.path(), tens_per_segment(7)).unwrap().journal;
    let all = tens(FRAMES as usize);
    let writer = std::thread::spawn(move || all.chunks(5).for_each(|group| add(&mut journal, group)));
    let mut most = 0;
    while most < FRAMES {
        let mut next = 1;
        let count = read::<String>(dir.path(), 1..=u64::MAX, |seq, payload| {
            assert_eq!((seq, payload), (next, format!("frame {seq:04}").as_bytes()));
            next += 1;
            Ok(())
        });
        let count = count.unwrap();
        assert!(count >= most);
        most = count;
        assert!(most == FRAMES || !writer.is_finished() || first_seq(dir.path()).unwrap() == Some(1));
    }
    writer.join().unwrap();
}

#[test]
fn a_second_writer_is_fenced_off() {
    for rolls in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = tens_per_segment(if rolls { 2 } else { 9 });
        make(dir.path(), options, &tens(2));
        let handle = || -> Journal { open_with(dir.path(), options).unwrap().journal };
        let (mut ours, mut theirs) = (handle(), handle());
        add(&mut theirs, &tens(3)[2..]);
        ours.append(b"mine").unwrap();
        let before = image(dir.path());
        let error = ours.sync().unwrap_err();
        let found = if rolls { 52 + 66 } else { 52 + 3 * 66 };
        assert!(matches!(&error, WriteError::Fenced { found: n, .. } if *n == found), "{error}");
        assert!(error.is_fatal());
        assert!(matches!(ours.append(b"x"), Err(AppendError::Stopped)));
        assert_eq!(image(dir.path()), before);
        assert_eq!(open(dir.path()).unwrap().payloads, tens(3));
    }
}
