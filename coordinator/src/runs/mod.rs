//! Runs: started from job files, driven to their end, resumed after a restart.
//!
//! [`Runs`] is the handle that the API uses. Each active run has one [`driver::Driver`], which owns
//! the run's `round::Machine` and executes its effects; everybody else sees a [`View`].

mod attempt;
mod driver;
mod meet;
mod prepare;
mod publish;
mod view;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use job::Job;
use model::Device;
use params::{Digest, Name, Params};
use round::{Committed, Machine, Millis};
use service::{
    clock::Clock,
    task::{OnFailure, Panicked, Tasks},
};
use tokio::sync::{Mutex, mpsc, watch};

pub(crate) use driver::{Answer, Command};
pub(crate) use prepare::Context;
pub(crate) use view::View;

use crate::{
    compute::{Compute, ComputeError},
    plan::PlanError,
    registry::{self, Registry, RegistryError},
    store::{Blobs, Changes, Index, RunRecord, RunState, StoreError},
    workers::Workers,
};
use driver::Driver;
use view::{Events, Traffic};

/// Commands that may wait for a run.
const COMMANDS_MAX: usize = 256;

/// What all runs share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) index: Arc<Index>,
    pub(crate) blobs: Arc<Blobs>,
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
    /// Counts the steps of all runs, so that workers who wait for work look again.
    pub(crate) changed: watch::Sender<u64>,
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
    view: watch::Receiver<Arc<View>>,
    commands: mpsc::Sender<Command>,
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
    /// Opens the runs of a home folder; those that were active go on from their last committed round.
    pub(crate) async fn open(shared: Arc<Shared>) -> Result<Self, RunError> {
        let runs = Self { shared, handles: RwLock::default(), starting: Mutex::new(()) };
        for record in runs.records().await? {
            if record.state == RunState::Active {
                tracing::info!(run = record.run, committed = record.committed, "resuming run");
                if let Err(error) = runs.drive(record.clone()).await {
                    runs.give_up(record, &error).await?;
                }
            }
        }
        Ok(runs)
    }

    /// Ends a run that cannot be read back, so that the others go on.
    async fn give_up(&self, record: RunRecord, error: &RunError) -> Result<(), RunError> {
        tracing::error!(run = record.run, %error, "run cannot be resumed");
        let cause = format!("cannot be resumed: {error}").chars().take(1024).collect();
        let failed = RunRecord { state: RunState::Failed, cause, ..record };
        self.store(failed).await
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
            prepare::prepare(&job, &job_text, &files, &shared.blobs, shared.upload_bytes)
        };
        let mut record = self.blocking("prepare run", prepare).await??;
        let shared = self.shared.clone();
        let store = move || -> Result<RunRecord, RunError> {
            let key = format!("counter/run/{}", record.model);
            let number = shared.index.get::<u64>(&key).map_err(DriveError::from)?.unwrap_or(0) + 1;
            record.run = format!("{}-{number}", record.model);
            run_name(&record)?;
            record.started_unix_ms = service::clock::unix_ms();
            let mut changes = Changes::default();
            changes.put(&key, &number).map_err(DriveError::from)?;
            changes.put(&format!("run/{}", record.run), &record).map_err(DriveError::from)?;
            shared.index.commit(changes).map_err(DriveError::from)?;
            Ok(record)
        };
        let record = self.blocking("store run", store).await??;
        self.drive(record).await
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
        let driver = self.load(record, mpsc::channel(1).1).await?;
        Ok(driver.view.subscribe())
    }

    /// All runs, oldest first, each as its record and, where it has one, its view.
    pub(crate) async fn list(&self) -> Result<Vec<(RunRecord, Option<Arc<View>>)>, RunError> {
        let mut records = self.records().await?;
        records.sort_by_key(|r| (r.started_unix_ms, r.run.clone()));
        let view = |r: &RunRecord| self.handle(&r.run.parse().ok()?).map(|h| h.view.borrow().clone());
        Ok(records.into_iter().map(|r| (r.clone(), view(&r))).collect())
    }

    /// The views of all runs that may have work, in the order of their names.
    pub(crate) fn active(&self) -> Vec<Arc<View>> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let alive = handles.values().filter(|h| !h.commands.is_closed());
        alive.map(|h| h.view.borrow().clone()).filter(|v| !v.ended).collect()
    }

    /// The run that waits for bytes under this lease.
    pub(crate) fn expecting(&self, worker: &Name, lease: round::Lease) -> Option<Arc<View>> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let alive = handles.values().filter(|h| !h.commands.is_closed());
        alive.map(|h| h.view.borrow().clone()).find(|v| v.expects(worker, lease))
    }

    /// Wakes after every step of any run.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
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
        let reopened = RunRecord {
            // From where it ended: rounds that were planned and not done are not brought back.
            rounds: record.committed.saturating_add(count),
            state: RunState::Active,
            cause: String::new(),
            ..record
        };
        let planned = reopened.rounds;
        self.store(reopened.clone()).await?;
        self.drive(reopened).await?;
        Ok(planned)
    }

    async fn store(&self, record: RunRecord) -> Result<(), RunError> {
        let index = self.shared.index.clone();
        let stored = self.blocking("store run", move || store_record(&index, &record)).await?;
        Ok(stored.map_err(DriveError::from)?)
    }

    fn handle(&self, run: &Name) -> Option<Handle> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    async fn records(&self) -> Result<Vec<RunRecord>, RunError> {
        let index = self.shared.index.clone();
        let records = self.blocking("list runs", move || index.scan::<RunRecord>("run/")).await?;
        Ok(records.map_err(DriveError::from)?)
    }

    async fn record(&self, run: &Name) -> Result<Option<RunRecord>, RunError> {
        let (index, key) = (self.shared.index.clone(), format!("run/{run}"));
        let record = self.blocking("read run", move || index.get::<RunRecord>(&key)).await?;
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
    async fn drive(&self, record: RunRecord) -> Result<Name, RunError> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let driver = self.load(record, commands).await?;
        let run = driver.context.run.clone();
        let handle = Handle { view: driver.view.subscribe(), commands: sender };
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), handle);
        let shutdown = self.shared.tasks.shutdown().clone();
        self.shared.tasks.spawn("run", OnFailure::Log, driver.run(shutdown));
        Ok(run)
    }

    /// Reads a run back from its record.
    async fn load(&self, record: RunRecord, commands: mpsc::Receiver<Command>) -> Result<Driver, RunError> {
        let shared = self.shared.clone();
        let load = move || load(shared, record, commands);
        self.blocking("load run", load).await?
    }
}

/// Makes a run's record durable.
fn store_record(index: &Index, record: &RunRecord) -> Result<(), StoreError> {
    let mut changes = Changes::default();
    changes.put(&format!("run/{}", record.run), record)?;
    index.commit(changes)
}

fn run_name(record: &RunRecord) -> Result<Name, RunError> {
    record.run.parse().map_err(|reason| RunError::Name { job: record.model.clone(), reason })
}

fn load(
    shared: Arc<Shared>,
    record: RunRecord,
    commands: mpsc::Receiver<Command>,
) -> Result<Driver, RunError> {
    let run = run_name(&record)?;
    // A job that was a run once: whatever is wrong with it now is a fault of this host.
    let context = Arc::new(Context::load(&record, run, &shared.blobs).map_err(DriveError::from)?);
    let read = |blob| -> Result<Vec<u8>, DriveError> { Ok(shared.blobs.get(&registry::digest(blob)?)?) };
    let weights = read(&record.base)?;
    let base = Params::from_safetensors(&weights).map_err(DriveError::from)?;
    let optimizer = record.optimizer.as_ref().map(read).transpose()?;
    let ledger: BTreeMap<String, u32> = match &record.ledger {
        None => BTreeMap::new(),
        Some(blob) => serde_json::from_slice(&read(blob)?)
            .map_err(|_| DriveError::Defect("a ledger that does not parse"))?,
    };
    let shards = ledger.into_iter().filter_map(|(name, shard)| Some((name.parse().ok()?, shard))).collect();
    let digest = registry::digest(&record.base).map_err(DriveError::from)?;
    let from = Committed { round: record.committed, base: digest, shards };
    let lease_base =
        service::random::u64().map_err(|_| DriveError::Defect("no randomness from the operating system"))?;
    let now = shared.clock.now_ms();
    let machine = Machine::new(context.plan(record.rounds, shared.lease_ms), from, lease_base >> 1, now);
    let rounds = shared.registry.rounds(&context.run).map_err(DriveError::from)?;
    let traffic = Arc::new(Traffic::default());
    let view = View {
        context: context.clone(),
        state: record.state.word(),
        cause: record.cause.clone(),
        ended: record.state != RunState::Active,
        round: record.committed.saturating_add(1),
        planned: record.rounds,
        rounds: rounds.iter().cloned().map(Arc::new).collect(),
        members: Vec::new(),
        work: BTreeMap::new(),
        folded: BTreeMap::new(),
        model: None,
        events: Events::default(),
        traffic: traffic.clone(),
    };
    Ok(Driver {
        shared,
        context,
        machine,
        record,
        rounds: view.rounds.clone(),
        base,
        optimizer,
        model: (digest, weights.into()),
        attempt: None,
        candidate: None,
        measured: None,
        folded: BTreeMap::new(),
        known: BTreeMap::new(),
        events: Events::default(),
        traffic,
        commands,
        view: watch::Sender::new(Arc::new(view)),
        replies: Vec::new(),
    })
}
