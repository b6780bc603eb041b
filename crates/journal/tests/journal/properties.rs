use std::{collections::BTreeMap, fs};

use proptest::{collection::vec, prelude::*};

use crate::common::{
    HEAD, HEADER, add, damage, flip, image, make, open, open_with, restore, segment, segments_of,
};

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 1..40), vec(Just(0u8), 1..20), vec(any::<u8>(), 200..400)]
}

/// Where the frames of one segment begin, and where the last one ends.
fn bounds(payloads: &[Vec<u8>]) -> Vec<usize> {
    let ends = payloads.iter().scan(HEADER, |at, payload| {
        *at += HEAD + payload.len();
        Some(*at)
    });
    std::iter::once(HEADER).chain(ends).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_synced_is_there_after_each_opening(
        groups in vec(vec(payload(), 0..6), 0..6),
        segment_bytes in 1u64..2000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = segments_of(segment_bytes);
        let mut all = Vec::new();
        for group in &groups {
            let mut seen = open_with(dir.path(), options).unwrap();
            prop_assert_eq!(&seen.payloads, &all);
            prop_assert_eq!(&seen.opened.torn, &None);
            add(&mut seen.journal, group);
            all.extend(group.iter().cloned());
            // What is only buffered is not there.
            seen.journal.append(b"lost").unwrap();
        }
        let before = image(dir.path());
        prop_assert_eq!(&open(dir.path()).unwrap().payloads, &all);
        if !groups.is_empty() {
            prop_assert_eq!(image(dir.path()), before);
        }
        let limit = segment_bytes.max((HEADER + HEAD + 400) as u64) as usize;
        prop_assert!(image(dir.path()).values().all(|bytes| bytes.len() <= limit));
        let report = journal::verify(dir.path()).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report);
        prop_assert_eq!(report.frames, all.len() as u64);
        prop_assert_eq!(report.bytes, image(dir.path()).values().map(Vec::len).sum::<usize>() as u64);
    }

    #[test]
    fn a_cut_at_any_byte_leaves_the_whole_frames(payloads in vec(payload(), 1..6), cut: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), segments_of(1 << 20), &payloads);
        let bounds = bounds(&payloads);
        let len = *bounds.last().unwrap();
        let cut = cut.index(len + 1);
        let path = segment(dir.path(), 1);
        fs::File::options().write(true).open(&path).unwrap().set_len(cut as u64).unwrap();
        let whole = bounds.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let seen = open(dir.path()).unwrap();
        prop_assert_eq!(&seen.payloads, &payloads[..whole]);
        prop_assert_eq!(seen.opened.torn.is_some(), !bounds.contains(&cut));
        prop_assert_eq!(fs::metadata(&path).unwrap().len(), bounds[whole] as u64);
        // It goes on from there.
        let mut journal = seen.journal;
        add(&mut journal, &payloads[whole..]);
        prop_assert_eq!(open(dir.path()).unwrap().payloads, payloads);
    }

    #[test]
    fn garbage_at_the_end_is_cut(
        payloads in vec(payload(), 0..4),
        garbage in prop_oneof![vec(any::<u8>(), 1..300), vec(Just(0u8), 1..9000)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), segments_of(1 << 20), &payloads);
        let path = segment(dir.path(), 1);
        let good = fs::read(&path).unwrap();
        fs::write(&path, [&good[..], &garbage].concat()).unwrap();
        let report = journal::verify(dir.path()).unwrap();
        prop_assert_eq!(report.finding.unwrap().kind, journal::Kind::TornTail);
        let seen = open(dir.path()).unwrap();
        prop_assert_eq!(seen.payloads, payloads);
        let torn = seen.opened.torn.unwrap();
        prop_assert_eq!(&torn.file, &path);
        prop_assert_eq!((torn.offset, torn.bytes), (good.len() as u64, garbage.len() as u64));
        prop_assert_eq!(fs::read(&path).unwrap(), good);
    }

    #[test]
    fn a_flipped_byte_is_found(
        payloads in vec(payload(), 1..6),
        segment_bytes in prop_oneof![Just(1u64), Just(600), Just(1 << 20)],
        victim: prop::sample::Index,
        byte: prop::sample::Index,
    ) {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), segments_of(segment_bytes), &payloads);
        let victim = victim.index(payloads.len());
        let last = victim + 1 == payloads.len();
        let (path, offset) = locate(&image(dir.path()), victim as u64 + 1);
        let path = dir.path().join(path);
        flip(&path, offset + byte.index(HEAD + payloads[victim].len()));
        let before = image(dir.path());
        if last {
            let seen = open(dir.path()).unwrap();
            prop_assert_eq!(seen.payloads, &payloads[..victim]);
            prop_assert_eq!(seen.opened.torn.unwrap().offset, offset as u64);
        } else {
            let damage = damage(open(dir.path()));
            prop_assert_eq!((damage.seq, damage.offset, damage.file), (victim as u64 + 1, offset as u64, path));
            prop_assert_eq!(image(dir.path()), before.clone());
            let finding = journal::verify(dir.path()).unwrap().finding.unwrap();
            prop_assert_eq!((finding.kind, finding.damage.seq), (journal::Kind::Damage, victim as u64 + 1));
            prop_assert_eq!(image(dir.path()), before);
            let recovered = journal::recover(dir.path(), 7).unwrap();
            prop_assert_eq!(recovered.last, victim as u64);
            prop_assert_eq!(recovered.seqs, Some((victim as u64 + 2, payloads.len() as u64)));
            prop_assert_eq!(open(dir.path()).unwrap().payloads, &payloads[..victim]);
        }
    }

    /// The last write is on the disk in part: any of its sectors may be missing, and its end too.
    #[test]
    fn power_loss_takes_only_what_was_not_synced(
        synced in vec(vec(payload(), 1..4), 0..4),
        unsynced in vec(payload(), 1..5),
        segment_bytes in 1u64..2000,
        victim: prop::sample::Index,
        sectors in vec(any::<bool>(), 64),
        cut: prop::sample::Index,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open_with(dir.path(), segments_of(segment_bytes)).unwrap().journal;
        synced.iter().for_each(|group| add(&mut journal, group));
        let before = image(dir.path());
        add(&mut journal, &unsynced);
        let after = image(dir.path());
        let all: Vec<Vec<u8>> = synced.iter().flatten().chain(&unsynced).cloned().collect();
        let (files, least) = lose(&before, &after, victim, &sectors, cut);
        let lost = tempfile::tempdir().unwrap();
        restore(lost.path(), &files);
        // Also when a frame of the last write is missing in front of another one.
        let seen = open(lost.path()).unwrap();
        prop_assert!(seen.payloads.len() as u64 >= least);
        prop_assert_eq!(&seen.payloads[..], &all[..seen.payloads.len()]);
    }

    #[test]
    fn any_bytes_open_or_are_refused(files in vec(vec(any::<u8>(), 0..200), 1..3), magic: bool) {
        let dir = tempfile::tempdir().unwrap();
        for (at, bytes) in files.iter().enumerate() {
            let head: &[u8] = if magic { b"CNCLVSEG\x01\0\0\0\x01\0\0\0\0\0\0\0" } else { b"" };
            fs::write(segment(dir.path(), at as u64 + 1), [head, bytes].concat()).unwrap();
        }
        let before = image(dir.path());
        if open(dir.path()).is_err() {
            prop_assert_eq!(image(dir.path()), before);
        }
    }
}

/// The file and offset of a frame.
fn locate(files: &BTreeMap<String, Vec<u8>>, seq: u64) -> (String, usize) {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    for (name, bytes) in files {
        let mut at = HEADER;
        while at < bytes.len() {
            if number(&bytes[at + 8..at + 16]) == seq {
                return (name.clone(), at);
            }
            at += HEAD + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        }
    }
    panic!("frame {seq} is not there")
}

/// The files after a power loss while one of the changed segments was written, and the last frame that
/// was synced by then.
fn lose(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
    victim: prop::sample::Index,
    sectors: &[bool],
    cut: prop::sample::Index,
) -> (BTreeMap<String, Vec<u8>>, u64) {
    const SECTOR: usize = 32;
    let changed: Vec<&String> = after.keys().filter(|name| before.get(*name) != after.get(*name)).collect();
    let victim = changed[victim.index(changed.len())];
    let mut files: BTreeMap<_, _> =
        after.range(..victim.clone()).map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    // A new segment has a durable header before its first frame.
    let synced = before.get(victim).map_or(HEADER, Vec::len);
    let mut bytes = after[victim].clone();
    for at in synced..bytes.len() {
        if !sectors[at / SECTOR % sectors.len()] {
            bytes[at] = 0;
        }
    }
    bytes.truncate(synced + cut.index(bytes.len() - synced + 1));
    files.insert(victim.clone(), after[victim][..synced].to_vec());
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), &files);
    let least = open(dir.path()).unwrap().payloads.len() as u64;
    files.insert(victim.clone(), bytes);
    (files, least)
}
