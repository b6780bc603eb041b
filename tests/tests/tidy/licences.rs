//! Licences of everything that is linked or builds us, and that `deny.toml` says the same.

use crate::{graph::graph, none, tree};

/// Licences that a product under Apache-2.0 can be shipped with.
const ALLOWED: [&str; 8] =
    ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "Unicode-3.0", "Zlib"];

#[test]
fn every_package_has_a_licence_from_the_list() {
    let mut offenders = Vec::new();
    for package in &graph().packages {
        let licence = package.licence.as_deref().unwrap_or("");
        if !allows(licence, &ALLOWED) {
            offenders.push(format!("{} {}: '{licence}'", package.name, package.version));
        }
    }
    none(&offenders, "licences that the list does not allow");
}

#[test]
fn the_list_holds_no_more_than_is_needed() {
    let idle = |licence: &&&str| {
        let rest: Vec<&str> = ALLOWED.iter().copied().filter(|other| *other != **licence).collect();
        graph().packages.iter().all(|package| allows(package.licence.as_deref().unwrap_or(""), &rest))
    };
    let idle: Vec<String> = ALLOWED.iter().filter(idle).map(ToString::to_string).collect();
    none(&idle, "licences that no package needs any more");
}

#[test]
fn deny_toml_has_the_same_list() {
    let file = tree::files().iter().find(|file| file.path == "deny.toml").expect("deny.toml is there");
    let deny: toml::Table = file.text.parse().unwrap();
    let listed: Vec<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(listed, ALLOWED);
}

/// Whether an SPDX expression can be met from `list`; `/` is the old way to write OR.
fn allows(expression: &str, list: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    any_of(&mut rest, list) == Some(true) && rest.is_empty()
}

/// `None`: not an expression.
fn any_of(words: &mut &[&str], list: &[&str]) -> Option<bool> {
    let mut met = all_of(words, list)?;
    while let Some(rest) = words.strip_prefix(&["OR"]) {
        *words = rest;
        met |= all_of(words, list)?;
    }
    Some(met)
}

fn all_of(words: &mut &[&str], list: &[&str]) -> Option<bool> {
    let mut met = term(words, list)?;
    while let Some(rest) = words.strip_prefix(&["AND"]) {
        *words = rest;
        met &= term(words, list)?;
    }
    Some(met)
}

fn term(words: &mut &[&str], list: &[&str]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let met = any_of(words, list)?;
        *words = words.strip_prefix(&[")"])?;
        return Some(met);
    }
    // An exception only adds rights; the licence itself decides.
    if let Some(rest) = words.strip_prefix(&["WITH"]) {
        *words = rest.get(1..)?;
    }
    Some(list.contains(first))
}

#[test]
fn expressions_are_read_as_spdx() {
    let met = |expression| allows(expression, &["MIT", "ISC"]);
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR X) AND ISC", "MIT AND ISC OR X"] {
        assert!(met(good), "{good}");
    }
    assert!(met("X OR MIT WITH Some-exception"));
    for bad in ["", "X", "MIT AND X", "(MIT OR ISC) AND X", "MIT OR", "(MIT", "MIT ISC", "MIT) OR ISC"] {
        assert!(!met(bad), "{bad}");
    }
}
