//! Weights that rot.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tests::{Federation, IRIS, Job, Site, run_program};

use crate::common::digests;

const ROWS: &str = "[[5.1, 3.5, 1.4, 0.2], [6.9, 3.1, 5.4, 2.3]]";

type Damage = fn(&PathBuf);

/// What is done to the weights of version 2.
const DAMAGES: [(&str, Damage); 3] = [
    ("truncated", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("flipped", |path| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
    ("gone", |path| fs::remove_file(path).unwrap()),
];

#[test]
fn a_version_with_damaged_weights_fails_alone() {
    let mut federation = Federation::start();
    let mut digest = Vec::new();
    {
        let _sites: Vec<Site> =
            ["ada", "ben"].iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
        let job = Job { arch: "mlp", max: 2, ..Job::default() }.toml();
        // 131 KB of weights: too many to travel in the journal.
        let wide = job.replace("hidden = [128]", "hidden = [4096]");
        federation.complete(&wide, &[("iris.csv", IRIS.as_bytes())]);
        digest.extend(digests(&federation, "iris"));
    }
    let victim = federation.home().join("data/blobs").join(&digest[1][..2]).join(&digest[1]);
    let whole = fs::read(&victim).unwrap();
    let home = federation.home().display().to_string();
    for (what, damage) in DAMAGES {
        federation.kill();
        fs::write(&victim, &whole).unwrap();
        damage(&victim);
        let checked = run_program("conclave-coordinator", &["check", "--home", &home]);
        checked.fails(1);
        let fault = checked.out.lines().find(|line| line.starts_with("FAULT")).unwrap();
        assert!(
            fault.contains(&digest[1]) && fault.contains("iris:2") && fault.contains("restore"),
            "{what}: {fault}"
        );
        assert_eq!(checked.out.matches("FAULT").count(), 1, "{}", checked.out);
        federation.serve();
        let to = federation.path("pulled");
        let to = to.to_str().unwrap();
        let pulled = federation.cli(&["model", "pull", "iris:2", "--to", to]);
        let predicted = federation.cli_with(&["predict", "iris:2", "--output", "json"], ROWS);
        for refused in [&pulled, &predicted] {
            let error = refused.fails(1);
            assert!(error.contains(&digest[1]) && error.contains("check"), "{what}: {error}");
        }
        for (version, expected) in [(1, &digest[0]), (3, &digest[2])] {
            let name = format!("iris:{version}");
            let answer: Value = federation.cli_with(&["predict", &name, "--output", "json"], ROWS).json();
            assert_eq!(answer["digest"], **expected, "{what}");
            let to = federation.path(&format!("pulled-{what}-{version}"));
            federation.cli(&["model", "pull", &name, "--to", to.to_str().unwrap()]).ok();
            let bytes = fs::read(to.join("model.safetensors")).unwrap();
            assert_eq!(params::Digest::of(&bytes).to_string(), **expected, "{what}");
        }
    }
}
