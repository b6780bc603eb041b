//! What each command does: the one place where the parts are put together.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use identity::{ClientHome, JoinOptions, Role, Token};
use proto::PROTOCOL;
use service::{exit::Exit, files::FileError, shutdown, task::Tasks, telemetry};

use crate::{
    args::{Args, Command, Join, Output, Run},
    check,
    compute::Compute,
    disk::{cache::Cache, carry::Carry, spool::Spool},
    error::Error,
    session::{self, Worker},
    tables::Tables,
    work::Inputs,
};

/// Only one process may use an identity: the coordinator ends the session of an older one.
const LOCK_FILE: &str = "run.lock";

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<Exit, Error> {
    telemetry::init("info")?;
    // Computing and files have threads of their own. What is left here waits for the network, on one thread: a
    // call costs no switch between two.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    let ended = runtime.block_on(async {
        match args.command {
            Command::Join(join) => self::join(join, args.output).await.map(|()| Exit::Success),
            Command::Run(run) => Box::pin(train(run)).await.map(|()| Exit::Success),
            Command::Check(check) => Ok(check::check(check, args.output).await),
        }
    });
    // Not its drop, which waits for a disk that hangs.
    runtime.shutdown_background();
    ended
}

#[allow(clippy::print_stdout)]
async fn join(args: Join, output: Output) -> Result<(), Error> {
    let text = match (args.token, args.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => {
            std::fs::read_to_string(&path).map_err(|source| Error::TokenFile { path, source })?
        }
        // clap demands one of the two; an empty token has a message of its own.
        (None, None) => String::new(),
    };
    let token: Token = text.trim().parse()?;
    let options = JoinOptions {
        token,
        address: args.coordinator,
        home: &args.home.dir,
        expect_role: Some(Role::Worker),
        expect_name: args.name,
    };
    let home = identity::join(options).await?;
    let (name, folder) = (&home.principal().name, home.dir().display());
    match output {
        Output::Table => {
            println!("joined {} as worker '{name}'", home.coordinator());
            println!("start it with: conclave-worker run --home {folder}");
        }
        Output::Json | Output::Jsonl => {
            let joined = serde_json::json!({
                "role": "worker",
                "name": name.as_str(),
                "coordinator": home.coordinator(),
                "home": folder.to_string(),
            });
            println!("{joined}");
        }
    }
    Ok(())
}

async fn train(args: Run) -> Result<(), Error> {
    let tasks = Tasks::new();
    shutdown::on_signals(&tasks).map_err(Error::Start)?;
    let home = open(&args.home.dir)?;
    let _lock = lock(home.dir())?;
    let (name, coordinator) = (home.principal().name.clone(), home.coordinator().to_owned());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), worker = %name, %coordinator, "starting");
    let (compute, hardware) = Compute::start(args.host.device, args.host.threads).await?;
    for note in &hardware.notes {
        tracing::info!("device: {note}");
    }
    tracing::info!(threads = args.host.threads, "training on {}", hardware.description);
    let data = args.host.data;
    let loaded = tasks.blocking("load tables", move || Tables::load(&data)).await;
    let tables = loaded.map_err(|e| Error::Task(e.to_string()))??;
    for table in tables.announce() {
        let columns = table.columns.len();
        tracing::info!(name = table.name, rows = table.rows, columns, "offering a private table");
    }
    let (spool, kept) = in_background(&tasks, home.dir(), Spool::open).await?;
    for update in &kept {
        tracing::info!(run = %update.run, round = update.round, "an update is kept from before");
    }
    let cache = in_background(&tasks, home.dir(), Cache::open).await?;
    let carry = in_background(&tasks, home.dir(), Carry::open).await?;
    let protocol_max = args.protocol_max.unwrap_or(*PROTOCOL.end());
    let options = session::Options {
        dial: async || identity::connect(&home, None).await,
        datasets: tables.announce(),
        device: &hardware.description,
        protocol_max,
    };
    let worker = Worker {
        name,
        inputs: Box::new(Inputs::new(tables, cache, carry.clone(), tasks.clone())),
        compute,
        spool,
        carry,
        kept,
        tasks: tasks.clone(),
        upload_delay_max: args.delay_uploads_up_to.unwrap_or_default(),
        seed: service::random::u64()?,
    };
    Box::pin(session::run(worker, options, tasks.shutdown())).await.map_err(Error::Call)
}

/// Opens a part of the home on a thread that may block.
async fn in_background<T: Send + 'static>(
    tasks: &Tasks,
    home: &Path,
    open: impl FnOnce(&Path) -> Result<T, FileError> + Send + 'static,
) -> Result<T, Error> {
    let home = home.to_owned();
    let opened = tasks.blocking("open home", move || open(&home)).await;
    Ok(opened.map_err(|e| Error::Task(e.to_string()))??)
}

/// Opens the home of a worker.
pub(crate) fn open(dir: &Path) -> Result<ClientHome, Error> {
    let home = ClientHome::open(dir)?;
    if home.principal().role != Role::Worker {
        return Err(Error::NotWorker { home: dir.to_owned(), owner: home.principal().to_string() });
    }
    Ok(home)
}

/// Holds the home for this process; the system lets go of it when the process ends.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK_FILE);
    let fail = |source| Error::Lock { path: path.clone(), source };
    let file = File::create(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Occupied(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_per_home() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(Error::Occupied(_))));
        drop(held);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn a_home_without_an_identity_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = open(dir.path()) else { panic!("nobody has joined") };
        assert!(error.to_string().contains("conclave-worker join"), "{error}");
        assert_eq!(Exit::from(&error), Exit::Unauthorised);
    }
}
