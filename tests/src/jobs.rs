/// The iris table that the product ships.
pub const IRIS: &str = include_str!("../../deploy/jobs/iris.csv");

/// A job over the hosted iris table; fields are changed by struct update.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the job and of its model.
    pub name: &'static str,
    /// `mlp` (libtorch) or `softmax` (the pure-Rust reference).
    pub arch: &'static str,
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
        let Self { name, arch, partition, local, rounds, min, max, seed, more } = self;
        let hidden = if *arch == "mlp" { "hidden = [128]" } else { "" };
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
