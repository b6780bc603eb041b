//! The life of a worker process: it executes the effects of [`round::worker::Machine`] and feeds the
//! results back.
//!
//! Reading order: [`run`], [`Shell::execute`], [`calls`], [`answers`].

mod answers;
mod calls;
mod spooler;

use std::{sync::Arc, time::Duration};

use model::Measured;
use params::{Digest, Name, Rng};
use round::worker::{Effect, Ending, Event, Kept, Machine};
use service::{clock::Clock, dial::DialError, task::Tasks};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use self::{calls::UnderWay, spooler::Spooler};
use crate::{
    client::{CallError, Client},
    compute::Compute,
    disk::{
        carry::{Carried, Carry, Place},
        spool::Spool,
    },
    work::{Assignment, Impossible, Inputs, Leaving, Running, Step, Task, Update, running::Which},
};

/// From the first signal to the end of the process, whatever happens.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How long libtorch has at least to come to the end of a batch: a process must not exit while it computes.
const COMPUTE_STOP_MIN: Duration = Duration::from_secs(1);

/// What a worker process is made of.
pub(crate) struct Worker {
    pub(crate) name: Name,
    pub(crate) inputs: Box<Inputs>,
    pub(crate) compute: Compute,
    pub(crate) spool: Spool,
    pub(crate) carry: Carry,
    /// What was found in the spool, oldest first.
    pub(crate) kept: Vec<Kept>,
    pub(crate) tasks: Tasks,
    /// Tests only: the longest random wait before an upload.
    pub(crate) upload_delay_max: Duration,
    /// Differs between processes.
    pub(crate) seed: u64,
}

/// How a worker reaches its coordinator.
pub(crate) struct Options<'a, D> {
    /// Opens a connection.
    pub(crate) dial: D,
    /// What the coordinator is told about the tables.
    pub(crate) datasets: Vec<proto::v1::Dataset>,
    /// What the coordinator is told about the device.
    pub(crate) device: &'a str,
    /// The newest protocol to speak.
    pub(crate) protocol_max: u32,
}

/// Works for the coordinator until `stop` is cancelled, and then ends in order within [`STOP_MAX`].
///
/// # Errors
/// The coordinator and this worker do not accept each other: waiting does not help.
pub(crate) async fn run<D>(
    worker: Worker,
    options: Options<'_, D>,
    stop: &CancellationToken,
) -> Result<(), CallError>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    let clock = Clock::start();
    let mut machine = Machine::new(worker.seed, worker.kept.clone());
    let mut shell = Shell::new(worker, &options);
    let mut under_way: Option<UnderWay<'_>> = None;
    let mut event = Event::Start;
    let mut stopped_ms = None;
    let ending = 'life: loop {
        let effects = machine.step(clock.now_ms(), event);
        let wait = machine.next_deadline().map(|at| Duration::from_millis(at.saturating_sub(clock.now_ms())));
        shell.tell_setback(wait);
        for effect in effects {
            match shell.execute(effect).await {
                Next::GoOn => {}
                Next::Call(call) => under_way = Some(call),
                Next::End(ending) => break 'life ending,
            }
        }
        event = tokio::select! {
            biased;
            () = stop.cancelled(), if stopped_ms.is_none() => {
                stopped_ms = Some(clock.now_ms());
                Event::Stop
            }
            (call, what, answer) = calls::answer(&mut under_way) => shell.answered(call, what, answer),
            event = shell.local() => event,
            () = sleep(wait) => Event::Tick,
        };
    };
    drop(under_way);
    let since = Duration::from_millis(stopped_ms.map_or(0, |at| clock.now_ms().saturating_sub(at)));
    shell.end(ending, STOP_MAX.saturating_sub(since).max(COMPUTE_STOP_MIN)).await
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// What an effect leads to.
enum Next<'a> {
    GoOn,
    Call(UnderWay<'a>),
    End(Ending),
}

/// All that the machine knows by key only.
struct Shell<'a, D> {
    options: &'a Options<'a, D>,
    name: Name,
    compute: Compute,
    tasks: Tasks,
    spool: Spool,
    spooler: Spooler,
    client: Option<Client>,
    /// The work of the last poll.
    work: Option<Result<Arc<Assignment>, Impossible>>,
    /// Not here while they are used by a call.
    inputs: Option<Box<Inputs>>,
    /// Fetched, and to be computed next.
    task: Option<Task>,
    running: Option<Running>,
    /// The last update, until it was accepted; later ones come from the spool.
    update: Option<(Digest, Update)>,
    /// What the last training leaves to the next, until it is kept.
    carried: Option<(Digest, Place, Carried)>,
    measured: Option<(Digest, Measured)>,
    /// What did not work, to be told with the wait that follows.
    setback: Option<String>,
    /// The last refusal that ends the process, if the machine says so.
    refusal: Option<CallError>,
    upload_delay_max: Duration,
    delays: Rng,
}

impl<'a, D> Shell<'a, D>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    fn new(worker: Worker, options: &'a Options<'a, D>) -> Self {
        let Worker { name, inputs, compute, spool, carry, tasks, upload_delay_max, seed, .. } = worker;
        Self {
            options,
            name,
            compute,
            spooler: Spooler::new(spool.clone(), carry, tasks.clone()),
            tasks,
            spool,
            client: None,
            work: None,
            inputs: Some(inputs),
            task: None,
            running: None,
            update: None,
            carried: None,
            measured: None,
            setback: None,
            refusal: None,
            upload_delay_max,
            delays: Rng::new(seed, &["delay uploads"]),
        }
    }

    async fn execute(&mut self, effect: Effect) -> Next<'a> {
        match effect {
            Effect::Train { run, round, key } => {
                self.start(Which { run, round, key }, Running::train).await;
            }
            Effect::Evaluate { run, round, key } => {
                self.start(Which { run, round, key }, Running::measure).await;
            }
            Effect::Cancel { key } => {
                if self.running.take_if(|running| running.key() == key).is_some() {
                    tracing::info!("the computation that was going on is no longer wanted");
                }
            }
            Effect::Keep(kept) => self.keep(kept),
            Effect::Forget { key } => {
                self.update.take_if(|(known, _)| *known == key);
                self.spooler.forget(key);
            }
            Effect::Exit(ending) => return Next::End(ending),
            call => match self.call(call) {
                Some(call) => return Next::Call(call),
                None => tracing::error!("a call without a connection: the machine and its shell differ"),
            },
        }
        Next::GoOn
    }

    /// Waits for news of what this host does by itself.
    async fn local(&mut self) -> Event {
        let computed = async {
            match &mut self.running {
                Some(running) => (running.key(), running.next().await),
                None => std::future::pending().await,
            }
        };
        let (key, step) = tokio::select! {
            biased;
            event = self.spooler.next() => return event,
            computed = computed => computed,
        };
        if !matches!(step, Step::Batch(_)) {
            self.running = None;
        }
        match step {
            Step::Batch(percent) => Event::Progressed { key, percent },
            Step::Measured(measured) => {
                self.measured = Some((key, measured));
                Event::Measured { key }
            }
            Step::Failed(reason) => {
                tracing::warn!("handing the work back: {reason}");
                Event::WorkFailed { key, reason }
            }
            Step::Trained(Leaving { update, carried }) => {
                self.carried = carried.map(|(place, carried)| (key, place, carried));
                let (digest, examples) = (update.digest, update.examples);
                let bytes = update.payload.len() as u64;
                self.update = Some((key, update));
                Event::Trained { key, digest, bytes, examples }
            }
        }
    }

    async fn start(&mut self, which: Which, start: impl AsyncFn(&Compute, Which, Task) -> Running) {
        if let Some(task) = self.task.take() {
            self.running = Some(start(&self.compute, which, task).await);
        }
    }

    fn keep(&mut self, kept: Kept) {
        let carried = self.carried.take().filter(|(key, _, _)| *key == kept.key);
        if let Some((_, update)) = self.update.as_ref().filter(|(key, _)| *key == kept.key) {
            let carried = carried.map(|(_, place, carried)| (place, carried));
            self.spooler.keep(kept, update.clone(), carried);
        }
    }

    /// Says what did not work, and when it is tried again.
    fn tell_setback(&mut self, wait: Option<Duration>) {
        if let Some(what) = self.setback.take() {
            tracing::warn!(wait_ms = wait.map(|wait| wait.as_millis()), "{what}");
        }
    }

    async fn end(self, ending: Ending, limit: Duration) -> Result<(), CallError> {
        // Stops it between batches.
        drop(self.running);
        if !self.compute.stop(limit).await {
            tracing::warn!("the computation did not stop within {} s", limit.as_secs());
        }
        match ending {
            Ending::Stopped => Ok(()),
            Ending::Fatal { reason } => Err(self.refusal.unwrap_or(CallError::Broken(reason))),
        }
    }
}

#[cfg(test)]
mod tests;
