use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::process::{Process, program, wait_for};

/// A coordinator with its own home, and whatever joins it.
#[derive(Debug)]
pub struct Federation {
    coordinator: Option<Process>,
    starts: usize,
    env: Vec<(&'static str, &'static str)>,
    // Last: the folder goes after the processes in it.
    dir: tempfile::TempDir,
}

/// A worker's home, and its process while it runs.
#[derive(Debug)]
pub struct Site {
    /// Its name in the federation.
    pub name: String,
    /// Its home folder.
    pub home: PathBuf,
    process: Option<Process>,
    starts: usize,
}

/// What a command of the command line did.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output, of a command that must succeed.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "exit code {}\n{}{}", self.code, self.out, self.err);
        &self.out
    }

    /// Standard output as JSON, of a command that must succeed.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// Standard error, of a command that must end with `code`.
    pub fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "exit code {}, expected {code}\n{}{}", self.code, self.out, self.err);
        &self.err
    }
}

impl Federation {
    /// A new coordinator on free ports.
    pub fn start() -> Self {
        let mut new = Self::prepared();
        new.serve();
        new
    }

    /// As [`Federation::start`], on a disk so slow that a round takes some tenth of a second: the test can act in the
    /// middle of a run.
    pub fn start_slow() -> Self {
        Self::start_with_env(&[], &[("CONCLAVE_FAULT", "journal-sync-slow-ms:20")])
    }

    /// A coordinator's home with `config` in place of some lines: `(key, whole new line)`.
    pub fn start_with(config: &[(&str, &str)]) -> Self {
        Self::start_with_env(config, &[])
    }

    /// As [`Federation::start_with`], with variables for every process of the coordinator.
    pub fn start_with_env(config: &[(&str, &str)], env: &[(&'static str, &'static str)]) -> Self {
        let mut new = Self::prepared();
        new.env = env.to_vec();
        let file = new.home().join("config.toml");
        let text = fs::read_to_string(&file).expect("config.toml");
        let lines = text.lines().map(|line| {
            let changed = config.iter().find(|(key, _)| line.starts_with(&format!("{key} =")));
            changed.map_or(line, |(_, new)| new)
        });
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("write config.toml");
        new.serve();
        new
    }

    fn prepared() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let new = Self { coordinator: None, starts: 0, env: Vec::new(), dir };
        let home = new.home().display().to_string();
        run(program("conclave-coordinator"), &["init", "--home", &home], "").ok();
        new
    }

    /// The coordinator's home.
    pub fn home(&self) -> PathBuf {
        self.path("coordinator")
    }

    /// A path in the federation's temporary folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the coordinator on the home that is there, on the ports it had before, if any.
    pub fn serve(&mut self) {
        self.launch(&[]);
        self.coordinator().wait_for_log("coordinator ready");
    }

    /// As [`Federation::serve`], with variables for the process, and without waiting until it serves: it may end
    /// before that.
    pub fn launch(&mut self, env: &[(&str, &str)]) {
        let before = self.addresses();
        // A crash leaves the file behind: it must be the new process that writes it.
        let _ = fs::remove_file(self.home().join("addresses.json"));
        let port = |key: &str| {
            let known = before.as_ref().and_then(|a| a[key].as_str().map(str::to_owned));
            known.unwrap_or_else(|| "127.0.0.1:0".to_owned())
        };
        let args = [
            "serve",
            "--home",
            &self.home().display().to_string(),
            "--listen",
            &port("grpc"),
            "--http",
            &port("http"),
        ];
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        self.starts += 1;
        let log = self.path(&format!("coordinator-{}.log", self.starts));
        let all: Vec<(&str, &str)> = self.env.iter().chain(env).copied().collect();
        self.coordinator = Some(Process::start("conclave-coordinator", &args, log, &all));
    }

    fn addresses(&self) -> Option<Value> {
        let kept = fs::read_to_string(self.path("addresses")).ok();
        let text = fs::read_to_string(self.home().join("addresses.json")).ok().or(kept)?;
        fs::write(self.path("addresses"), &text).expect("remember the addresses");
        serde_json::from_str(&text).ok()
    }

    /// `host:port` of the mutual-TLS port.
    pub fn grpc(&self) -> String {
        self.addresses().expect("a started coordinator")["grpc"].as_str().expect("an address").to_owned()
    }

    /// `host:port` of plain HTTP.
    pub fn http(&self) -> String {
        self.addresses().expect("a started coordinator")["http"].as_str().expect("an address").to_owned()
    }

    /// The coordinator's process.
    pub fn coordinator(&mut self) -> &mut Process {
        self.coordinator.as_mut().expect("a started coordinator")
    }

    /// SIGKILL for the coordinator.
    pub fn kill(&mut self) {
        self.addresses();
        self.coordinator().kill();
        self.coordinator = None;
    }

    /// What all its processes printed so far, the oldest first.
    pub fn log(&self) -> String {
        let read = |n| fs::read_to_string(self.path(&format!("coordinator-{n}.log"))).unwrap_or_default();
        (1..=self.starts).map(read).collect()
    }

    /// Runs `conclave` as the operator.
    pub fn cli(&self, args: &[&str]) -> Ran {
        self.cli_with(args, "")
    }

    /// Runs `conclave` as the operator, with something on standard input.
    pub fn cli_with(&self, args: &[&str], stdin: &str) -> Ran {
        self.cli_as(&self.home(), args, stdin)
    }

    /// Runs `conclave` with another home.
    pub fn cli_as(&self, home: &Path, args: &[&str], stdin: &str) -> Ran {
        let mut all = vec!["--home", home.to_str().expect("a plain path")];
        all.extend(args);
        run(program("conclave"), &all, stdin)
    }

    /// Starts `conclave` as the operator in the background.
    pub fn cli_in_background(&self, args: &[&str]) -> Process {
        let mut all = vec!["--home".to_owned(), self.home().display().to_string()];
        all.extend(args.iter().map(ToString::to_string));
        Process::start("conclave", &all, self.path("conclave.log"), &[])
    }

    /// A token for a new member.
    pub fn invite(&self, role: &str, name: &str) -> String {
        self.cli(&["invite", role, name]).ok().trim().to_owned()
    }

    /// Joins a worker, without starting it.
    pub fn site(&self, name: &str) -> Site {
        let home = self.path(&format!("site-{name}"));
        let token = self.invite("worker", name);
        let args =
            ["join", "--coordinator", &self.grpc(), "--token", &token, "--home", &home.display().to_string()];
        run(program("conclave-worker"), &args, "").ok();
        Site { name: name.to_owned(), home, process: None, starts: 0 }
    }

    /// Joins and starts a worker, and waits until the coordinator knows it.
    pub fn worker(&self, name: &str, args: &[&str]) -> Site {
        let mut site = self.site(name);
        site.start(args);
        site.wait_for_log("registered");
        site
    }

    /// Joins a member of another role; tells its home.
    pub fn member(&self, role: &str, name: &str) -> PathBuf {
        let home = self.path(&format!("{role}-{name}"));
        let token = self.invite(role, name);
        let args = ["join", "--coordinator", &self.grpc(), "--token", &token];
        self.cli_as(&home, &args, "").ok();
        home
    }

    /// Writes a job file (and files beside it) and starts a run; tells its name.
    pub fn start_run(&self, job: &str, files: &[(&str, &[u8])]) -> String {
        self.try_run(job, files).json()["run"].as_str().expect("the name of the run").to_owned()
    }

    /// Writes a job file (and files beside it) and tries to start a run.
    pub fn try_run(&self, job: &str, files: &[(&str, &[u8])]) -> Ran {
        let folder = self.path("jobs");
        fs::create_dir_all(&folder).expect("create folder");
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).expect("write file");
        }
        let file = folder.join("job.toml");
        fs::write(&file, job).expect("write job file");
        self.cli(&["run", "start", file.to_str().expect("a plain path"), "--output", "json"])
    }

    /// A run as `run show` prints it.
    pub fn show(&self, run: &str) -> Value {
        self.cli(&["run", "show", run, "--output", "json"]).json()
    }

    /// Waits for the end of a run; tells what `run show` prints.
    pub fn wait_for_end(&self, run: &str) -> Value {
        wait_for(&format!("the end of run {run}"), || {
            let shown = self.show(run);
            let state = shown["state"].as_str().expect("a state").to_owned();
            matches!(state.as_str(), "completed" | "failed" | "stopped").then_some(shown)
        })
    }

    /// Waits until a run has committed `rounds` rounds.
    pub fn wait_for_rounds(&self, run: &str, rounds: usize) -> Value {
        wait_for(&format!("round {rounds} of run {run}"), || {
            let shown = self.show(run);
            (shown["rounds"].as_array().expect("rounds").len() >= rounds).then_some(shown)
        })
    }

    /// How often this run went on after a restart of the coordinator.
    pub fn restarts(&self, run: &str) -> usize {
        self.events(run).iter().filter(|event| event["kind"] == "coordinator-restarted").count()
    }

    /// What `run show --events` tells of a run, oldest first.
    pub fn events(&self, run: &str) -> Vec<Value> {
        let told = self.cli(&["run", "show", run, "--events", "--output", "jsonl"]);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        told.ok().lines().map(parse).collect()
    }

    /// Runs a job to its end, which must be `completed`.
    pub fn complete(&self, job: &str, files: &[(&str, &[u8])]) -> Value {
        let run = self.start_run(job, files);
        let shown = self.wait_for_end(&run);
        assert_eq!(shown["state"], "completed", "{shown:#}");
        shown
    }
}

impl Site {
    /// Starts the worker's process.
    pub fn start(&mut self, args: &[&str]) {
        self.starts += 1;
        let log = self.home.with_file_name(format!("worker-{}-{}.log", self.name, self.starts));
        let mut all = vec!["run".to_owned(), "--home".to_owned(), self.home.display().to_string()];
        all.extend(args.iter().map(ToString::to_string));
        self.process = Some(Process::start("conclave-worker", &all, log, &[]));
    }

    /// What all its processes printed so far, the oldest first.
    pub fn log(&self) -> String {
        let read = |n| {
            let name = format!("worker-{}-{n}.log", self.name);
            fs::read_to_string(self.home.with_file_name(name)).unwrap_or_default()
        };
        (1..=self.starts).map(read).collect()
    }

    /// How often its log says `what` of each round of each run: `trained`, `update accepted`.
    pub fn count(&self, what: &str) -> BTreeMap<(String, u32), usize> {
        let mut found = BTreeMap::new();
        let begin = format!(" {what} run=");
        for line in self.log().lines() {
            let Some((_, fields)) = line.split_once(&begin) else { continue };
            let mut words = fields.split_whitespace();
            let run = words.next().expect("the name of a run").to_owned();
            let round = words.next().and_then(|word| word.strip_prefix("round="));
            // A process that was killed may not have come to the end of its line.
            let Some(round) = round.and_then(|round| round.parse().ok()) else { continue };
            *found.entry((run, round)).or_default() += 1;
        }
        found
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a started worker")
    }

    /// Waits until a line of its output contains `text`.
    pub fn wait_for_log(&mut self, text: &str) {
        self.process().wait_for_log(text);
    }
}

/// The digest of each version of a run, as `run show` prints it; its rounds must be numbered without a gap.
pub fn digests(shown: &Value) -> Vec<String> {
    let rounds = shown["rounds"].as_array().expect("rounds");
    let numbered = (1..).zip(rounds).all(|(number, round)| round["round"] == number);
    assert!(numbered, "{shown:#}");
    rounds.iter().map(|round| round["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// Whether the long form of a test is wanted: `CONCLAVE_NIGHTLY=1`.
pub fn nightly() -> bool {
    std::env::var_os("CONCLAVE_NIGHTLY").is_some()
}

/// Runs a program of this workspace to its end.
pub fn run_program(name: &str, args: &[&str]) -> Ran {
    run(program(name), args, "")
}

fn run(program: PathBuf, args: &[&str], stdin: &str) -> Ran {
    use std::io::Write;
    let mut child = Command::new(&program)
        .args(args)
        .env_remove("CONCLAVE_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
    // A program that reads nothing closes the pipe; that is its right.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    let done = child.wait_with_output().expect("wait for the program");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
}
