//! Words that no finished text holds.

use crate::{
    none,
    source::{sources, words},
    tree::{self, line},
};

/// Left-overs in code, with the reason; found as whole words in front of `!`.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Marks of unfinished work. Split, so that this file does not hold them.
const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

/// Folders of people's machines and of images of them.
const MACHINES: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

#[test]
fn no_code_is_left_unfinished() {
    let mut offenders = Vec::new();
    for source in sources() {
        for name in MACROS {
            let calls =
                words(&source.code, name).filter(|at| source.code[at + name.len()..].starts_with('!'));
            offenders.extend(calls.map(|at| format!("{}:{}: {name}!", source.path, line(&source.code, at))));
        }
    }
    for file in tree::files() {
        for mark in MARKS {
            let found = words(&file.text, mark);
            offenders.extend(found.map(|at| format!("{}:{}: {mark}", file.path, line(&file.text, at))));
        }
    }
    none(&offenders, "unfinished work belongs into an issue");
}

#[test]
fn errors_are_values() {
    let mut offenders = Vec::new();
    for source in sources() {
        let found = source.production.match_indices(concat!(".unwr", "ap()"));
        offenders.extend(found.map(|(at, _)| format!("{}:{}", source.path, line(&source.production, at))));
    }
    none(&offenders, "outside tests, `expect` says why it holds, and all else is an error");
}

#[test]
fn no_test_is_switched_off() {
    let mut offenders = Vec::new();
    for source in sources() {
        let found = words(&source.code, "ignore").filter(|at| source.code[..*at].ends_with("#["));
        offenders.extend(found.map(|at| format!("{}:{}", source.path, line(&source.code, at))));
    }
    none(&offenders, "a test runs, or is deleted");
}

#[test]
fn unsafe_code_is_where_it_is_needed() {
    // Opens a library; maps files; calls what was compiled for AVX2. Each place says why it holds.
    const PLACES: [&str; 3] =
        ["crates/model/", "crates/service/src/memory.rs", "crates/aggregate/src/kernel.rs"];
    let mut offenders = Vec::new();
    let elsewhere = |path: &str| !PLACES.iter().any(|place| path.starts_with(place));
    for source in sources().iter().filter(|source| elsewhere(source.path)) {
        let found = words(&source.code, "unsafe");
        offenders.extend(found.map(|at| format!("{}:{}", source.path, line(&source.code, at))));
    }
    none(&offenders, "unsafe code stays where it is needed: model, service::memory, aggregate::kernel");
}

#[test]
fn no_machine_is_named() {
    let mut offenders = Vec::new();
    for file in tree::files() {
        let found = machine_paths(&file.text);
        offenders.extend(found.into_iter().map(|(at, path)| {
            let line = line(&file.text, at);
            format!("{}:{line}: {path}", file.path)
        }));
    }
    none(&offenders, "paths of one machine mean nothing on another");
}

/// Absolute paths into folders of a machine; `src/x` + a folder of that name is not one.
fn machine_paths(text: &str) -> Vec<(usize, &'static str)> {
    let absolute = |at: usize| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| {
            !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.' | '/' | '}' | ']' | '~' | '*' | ')')
        })
    };
    let mut found = Vec::new();
    for folder in MACHINES {
        found.extend(text.match_indices(folder).filter(|(at, _)| absolute(*at)).map(|(at, _)| (at, folder)));
    }
    found
}

#[test]
fn machine_paths_are_absolute() {
    let home = MACHINES[1];
    assert_eq!(machine_paths(&format!("cd {home}x, \"{home}y\"")), [(3, home), (13, home)]);
    for good in ["a", "$HOME", "${X}", "~", "https://x.org"] {
        assert_eq!(machine_paths(&format!("{good}{home}x")), [], "{good}");
    }
}
