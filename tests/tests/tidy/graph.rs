//! The dependency graph, from `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use serde_json::Value;

use crate::tree;

/// Every package that this platform builds, and how they depend on each other.
pub(crate) struct Graph {
    pub(crate) packages: Vec<Package>,
    /// Normal dependencies of each package, by position. Cargo resolves weak features loosely here:
    /// a package may be listed that no build takes in.
    normal: Vec<Vec<usize>>,
}

/// One package.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    /// A member of this workspace.
    pub(crate) ours: bool,
    /// `publish = false`.
    pub(crate) private: bool,
    /// What its manifest declares, with the kind (`normal`, `dev`, `build`), optional ones included.
    pub(crate) declared: Vec<(String, String)>,
}

/// The graph of this workspace.
pub(crate) fn graph() -> &'static Graph {
    static GRAPH: OnceLock<Graph> = OnceLock::new();
    GRAPH.get_or_init(|| {
        let host = String::from_utf8(tree::output("rustc", &["-vV"])).unwrap();
        let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        // Packages of other platforms are not there without a network.
        let args = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host];
        Graph::read(&serde_json::from_slice(&tree::output("cargo", &args)).unwrap())
    })
}

impl Graph {
    fn read(metadata: &Value) -> Self {
        let members: BTreeSet<&str> = texts(&metadata["workspace_members"]).collect();
        let listed = metadata["packages"].as_array().unwrap();
        let packages = listed.iter().map(|package| Package::read(package, &members)).collect();
        let index: BTreeMap<&str, usize> =
            listed.iter().enumerate().map(|(at, package)| (package["id"].as_str().unwrap(), at)).collect();
        let mut normal = vec![Vec::new(); listed.len()];
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let at = index[node["id"].as_str().unwrap()];
            for dependency in node["deps"].as_array().unwrap() {
                let kinds = dependency["dep_kinds"].as_array().unwrap();
                if kinds.iter().any(|kind| kind["kind"].is_null()) {
                    normal[at].push(index[dependency["pkg"].as_str().unwrap()]);
                }
            }
        }
        Self { packages, normal }
    }

    /// Our own packages.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.ours)
    }

    /// All that `name` links, itself left out.
    pub(crate) fn reach(&self, name: &str) -> BTreeSet<&str> {
        let start = self.packages.iter().position(|package| package.ours && package.name == name);
        let start = start.unwrap_or_else(|| panic!("there is no package '{name}' in this workspace"));
        let (mut seen, mut next) = (BTreeSet::from([start]), vec![start]);
        while let Some(at) = next.pop() {
            next.extend(self.normal[at].iter().filter(|other| seen.insert(**other)));
        }
        seen.iter().filter(|at| **at != start).map(|at| self.packages[*at].name.as_str()).collect()
    }
}

impl Package {
    fn read(package: &Value, members: &BTreeSet<&str>) -> Self {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        let declared = |dependency: &Value| {
            let kind = dependency["kind"].as_str().unwrap_or("normal").to_owned();
            (dependency["name"].as_str().unwrap().to_owned(), kind)
        };
        Self {
            name: text("name"),
            version: text("version"),
            licence: package["license"].as_str().map(str::to_owned),
            ours: members.contains(package["id"].as_str().unwrap()),
            private: package["publish"].as_array().is_some_and(Vec::is_empty),
            declared: package["dependencies"].as_array().unwrap().iter().map(declared).collect(),
        }
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap())
}

#[test]
fn reaches_what_is_behind_others() {
    let metadata = serde_json::json!({
        "workspace_members": ["a"],
        "packages": [package("a"), package("b"), package("c"), package("d")],
        "resolve": { "nodes": [
            { "id": "a", "deps": [edge("b", None), edge("d", Some("dev"))] },
            { "id": "b", "deps": [edge("c", None), edge("a", None)] },
        ] },
    });
    let graph = Graph::read(&metadata);
    assert_eq!(graph.reach("a"), BTreeSet::from(["b", "c"]));
    assert_eq!(graph.ours().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["a"]);
}

fn package(name: &str) -> Value {
    serde_json::json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT", "dependencies": [] })
}

fn edge(to: &str, kind: Option<&str>) -> Value {
    serde_json::json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] })
}
