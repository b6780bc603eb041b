//! Rules about the repository itself. A failure lists every offender and the reason of the rule.
#![allow(clippy::unwrap_used, clippy::panic)]

mod dependencies;
mod documents;
mod graph;
mod licences;
mod scripts;
mod sizes;
mod source;
mod tree;
mod words;

/// Fails with all offenders of a rule.
#[track_caller]
fn none(offenders: &[String], reason: &str) {
    assert!(offenders.is_empty(), "{reason}:\n  {}\n", offenders.join("\n  "));
}
