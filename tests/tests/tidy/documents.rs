//! Pages name things that are there.

use std::collections::BTreeMap;

use crate::{
    none,
    tree::{self, File, line},
};

/// What a path in backticks starts with.
const FOLDERS: [&str; 8] =
    ["deploy/", "docs/", "crates/", "tests/", "proto/", "coordinator/src/", "worker/src/", "cli/src/"];

fn pages() -> impl Iterator<Item = &'static File> {
    tree::files().iter().filter(|file| file.path.ends_with(".md"))
}

#[test]
fn links_lead_somewhere() {
    let mut offenders = Vec::new();
    for page in pages() {
        for (at, target) in links(&prose(&page.text)) {
            if let Err(why) = resolve(&page.path, &target) {
                offenders.push(format!("{}:{}: {target}: {why}", page.path, line(&page.text, at)));
            }
        }
    }
    none(&offenders, "relative links lead to a file, and anchors to a heading");
}

#[test]
fn named_paths_exist() {
    let mut offenders = Vec::new();
    for page in pages().filter(|page| !page.path.contains("/tests/")) {
        for (at, path) in named_paths(&page.text) {
            if !tree::root().join(&path).exists() {
                offenders.push(format!("{}:{}: {path}", page.path, line(&page.text, at)));
            }
        }
    }
    none(&offenders, "pages name files that are there");
}

/// A dependency is added on purpose: with a line that says what it is for.
#[test]
fn every_dependency_has_its_reason() {
    let manifest: toml::Table = page_of("Cargo.toml").parse().unwrap();
    let named = manifest["workspace"]["dependencies"].as_table().unwrap().iter();
    let foreign = named.filter(|(_, spec)| spec.get("path").is_none()).map(|(name, _)| name.clone());
    let foreign: std::collections::BTreeSet<String> = foreign.collect();
    let page = page_of("docs/dependencies.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let listed = rows.map(|(name, _)| name.to_owned()).filter(|name| name != "Library");
    let listed: std::collections::BTreeSet<String> = listed.collect();
    assert_eq!(listed, foreign, "docs/dependencies.md on the left, Cargo.toml on the right");
}

fn page_of(path: &str) -> &'static str {
    let file = tree::files().iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("{path} is not there")).text
}

/// The text with code blanked, fenced or in line; same length.
fn prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut fenced, mut inline) = (false, false);
    let blank = |c: char| " ".repeat(c.len_utf8());
    for row in text.split_inclusive('\n') {
        let fence = row.trim_start().starts_with("```");
        for c in row.chars() {
            inline ^= c == '`' && !fence && !fenced;
            let code = (fence || fenced || inline || c == '`') && c != '\n';
            out += &if code { blank(c) } else { c.to_string() };
        }
        fenced ^= fence;
        // Spans of code may wrap, but not over an empty line.
        inline &= !row.trim().is_empty();
    }
    out
}

/// `[text](target)`, `![text](target)` and `[label]: target`, in order.
fn links(prose: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in prose.match_indices("](") {
        let rest = &prose[at + 2..];
        let target = &rest[..rest.find([')', ' ', '\n']).unwrap_or(rest.len())];
        found.push((at, target.to_owned()));
    }
    for (at, _) in prose.match_indices("]: ") {
        let start = prose[..at].rfind('\n').map_or(0, |newline| newline + 1);
        if prose[start..at].starts_with('[') {
            found.extend(prose[at + 3..].split_whitespace().next().map(|target| (at, target.to_owned())));
        }
    }
    found
}

/// Checks a link of the page at `from`; addresses are not ours to check.
fn resolve(from: &str, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let relative = if path.is_empty() { from.to_owned() } else { format!("{folder}/{path}") };
    let relative = relative.trim_start_matches('/');
    let file = tree::root().join(relative);
    if path.starts_with('/') || !file.exists() {
        return Err("no such file".to_owned());
    }
    if anchor.is_empty() || !relative.ends_with(".md") {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    if anchors(&text).iter().any(|other| other == anchor) {
        Ok(())
    } else {
        Err("no such heading".to_owned())
    }
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut fenced = false;
    let mut found = Vec::new();
    for row in text.lines() {
        fenced ^= row.trim_start().starts_with("```");
        let title = row.trim_start_matches('#');
        if fenced || title.len() == row.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(slug.clone()).or_default();
        found.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    found
}

/// Paths of ours in backticks and fences, without what only stands for a name: of `crates/x/<name>.rs`
/// that is the folder.
fn named_paths(text: &str) -> Vec<(usize, String)> {
    let prose = prose(text);
    let mut found = Vec::new();
    for folder in FOLDERS {
        for (at, _) in text.match_indices(folder) {
            let before = text[..at].strip_suffix("./").unwrap_or(&text[..at]).chars().next_back();
            // Only code, and only the start of a path.
            if !prose[at..].starts_with(' ') || before.is_some_and(|c| !"` \n\t'\"(=".contains(c)) {
                continue;
            }
            let rest = &text[at..];
            let end =
                rest.find(|c: char| c.is_whitespace() || "`'\",;:()|".contains(c)).unwrap_or(rest.len());
            let path = rest[..end].trim_end_matches('.');
            found.push((at, real_part(path)));
        }
    }
    found
}

/// The folders in front of the first part that stands for a name.
fn real_part(path: &str) -> String {
    let stands = |part: &&str| {
        let stem = part.split('.').next().unwrap_or("");
        let capital = !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_uppercase()) && stem.len() <= 1;
        part.contains(['<', '*', '{', '$', '…']) || stem == "x" || capital
    };
    let parts: Vec<&str> = path.split('/').take_while(|part| !stands(part)).collect();
    parts.join("/")
}

#[test]
fn pages_are_read_as_markdown() {
    let text = "[a](b.md#c) `[d](e)` é\n```\n[f](g)\n```\n![h](i.png \"t\")\n[j]: k.md\n";
    let targets: Vec<String> = links(&prose(text)).into_iter().map(|(_, target)| target).collect();
    assert_eq!(targets, ["b.md#c", "i.png", "k.md"]);
    assert_eq!(prose(text).len(), text.len());
    let page = "# One `two`, three!\n```\n# not\n```\n## One\n## One\n#no\n";
    assert_eq!(anchors(page), ["one-two-three", "one", "one-1"]);
    assert!(resolve("README.md", "Cargo.toml").is_ok() && resolve("docs/x.md", "../Cargo.toml").is_ok());
    assert!(resolve("README.md", "nothing.md").is_err() && resolve("tests/fuzz/README.md", "#no").is_err());
}

#[test]
fn paths_are_found_in_code_only() {
    let text = "deploy/a `deploy/b.sh --keep` `x/deploy/c`\n```\ndeploy/d.sh\n./deploy/e.sh\n```\n`crates/f/src/x.rs` `docs/<g>.md`";
    let paths: Vec<String> = named_paths(text).into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, ["deploy/b.sh", "deploy/d.sh", "deploy/e.sh", "docs", "crates/f/src"]);
}
