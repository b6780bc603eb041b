//! The index is only a look-up: whatever happens to it, the journal brings it back.

use std::{fs, path::Path, time::Duration};

use journal::{
    Journal, OpenError, Options,
    entry::{Change, Entry},
};
use params::Rng;
use serde_json::Value;
use tests::{Federation, command, run_program, serve_with};

use crate::common::{JOB, timed, workers};

const SEEDS: u64 = 10;

/// What an operator sees of a federation.
fn seen(federation: &Federation) -> [Value; 5] {
    let all: [&[&str]; 5] = [
        &["run", "ls"],
        &["run", "show", "load-1"],
        &["model", "ls", "load"],
        &["model", "show", "load@best"],
        &["worker", "ls"],
    ];
    all.map(|args| {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        let mut shown = federation.cli(&args).json();
        forget_times(&mut shown);
        shown
    })
}

/// When a worker was last seen is nobody's promise, and after a restart none is there.
fn forget_times(shown: &mut Value) {
    match shown {
        Value::Array(all) => {
            all.retain(|one| one.get("device").is_none());
            all.iter_mut().for_each(forget_times);
        }
        Value::Object(fields) => fields.values_mut().for_each(forget_times),
        _ => {}
    }
}

/// Damages the index as `seed` says; tells how.
fn damage(index: &Path, seed: u64) -> String {
    let mut rng = Rng::new(20_261_124, &["index", &seed.to_string()]);
    let mut files: Vec<_> = fs::read_dir(index)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.metadata().unwrap().len() > 0)
        .collect();
    files.sort();
    // The log of sled, but each of the others too.
    let others: Vec<_> = files.iter().filter(|path| !path.ends_with("db")).collect();
    let file = match seed % 3 {
        2 => others[seed as usize / 3 % others.len()].clone(),
        _ => index.join("db"),
    };
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let mut bytes = fs::read(&file).unwrap();
    let what = match (seed / 2) % 4 {
        0 => {
            bytes.truncate(rng.below(bytes.len() as u64) as usize);
            format!("{name} has {} bytes left", bytes.len())
        }
        1 => {
            fs::remove_file(&file).unwrap();
            return format!("{name} is gone");
        }
        _ => {
            let flips = 1 + rng.below(200);
            for _ in 0..flips {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            format!("{flips} bits of {name} flipped")
        }
    };
    fs::write(&file, bytes).unwrap();
    what
}

#[test]
fn an_index_that_is_damaged_or_gone_comes_back_whole() {
    let mut federation = Federation::start();
    {
        let _sites = workers(&federation);
        federation.complete(&JOB.replace("100000", "8"), &[]);
    }
    let token = federation.invite("reader", "eve");
    let expected = seen(&federation);
    federation.coordinator().signal("TERM");
    assert_eq!(federation.coordinator().wait(), Some(0));
    federation.kill();
    let (home, kept) = (federation.home(), federation.path("kept"));
    let text = |path: &Path| path.display().to_string();
    command("cp", &["-a", &text(&home), &text(&kept)]).unwrap();
    let mut failures = Vec::new();
    for seed in 0..=SEEDS {
        fs::remove_dir_all(&home).unwrap();
        command("cp", &["-a", &text(&kept), &text(&home)]).unwrap();
        let index = home.join("data/index");
        let what = match seed {
            SEEDS => {
                fs::remove_dir_all(&index).unwrap();
                "the index is gone".to_owned()
            }
            _ => damage(&index, seed),
        };
        let mut process = serve_with(&federation, &[], &format!("index-{seed}.log"));
        process.wait_for_log("coordinator ready");
        let found = seen(&federation);
        if found != expected {
            failures.push(format!("seed {seed}, {what}: {found:#?}"));
        }
        let reader = federation.path(&format!("eve-{seed}"));
        let joined =
            federation.cli_as(&reader, &["join", "--coordinator", &federation.grpc(), "--token", &token], "");
        if joined.code != 0 {
            failures.push(format!("seed {seed}, {what}: the invitation: {joined:?}"));
        }
        let log = process.log();
        let how = log.lines().find(|line| line.contains("index"));
        eprintln!("seed {seed}: {what}: {}", how.unwrap_or("opened as it is"));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_hundred_thousand_entries_rebuild_the_index_in_time() {
    const ENTRIES: u64 = 100_000;
    let mut federation = Federation::start();
    federation.grpc();
    federation.coordinator().signal("TERM");
    assert_eq!(federation.coordinator().wait(), Some(0));
    federation.kill();
    let data = federation.home().join("data");
    let visit = &mut |_: journal::Item<'_>| Ok::<(), String>(());
    let opened: Result<_, OpenError<String>> =
        Journal::open(&data.join("journal"), Options::default(), visit);
    let (mut journal, _) = opened.unwrap();
    for n in 0..ENTRIES {
        // As large as the record of a version, under as many keys as a year of rounds.
        let change = Change { key: format!("load/{:05}", n % 20_000), value: Some(vec![b'1'; 300]) };
        journal.append(&Entry { changes: vec![change], ..Entry::default() }.encode()).unwrap();
        if n % 64 == 0 {
            journal.sync().unwrap();
        }
    }
    let last = journal.sync().unwrap();
    fs::remove_dir_all(data.join("index")).unwrap();
    let mut process = serve_with(&federation, &[], "rebuild.log");
    let ((), took) = timed(|| process.wait_for_log("coordinator ready"));
    assert!(process.log().contains("rebuilt the index from the journal"), "{}", process.log());
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));
    let (opening, again) = timed(|| {
        run_program("conclave-coordinator", &["check", "--home", &federation.home().display().to_string()])
    });
    assert!(opening.ok().contains(&format!("journal: {} entries", last + 1)), "{}", opening.out);
    eprintln!(
        "rebuilt the index from {last} entries: ready after {took:?}; `check` of the same: {again:?} (a debug build)"
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
}
