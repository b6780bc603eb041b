//! A full disk, which is a file system of a few pages: needs root.

use std::{fs, path::Path, process::Command};

use journal::WriteError;

use crate::common::{open_with, segments_of};

/// A mounted file system, unmounted at the end.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn mount(at: &Path) -> Result<Mount<'_>, String> {
    let output = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "none"]).arg(at).output();
    match output {
        Ok(output) if output.status.success() => Ok(Mount(at)),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_full_disk_loses_nothing_and_can_be_tried_again() {
    for segment_bytes in [1 << 20, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let _mount = match mount(dir.path()) {
            Ok(mount) => mount,
            Err(why) => {
                println!("SKIPPED: a full disk needs a small file system, and mount says: {why}");
                return;
            }
        };
        let folder = dir.path().join("journal");
        let mut journal = open_with(&folder, segments_of(segment_bytes)).unwrap().journal;
        let ballast = dir.path().join("ballast");
        fs::write(&ballast, vec![1; 60_000]).unwrap();
        let payload = |n: u64| format!("{n:->5000}").into_bytes();
        for n in 1..=40 {
            journal.append(&payload(n)).unwrap();
            if n > 20 {
                continue;
            }
            match journal.sync() {
                Ok(seq) => assert_eq!(seq, n),
                Err(error) => {
                    assert!(matches!(error, WriteError::Full { .. }) && !error.is_fatal(), "{error}")
                }
            }
        }
        let durable = journal.durable();
        assert!((5..20).contains(&durable), "{durable}");
        for _ in 0..3 {
            assert!(matches!(journal.sync(), Err(WriteError::Full { .. })));
            assert_eq!((journal.durable(), journal.next_seq()), (durable, 41));
        }
        assert!(matches!(journal.snapshot([vec![1; 50_000]].into_iter()), Err(WriteError::Full { .. })));
        // What is on the full disk is whole.
        assert_eq!(journal::verify(&folder).unwrap().seqs, Some((1, durable)));
        assert!(journal::verify(&folder).unwrap().is_clean());
        fs::remove_file(&ballast).unwrap();
        // Room for some of them: the larger part of the buffer follows as space is found.
        let more = journal.sync();
        assert!(matches!(more, Err(WriteError::Full { .. })), "40 frames of 5 kB are more than 128 kB");
        let status = Command::new("mount").args(["-o", "remount,size=1m"]).arg(dir.path()).status().unwrap();
        assert!(status.success());
        assert_eq!(journal.sync().unwrap(), 40);
        assert_eq!(journal.buffered(), 0);
        drop(journal);
        let seen = open_with(&folder, segments_of(segment_bytes)).unwrap();
        assert_eq!(seen.payloads, (1..=40).map(payload).collect::<Vec<_>>());
        assert_eq!(seen.opened.torn, None);
    }
}
