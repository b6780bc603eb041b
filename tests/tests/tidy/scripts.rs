//! Shell scripts start alike and parse.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use crate::{none, tree};

const FIRST_LINE: &str = "#!/usr/bin/env bash";

#[test]
fn shell_scripts_run_as_they_are() {
    let mut offenders = Vec::new();
    let mut seen = 0;
    for file in tree::files() {
        let first = file.text.lines().next().unwrap_or("");
        let shebang = first.starts_with("#!") && first.ends_with("sh");
        if !file.path.ends_with(".sh") && !shebang {
            continue;
        }
        seen += 1;
        let path = tree::root().join(&file.path);
        if first != FIRST_LINE {
            offenders.push(format!("{}:1: '{first}', expected '{FIRST_LINE}'", file.path));
        }
        if std::fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0o111 {
            offenders.push(format!("{}: not executable", file.path));
        }
        let check = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        if !check.status.success() {
            offenders.push(format!("{}: {}", file.path, String::from_utf8_lossy(&check.stderr).trim()));
        }
    }
    assert!(seen >= 2, "deploy/setup.sh and .ci/run are scripts, {seen} were found");
    none(&offenders, "scripts are executable, start alike and parse");
}
