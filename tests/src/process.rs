use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// The longest that anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Built with optimisation: the programs are too, and their logs do not slow them down.
const MEASURING: bool = !cfg!(debug_assertions);

/// Waits until `condition` gives a value; panics with `what` when it never does.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        // Nothing wakes this thread; it looks again.
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// A program of this workspace in the profile of the tests, built when it is not fresh.
pub(crate) fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--bins"]).current_dir(root);
        match MEASURING {
            // What is measured here trains nothing: libtorch would only cost minutes.
            true => {
                build.args(["--release", "--no-default-features", "-p=cli", "-p=coordinator", "-p=worker"])
            }
            false => build.arg("--workspace"),
        };
        let built = build.status().expect("cargo runs, it built this test");
        assert!(built.success(), "the binaries do not build");
        // target/<profile>/deps/<this test>
        let test = std::env::current_exe().expect("the path of this test");
        test.ancestors().nth(2).expect("target/<profile> above this test").to_owned()
    });
    folder.join(name)
}

/// A program in the background, with its output in a file; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program of this workspace.
    pub fn start(name: &str, args: &[String], log: PathBuf) -> Self {
        let level =
            if MEASURING { "info" } else { "debug,h2=info,hyper=info,tower=info,sled=info,rustls=info" };
        let out = File::create(&log).expect("create log");
        let err = out.try_clone().expect("share log");
        let child = Command::new(program(name))
            .args(args)
            .env_remove("CONCLAVE_HOME")
            .env("CONCLAVE_LOG", level)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("start {name}: {e}"));
        Self { child, log }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until a line of its output contains `text`.
    pub fn wait_for_log(&mut self, text: &str) {
        wait_for(&format!("'{text}' in {}", self.log.display()), || {
            let log = self.log();
            if log.contains(text) {
                return Some(());
            }
            let ended = self.child.try_wait().expect("ask for the process");
            assert!(ended.is_none(), "the process ended without '{text}':\n{log}");
            None
        });
    }

    /// SIGKILL: no chance to say goodbye.
    pub fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name, for instance `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "signal {name}");
    }

    /// Waits for its end and tells the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let what = format!("the end of the process with log {}", self.log.display());
        wait_for(&what, || self.child.try_wait().expect("ask for the process")).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            #[allow(clippy::print_stderr)]
            {
                eprintln!("--- {}\n{}", self.log.display(), tail.join("\n"));
            }
        }
    }
}
