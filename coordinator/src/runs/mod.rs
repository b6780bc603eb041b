//! Runs: started from job files, driven to their end, resumed after a restart.
//!
//! [`Runs`] is the handle that the API uses. Each active run has one [`driver::Driver`], which owns
//! the run's `round::Machine` and executes its effects; workers see its [`Board`], people its [`View`].

mod attempt;
mod board;
mod difference;
mod driver;
mod gathered;
mod history;
mod ledger;
mod load;
mod make;
mod meet;
mod prepare;
mod replay;
mod show;
mod view;
mod weights;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, PoisonError, RwLock},
};

use job::Job;
use journal::entry::What;
use model::Device;
use params::{Digest, Name};
use round::{Event, Millis};
use service::{
    clock::Clock,
    fault::crash_point,
    task::{OnFailure, Panicked, Tasks},
};
use tokio::sync::{Mutex, mpsc, watch};

use board::Board;
pub(crate) use board::Offer;
pub(crate) use driver::{Answer, Command};
pub(crate) use gathered::{Refused, Update};
pub(crate) use history::RunEvent;
pub(crate) use load::adopt;
pub(crate) use prepare::Context;
pub(crate) use replay::Replay;
pub(crate) use show::describe_member;
pub(crate) use view::View;

use crate::{
    compute::{Compute, ComputeError},
    plan::PlanError,
    registry::{Registry, RegistryError},
    store::{Changes, RunRecord, RunState, Store, StoreError},
    workers::Workers,
};
use view::Traffic;

/// Commands that may wait for a run.
const COMMANDS_MAX: usize = 256;

/// Updates up to this size are checked and folded where they are: that takes less time than to wake a thread.
const INLINE_ELEMENTS: usize = 16 * 1024;

/// What all runs share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    /// The thread that measures candidates.
    pub(crate) evaluate: Compute,
    pub(crate) device: Device,
    pub(crate) lease_ms: Millis,
    /// The largest update that is taken.
    pub(crate) upload_bytes: u64,
    /// Free bytes below which nothing new is taken.
    pub(crate) disk_reserve: u64,
    /// That one aggregation may use.
    pub(crate) threads: NonZeroUsize,
    /// Bytes of memory for a block of all updates, where a reduction needs all of them.
    pub(crate) reduce_budget: usize,
}

/// Why a run cannot be started, found or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The job cannot become a run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No such run.
    #[error("no run '{0}'; `conclave run ls` lists them")]
    NotFound(String),
    /// The journal does not have the run.
    #[error("run '{0}' is not in the journal; `conclave-coordinator check` says what is damaged")]
    Unknown(String),
    /// The run has ended.
    #[error("run '{run}' has {state} already")]
    Ended { run: Name, state: &'static str },
    /// The name of the run is too long.
    #[error("name = \"{job}\": too long to name a run after it ({reason}), shorten it")]
    Name { job: String, reason: params::ParseNameError },
    /// What is on disk cannot be read.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

/// Why a run that was started cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriveError {
    /// The weights are no longer finite.
    #[error(
        "training diverged: tensor '{tensor}' holds {value} at {index} after aggregation; try a lower learning rate"
    )]
    Diverged { tensor: String, index: usize, value: f32 },
    #[error("aggregation: {0}")]
    Scale(#[from] aggregate::ScaleError),
    #[error("aggregation: {0}")]
    Empty(#[from] aggregate::EmptyRound),
    #[error("aggregation: {0}")]
    Weight(#[from] aggregate::WeightFault),
    #[error("aggregation: {0}")]
    Reduce(#[from] aggregate::ReduceError),
    #[error("server optimizer: {0}")]
    Optimizer(#[from] aggregate::StateError),
    #[error("evaluation: {0}")]
    Model(#[from] model::ModelError),
    #[error("evaluation: {0}")]
    Compute(#[from] ComputeError),
    #[error("weights: {0}")]
    Params(#[from] params::ParamsError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Panicked(#[from] Panicked),
    #[error("defect: {0}")]
    Defect(&'static str),
}

/// A run that has a driver, or had one in this process.
#[derive(Clone, Debug)]
struct Handle {
    context: Arc<Context>,
    view: watch::Receiver<Arc<View>>,
    board: Arc<Board>,
    traffic: Arc<Traffic>,
    commands: mpsc::Sender<Command>,
}

/// A run that has work for a worker, or expects something of it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) context: Arc<Context>,
    pub(crate) board: Arc<Board>,
    pub(crate) traffic: Arc<Traffic>,
}

/// All runs.
#[derive(Debug)]
pub(crate) struct Runs {
    shared: Arc<Shared>,
    handles: RwLock<BTreeMap<Name, Handle>>,
    /// Held while a run gets its name and while an ended one is opened again.
    starting: Mutex<()>,
}

impl Runs {
    /// Opens the runs of a home folder; those that were active go on where the journal ends.
    pub(crate) async fn open(shared: Arc<Shared>) -> Result<Self, RunError> {
        let runs = Self { shared, handles: RwLock::default(), starting: Mutex::new(()) };
        for record in runs.records().await? {
            let name = run_name(&record)?;
            // A run that was given up because its files were damaged is tried again: they may be there now.
            let goes_on = runs.shared.store.look_at_run(&name, |replay| replay.ending().is_none());
            if !goes_on.unwrap_or(record.state == RunState::Active) {
                continue;
            }
            tracing::info!(run = record.run, committed = record.committed, "resuming run");
            let active = RunRecord { state: RunState::Active, cause: String::new(), ..record.clone() };
            let resumed = runs.resume(active.clone(), None).await;
            match resumed {
                Ok(_) if active == record => {}
                Ok(_) => runs.store(active).await?,
                Err(error) => runs.give_up(record, &error).await?,
            }
        }
        Ok(runs)
    }

    /// Goes on with a run as the journal has it, with an event to begin with.
    async fn resume(&self, record: RunRecord, first: Option<Event>) -> Result<Name, RunError> {
        let name = run_name(&record)?;
        let replay =
            self.shared.store.take_run(&name).ok_or_else(|| RunError::Unknown(record.run.clone()))?;
        let kept = replay.clone();
        let driven = self.drive(record, replay, false, first).await;
        if driven.is_err() {
            self.shared.store.rest_run(name, kept);
        }
        driven
    }

    /// Ends a run that cannot be read back, so that the others go on.
    async fn give_up(&self, record: RunRecord, error: &RunError) -> Result<(), RunError> {
        tracing::error!(run = record.run, %error, "run cannot be resumed");
        let cause = format!("cannot be resumed: {error}").chars().take(1024).collect();
        let failed = RunRecord { state: RunState::Failed, cause, ..record.clone() };
        if failed != record {
            self.store(failed).await?;
        }
        Ok(())
    }

    /// Starts a run from a job file and the uploaded files that it names.
    pub(crate) async fn start(
        &self,
        job_text: String,
        files: BTreeMap<String, Digest>,
    ) -> Result<Name, RunError> {
        // One at a time: preparing holds a table or a model in memory.
        let _one_at_a_time = self.starting.lock().await;
        let shared = self.shared.clone();
        let prepare = move || -> Result<RunRecord, PlanError> {
            let job = Job::parse(&job_text)?;
            prepare::prepare(&job, &job_text, &files, &shared.store.blobs, shared.upload_bytes)
        };
        let mut record = self.blocking("prepare run", prepare).await??;
        let key = format!("counter/run/{}", record.model);
        let number = self.shared.store.get::<u64>(&key).map_err(DriveError::from)?.unwrap_or(0) + 1;
        record.run = format!("{}-{number}", record.model);
        let run = run_name(&record)?;
        record.started_unix_ms = service::clock::unix_ms();
        let (shared, opened) = (self.shared.clone(), record.clone());
        let open = move || load::open(&opened, &shared.store.blobs, shared.lease_ms);
        let machine = self.blocking("open run", open).await??;
        let mut changes = Changes::default();
        changes.put(&key, &number).map_err(DriveError::from)?;
        changes.put(&format!("run/{run}"), &record).map_err(DriveError::from)?;
        let what = What::Opened { run, saved: Box::new(machine.save()) };
        let store = &self.shared.store;
        let seq = store.append(Some(what), changes, Vec::new()).map_err(DriveError::from)?;
        store.durable(seq).await.map_err(DriveError::from)?;
        crash_point("run-opened");
        self.drive(record, Replay::new(machine), true, None).await
    }

    /// What is seen of a run, now and later.
    pub(crate) async fn watch(&self, run: &str) -> Result<watch::Receiver<Arc<View>>, RunError> {
        let not_found = || RunError::NotFound(run.chars().take(80).collect());
        let name: Name = run.parse().map_err(|_| not_found())?;
        if let Some(handle) = self.handle(&name) {
            return Ok(handle.view);
        }
        let record = self.record(&name).await?.ok_or_else(not_found)?;
        // An ended run of an earlier process: read once and shown as it is. The sender is dropped,
        // so that whoever watches learns that nothing will change.
        let shared = self.shared.clone();
        let view = self.blocking("load run", move || load::view(&shared, &record)).await??;
        Ok(watch::channel(Arc::new(view)).1)
    }

    /// Every event of a run, oldest first, replayed from the journal.
    pub(crate) async fn history(&self, run: &str) -> Result<Vec<RunEvent>, RunError> {
        let not_found = || RunError::NotFound(run.chars().take(80).collect());
        let name: Name = run.parse().map_err(|_| not_found())?;
        self.record(&name).await?.ok_or_else(not_found)?;
        let shared = self.shared.clone();
        let replay = move || shared.store.history(&name).map(|history| history::tell(&history));
        Ok(self.blocking("replay run", replay).await?.map_err(DriveError::from)?)
    }

    /// All runs, oldest first, each as its record and, where it has one, its view.
    pub(crate) async fn list(&self) -> Result<Vec<(RunRecord, Option<Arc<View>>)>, RunError> {
        let mut records = self.records().await?;
        records.sort_by_key(|r| (r.started_unix_ms, r.run.clone()));
        let view = |r: &RunRecord| self.handle(&r.run.parse().ok()?).map(|h| h.view.borrow().clone());
        Ok(records.into_iter().map(|r| (r.clone(), view(&r))).collect())
    }

    /// The views of all runs in progress, in the order of their names.
    pub(crate) fn active(&self) -> Vec<Arc<View>> {
        self.alive(|handle| Some(handle.view.borrow().clone())).into_iter().filter(|v| !v.ended).collect()
    }

    /// The work of a worker in each run that has some, with the run.
    pub(crate) fn offers(&self, worker: &Name) -> Vec<(Found, Offer)> {
        self.alive(|handle| Some((handle.found(), handle.board.read().work(worker)?.clone())))
    }

    /// Whether any run has work for this worker.
    pub(crate) fn is_working(&self, worker: &Name) -> bool {
        !self.alive(|handle| handle.board.read().work(worker).map(|_| ())).is_empty()
    }

    /// The run that waits for bytes under this lease.
    pub(crate) fn expecting(&self, worker: &Name, lease: round::Lease) -> Option<Found> {
        let found = self.alive(|handle| handle.board.read().expects(worker, lease).then(|| handle.found()));
        found.into_iter().next()
    }

    fn alive<T>(&self, look: impl Fn(&Handle) -> Option<T>) -> Vec<T> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        handles.values().filter(|handle| !handle.commands.is_closed()).filter_map(look).collect()
    }

    /// Sends a command to a run in progress.
    pub(crate) async fn command(&self, run: &Name, command: Command) -> Result<(), RunError> {
        let ended = |state| RunError::Ended { run: run.clone(), state };
        let Some(handle) = self.handle(run) else {
            // A run of an earlier process has no driver, and needs none to be over.
            let view = self.watch(run.as_str()).await?;
            let state = view.borrow().state;
            return Err(ended(state));
        };
        let sent = handle.commands.send(command).await;
        sent.map_err(|_| ended(handle.view.borrow().state))
    }

    /// Adds rounds to a run; an ended one is opened again. Returns the rounds planned in all.
    pub(crate) async fn add_rounds(&self, run: &Name, count: u32) -> Result<u32, RunError> {
        let _one_at_a_time = self.starting.lock().await;
        if let Some(handle) = self.handle(run).filter(|h| !h.view.borrow().ended) {
            let (answer, done) = tokio::sync::oneshot::channel();
            let event = round::Event::AddRounds { count };
            // A run that ends meanwhile is opened again below.
            if self.command(run, Command::Event { event, answer }).await.is_ok() {
                match done.await {
                    Ok(Ok(())) => return Ok(handle.view.borrow().planned),
                    Ok(Err(_)) => {
                        return Err(DriveError::Defect("added rounds that could not be stored").into());
                    }
                    Err(_) => {}
                }
            }
        }
        let record = self.record(run).await?.ok_or_else(|| RunError::NotFound(run.to_string()))?;
        // From where it ended: rounds that were planned and not done are not brought back.
        let planned = record.committed.saturating_add(count);
        let reopened = RunRecord { rounds: planned, state: RunState::Active, cause: String::new(), ..record };
        self.resume(reopened, Some(Event::AddRounds { count })).await?;
        Ok(planned)
    }

    async fn store(&self, record: RunRecord) -> Result<(), RunError> {
        let mut changes = Changes::default();
        changes.put(&format!("run/{}", record.run), &record).map_err(DriveError::from)?;
        Ok(self.shared.store.commit(changes).await.map_err(DriveError::from)?)
    }

    fn handle(&self, run: &Name) -> Option<Handle> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    async fn records(&self) -> Result<Vec<RunRecord>, RunError> {
        let store = self.shared.store.clone();
        let records = self.blocking("list runs", move || store.scan::<RunRecord>("run/")).await?;
        Ok(records.map_err(DriveError::from)?)
    }

    async fn record(&self, run: &Name) -> Result<Option<RunRecord>, RunError> {
        let (store, key) = (self.shared.store.clone(), format!("run/{run}"));
        let record = self.blocking("read run", move || store.get::<RunRecord>(&key)).await?;
        Ok(record.map_err(DriveError::from)?)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RunError> {
        Ok(self.shared.tasks.blocking(name, work).await.map_err(DriveError::from)?)
    }

    /// Starts the driver of a run.
    async fn drive(
        &self,
        record: RunRecord,
        replay: Replay,
        fresh: bool,
        first: Option<Event>,
    ) -> Result<Name, RunError> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let shared = self.shared.clone();
        let load = move || load::driver(shared, record, replay, fresh, commands);
        let driver = self.blocking("load run", load).await??;
        let run = driver.context.run.clone();
        let handle = Handle {
            context: driver.context.clone(),
            view: driver.view.subscribe(),
            board: driver.board.clone(),
            traffic: driver.traffic.clone(),
            commands: sender,
        };
        let shutdown = self.shared.tasks.shutdown().clone();
        let (ready, started) = tokio::sync::oneshot::channel();
        self.shared.tasks.spawn("run", OnFailure::Log, driver.run(shutdown, first, ready));
        // An ended run that goes on must not be seen as ended.
        let _ = started.await;
        let board = handle.board.clone();
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), handle);
        // Whom the driver woke when it posted the first work may have looked before the run could be found.
        let with_work = board.read().workers();
        self.shared.workers.wake(&with_work);
        Ok(run)
    }
}

impl Handle {
    fn found(&self) -> Found {
        Found { context: self.context.clone(), board: self.board.clone(), traffic: self.traffic.clone() }
    }
}

fn run_name(record: &RunRecord) -> Result<Name, RunError> {
    record.run.parse().map_err(|reason| RunError::Name { job: record.model.clone(), reason })
}
