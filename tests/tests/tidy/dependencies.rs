//! Who may depend on whom: a crate is earned by a dependency that it must not have.

use std::collections::BTreeSet;

use crate::{graph::graph, none, tree};

/// Which of our packages each of ours may name, outside its tests. A new line here is a decision about
/// the architecture: it belongs into ARCHITECTURE.md as well.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("params", &[]),
    ("aggregate", &["params"]),
    ("data", &["params"]),
    ("job", &["params"]),
    ("journal", &["params", "round"]),
    ("model", &["params"]),
    ("round", &["params"]),
    ("update", &["job", "params"]),
    ("proto", &["params"]),
    ("service", &[]),
    ("identity", &["params", "proto", "service"]),
    ("cli", &["identity", "job", "params", "proto", "service"]),
    ("worker", &["data", "identity", "job", "model", "params", "proto", "round", "service", "update"]),
    (
        "coordinator",
        &[
            "aggregate",
            "data",
            "identity",
            "job",
            "journal",
            "model",
            "params",
            "proto",
            "round",
            "service",
            "update",
        ],
    ),
    ("tests", &[]),
];

/// What each of ours must not link, also not through others.
const MUST_NOT_LINK: [(&str, &[&str]); 11] = [
    ("aggregate", &["tokio", "tonic", "sled", "tch", "torch-sys"]),
    ("round", &["tokio", "tonic", "sled", "tch", "torch-sys"]),
    ("params", &["tokio", "tonic", "sled", "tch", "torch-sys"]),
    ("data", &["tokio", "tonic", "sled", "tch", "torch-sys"]),
    ("job", &["tokio", "tonic", "sled", "tch", "torch-sys"]),
    ("journal", &["tokio", "tonic", "sled", "tch", "torch-sys"]),
    ("update", &["tokio", "tonic", "sled", "tch", "torch-sys"]),
    ("model", &["tokio", "tonic", "sled"]),
    ("identity", &["sled", "tch", "torch-sys"]),
    ("cli", &["model", "sled", "tch", "torch-sys"]),
    ("worker", &["sled"]),
];

/// Dependencies that only one of ours may name, in any table of its manifest.
const OWNED: [(&str, &str); 3] = [("tch", "model"), ("torch-sys", "model"), ("sled", "coordinator")];

/// Two versions of these would not work together, or double what a review must cover.
const ONE_VERSION: [&str; 5] = ["prost", "rustls", "tokio", "tonic", "tch"];

/// Providers of cryptography beside aws-lc-rs.
const OTHER_CRYPTO: [&str; 5] = ["native-tls", "openssl", "openssl-sys", "ring", "mbedtls"];

const BINARIES: [&str; 3] = ["cli", "coordinator", "worker"];

#[test]
fn dependencies_point_one_way() {
    let ours: BTreeSet<&str> = graph().ours().map(|package| package.name.as_str()).collect();
    let mut offenders = Vec::new();
    for package in graph().ours() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package.name) else {
            offenders.push(format!("{} is not in the table", package.name));
            continue;
        };
        for (name, kind) in &package.declared {
            if kind != "dev" && ours.contains(name.as_str()) && !allowed.contains(&name.as_str()) {
                offenders.push(format!("{} -> {name}", package.name));
            }
        }
    }
    offenders
        .extend(MAY_USE.iter().filter(|(name, _)| !ours.contains(name)).map(|(n, _)| format!("{n} is gone")));
    none(&offenders, "dependencies that MAY_USE does not draw");
}

#[test]
fn pure_crates_and_the_command_line_stay_light() {
    let mut offenders = Vec::new();
    for (package, banned) in MUST_NOT_LINK {
        let reach = graph().reach(package);
        let found = banned.iter().filter(|name| reach.contains(*name));
        offenders.extend(found.map(|name| format!("{package} links {name}")));
    }
    none(&offenders, "a pure crate has no runtime or store, the command line neither libtorch nor sled");
}

#[test]
fn libtorch_and_sled_have_one_owner() {
    let mut offenders = Vec::new();
    for package in graph().ours() {
        for (name, _) in &package.declared {
            let foreign = OWNED.iter().find(|(owned, owner)| owned == name && *owner != package.name);
            offenders.extend(foreign.map(|(_, owner)| format!("{} names {name}, use {owner}", package.name)));
        }
    }
    none(&offenders, "only one crate may name each of these");
}

#[test]
fn there_is_one_provider_of_cryptography() {
    // `cargo tree` knows what is built; `cargo metadata` also lists what weak features only mention.
    let mut offenders = Vec::new();
    for package in BINARIES {
        let args = ["tree", "--locked", "--offline", "-e", "normal,build", "--prefix", "none", "-p", package];
        let tree = String::from_utf8(tree::output("cargo", &args)).unwrap();
        let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(built.contains("aws-lc-rs"), "{package} is built with aws-lc-rs");
        let other = OTHER_CRYPTO.iter().filter(|name| built.contains(*name));
        offenders.extend(other.map(|name| format!("{package} is built with {name}")));
    }
    none(&offenders, "aws-lc-rs is the one provider of cryptography");
}

#[test]
fn the_large_ones_have_one_version() {
    let mut offenders = Vec::new();
    for name in ONE_VERSION {
        let versions: Vec<&str> =
            graph().packages.iter().filter(|p| p.name == name).map(|p| p.version.as_str()).collect();
        if versions.len() != 1 {
            offenders.push(format!("{name}: {versions:?}"));
        }
    }
    none(&offenders, "one version each, and still in use");
}

#[test]
fn our_packages_are_private_and_take_the_lints_of_the_workspace() {
    let mut offenders = Vec::new();
    for package in graph().ours().filter(|package| !package.private) {
        offenders.push(format!("{}: publish.workspace = true is missing", package.name));
    }
    for file in tree::files().iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let manifest: toml::Table = file.text.parse().unwrap();
        let inherits = |table: &str| manifest.get(table)?.get("workspace")?.as_bool();
        if inherits("lints") != Some(true) {
            offenders.push(format!("{}: [lints] workspace = true is missing", file.path));
        }
    }
    none(&offenders, "packages are not published, and lints are set in one place");
}
