/// The iris table that the product ships.
pub const IRIS: &str = include_str!("../../deploy/jobs/iris.csv");

/// A job over the hosted iris table; fields are changed by struct update.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the job and of its model.
    pub name: &'static str,
    /// `mlp` (libtorch) or `softmax` (the pure-Rust reference).
    pub arch: &'static str,
    /// The width of the hidden layer of an `mlp`. Its weights are a file of their own from 2048 on; smaller ones
    /// travel in the journal.
    pub hidden: usize,
    /// The value of `data.partition`.
    pub partition: &'static str,
    /// The table of `[local]`.
    pub local: &'static str,
    /// Rounds.
    pub rounds: u32,
    /// Quorum.
    pub min: u32,
    /// Cohort.
    pub max: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Lines at the end of `[rounds]`.
    pub more: &'static str,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            name: "iris",
            arch: "softmax",
            hidden: 128,
            partition: r#"{ kind = "iid" }"#,
            local: "optimizer = \"sgd\"\nlr = 0.05\nepochs = 2\nbatch = 16",
            rounds: 3,
            min: 2,
            max: 3,
            seed: 7,
            more: "",
        }
    }
}

impl Job {
    /// The job file.
    pub fn toml(&self) -> String {
        let Self { name, arch, hidden, partition, local, rounds, min, max, seed, more } = self;
        let hidden = if *arch == "mlp" { format!("hidden = [{hidden}]") } else { String::new() };
        format!(
            r#"
name = "{name}"
task = "classification"

[model]
arch = "{arch}"
{hidden}

[data]
name = "iris"
hosted = "iris.csv"
target = "species"
holdout = 0.2
partition = {partition}

[local]
{local}

[rounds]
count = {rounds}
cohort = {{ min = {min}, max = {max} }}
deadline = "60s"
seed = {seed}
{more}

[aggregate]
reduction = "mean"
server = {{ kind = "sgd", lr = 1.0 }}
"#
        )
    }
}

/// A job that needs no data and no libtorch: every worker answers at once. By default all of them are needed in
/// every round, so that the same run has the same bits whatever happens to its processes.
#[derive(Clone, Debug)]
pub struct Load {
    /// Name of the job and of its model.
    pub name: &'static str,
    /// Length of an update, 4 bytes each.
    pub parameters: usize,
    /// `random` or `one-hot`.
    pub update: &'static str,
    /// Shards.
    pub workers: usize,
    /// The value of `rounds.cohort`; empty: all of them.
    pub cohort: &'static str,
    /// Rounds.
    pub rounds: u32,
    /// The value of `aggregate.server`.
    pub server: &'static str,
    /// The value of `rounds.deadline`.
    pub deadline: &'static str,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            name: "load",
            parameters: 1000,
            update: "random",
            workers: 3,
            cohort: "",
            rounds: 8,
            server: r#"{ kind = "sgd", lr = 1.0 }"#,
            deadline: "60s",
        }
    }
}

impl Load {
    /// The job file.
    pub fn toml(&self) -> String {
        let Self { name, parameters, update, workers, cohort, rounds, server, deadline } = self;
        let all = format!("{{ min = {workers}, max = {workers} }}");
        let cohort = if cohort.is_empty() { &all } else { *cohort };
        format!(
            r#"
name = "{name}"
task = "synthetic"

[model]
parameters = {parameters}

[synthetic]
update = "{update}"

[data]
shards = {workers}

[rounds]
count = {rounds}
cohort = {cohort}
deadline = "{deadline}"
seed = 7

[aggregate]
server = {server}
"#
        )
    }
}
