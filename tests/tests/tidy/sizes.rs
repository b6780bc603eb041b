//! Files and functions that one can read in one go.

use crate::{
    none,
    source::{item_end, sources, words},
    tree,
};

/// Lines of a file, tests left out.
const FILE_LINES_MAX: usize = 500;

/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn files_are_short() {
    let long = sources().iter().filter(|source| source.production_lines > FILE_LINES_MAX);
    let offenders: Vec<String> =
        long.map(|source| format!("{}: {} lines", source.path, source.production_lines)).collect();
    none(&offenders, &format!("files have at most {FILE_LINES_MAX} lines, tests left out: split by concern"));
}

#[test]
fn functions_are_short() {
    let mut offenders = Vec::new();
    for source in sources() {
        let long = functions(&source.production).into_iter().filter(|(_, _, n)| *n > FUNCTION_LINES_MAX);
        offenders.extend(long.map(|(line, name, n)| format!("{}:{line}: {name} has {n} lines", source.path)));
    }
    none(&offenders, &format!("functions have at most {FUNCTION_LINES_MAX} lines: name the parts"));
}

/// The first line, name and length of each function that has a body.
fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name = code[at + 2..].trim_start();
        let name = &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())];
        let end = item_end(code, at);
        // Types of functions have no name, functions of traits may have no body.
        if !name.is_empty() && code[..end].ends_with('}') {
            found.push((tree::line(code, at), name, 1 + code[at..end].matches('\n').count()));
        }
    }
    found
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let code = "fn a() {}\ntrait T {\n fn b(&self, x: [u8; 2]);\n fn c(f: fn(u8) -> u8)\n where A: B,\n {\n  {\n  }\n }\n}\n";
    assert_eq!(functions(code), [(1, "a", 1), (4, "c", 6)]);
}
