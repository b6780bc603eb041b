//! Replays a corpus and mutations of it, and says exactly which input failed.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use params::Rng;

use crate::mutate::mutate;

/// Mutations of a target in an ordinary test run.
const ITERATIONS: u64 = 2000;

/// Bytes of a failing input that the message shows; the file has all.
const SHOWN: usize = 512;

/// One file of a corpus.
pub(crate) struct Seed {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

/// The folder that holds the corpus of each target.
pub(crate) fn corpus_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Replays the corpus of `name`, then `FUZZ_ITERATIONS` mutations under `FUZZ_SEED`.
pub(crate) fn run(name: &str, target: fn(&[u8])) {
    let corpus = corpus(&corpus_root().join(name));
    assert!(
        corpus.len() >= 3,
        "the corpus of {name} has {} inputs, good and bad ones are needed",
        corpus.len()
    );
    let iterations = number("FUZZ_ITERATIONS", ITERATIONS);
    if let Err(failure) = search(name, target, &corpus, iterations, number("FUZZ_SEED", 1)) {
        panic!("{failure}");
    }
}

fn search(name: &str, target: fn(&[u8]), corpus: &[Seed], iterations: u64, seed: u64) -> Result<(), String> {
    for input in corpus {
        attempt(name, target, &input.bytes, &input.path)?;
    }
    for iteration in 0..iterations {
        // Each iteration has its own stream: one that failed can be repeated alone.
        let mut rng = Rng::new(seed, &["fuzz", name, &iteration.to_string()]);
        let (bytes, from) = mutate(&mut rng, corpus);
        let origin = format!("FUZZ_SEED={seed}, iteration {iteration}, mutated from {from}");
        attempt(name, target, &bytes, &origin)?;
    }
    Ok(())
}

/// Runs the target on one input; an input that fails is kept in a file.
fn attempt(name: &str, target: fn(&[u8]), bytes: &[u8], origin: &str) -> Result<(), String> {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) else { return Ok(()) };
    let why = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", params::Digest::of(bytes).short()));
    let kept = match fs::write(&file, bytes) {
        Ok(()) => file.display().to_string(),
        Err(e) => format!("not kept: {e}"),
    };
    let hex: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > SHOWN { "..." } else { "" };
    Err(format!(
        "{name}: {why}\n  input: {origin}\n  kept:  {kept}\n  hex ({} bytes): {hex}{more}\n  \
         Move it to tests/fuzz/corpus/{name}/ when the defect is mended.",
        bytes.len()
    ))
}

/// The files of a corpus, by name: mutations must not depend on the file system.
fn corpus(folder: &Path) -> Vec<Seed> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<Seed> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            Seed { bytes: fs::read(&path).unwrap(), path: path.display().to_string() }
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")),
        Err(_) => default,
    }
}

#[test]
fn a_failing_input_is_named_and_kept() {
    let target = |bytes: &[u8]| assert!(bytes.len() > 3, "too short for me");
    let corpus =
        [Seed { path: "a".into(), bytes: vec![7; 20] }, Seed { path: "b".into(), bytes: vec![0xab, 0xcd] }];
    let failure = search("harness", target, &corpus, 0, 1).unwrap_err();
    for part in ["harness: too short for me", "input: b\n", "hex (2 bytes): abcd\n"] {
        assert!(failure.contains(part), "{failure}");
    }
    let kept = failure.lines().find_map(|line| line.strip_prefix("  kept:  ")).unwrap();
    assert_eq!(fs::read(kept).unwrap(), [0xab, 0xcd]);
    fs::remove_file(kept).unwrap();
    assert_eq!(search("harness", target, &corpus[..1], 0, 1), Ok(()));
}

#[test]
fn mutations_find_what_the_corpus_does_not() {
    let target = |bytes: &[u8]| assert!(bytes.first() != Some(&0xff), "found");
    let corpus = [Seed { path: "a".into(), bytes: vec![7; 20] }];
    let failure = search("mutations", target, &corpus, 100_000, 1).unwrap_err();
    assert!(failure.contains("FUZZ_SEED=1, iteration ") && failure.contains("mutated from a"), "{failure}");
    // The same seed finds the same input.
    assert_eq!(search("mutations", target, &corpus, 100_000, 1), Err(failure.clone()));
    let kept = failure.lines().find_map(|line| line.strip_prefix("  kept:  ")).unwrap();
    fs::remove_file(kept).unwrap();
}
