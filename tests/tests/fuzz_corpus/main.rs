//! Everything that parses foreign bytes meets its corpus, and mutations of it; see `tests/fuzz/README.md`.
//!
//! A target is a function of bytes: it panics when a parser does, or when one of its own rules is broken.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;
mod identity_targets;
mod journal_target;
mod machine_target;
mod mutate;
mod targets;
mod update_target;
mod wire_targets;

macro_rules! fuzz {
    ($($name:ident: $target:path,)*) => {
        /// The names of all targets, which are the names of their corpus folders.
        const TARGETS: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            harness::run(stringify!($name), $target);
        })*
    };
}

fuzz! {
    certificate: identity_targets::certificate,
    chunks: wire_targets::chunks,
    csv: targets::csv,
    digest: targets::digest,
    infer_request: wire_targets::infer_request,
    invitation: identity_targets::invitation,
    job_file: targets::job_file,
    journal: journal_target::journal,
    model_difference: update_target::model_difference,
    name: targets::name,
    optimizer_state: targets::optimizer_state,
    pem: identity_targets::pem,
    round_machine: machine_target::round_machine,
    safetensors: targets::safetensors,
    signing_request: identity_targets::signing_request,
    status_detail: wire_targets::status_detail,
    token: identity_targets::token,
    update_part: wire_targets::update_part,
    update_payload: update_target::update_payload,
    update_stream: wire_targets::update_stream,
    work: wire_targets::work,
}

#[test]
fn every_corpus_has_a_target() {
    let mut folders: Vec<String> = std::fs::read_dir(harness::corpus_root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, TARGETS);
}
