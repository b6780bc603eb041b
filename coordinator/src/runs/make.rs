//! From updates to a version: the effects that take time, and what a restart must bring back for them.

use std::{sync::Arc, time::Duration};

use journal::entry::{Aside, Step, What};
use round::Event;
use service::fault::crash_point;

use super::{
    DriveError,
    attempt::{self, Tools},
    driver::Driver,
};
use crate::{
    registry::{self, Manifest, Publication, Published},
    store::StoreError,
};

/// How long to wait before a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// The same where it means to make a version again.
const MAKE_RETRY: Duration = Duration::from_secs(2);

/// The most that a server optimizer keeps for each element, in bytes.
const STATE_BYTES_MAX: usize = 16;

impl Driver {
    /// Tells the machine that this is another process than before, unless it is a run that no other has driven.
    pub(super) async fn restart(&mut self) -> Result<(), DriveError> {
        let lease_base = service::random::u64()
            .map_err(|_| DriveError::Defect("no randomness from the operating system"))?;
        if !self.met.fresh {
            self.step(Event::Restarted { lease_base: lease_base >> 1 }).await;
        }
        Ok(())
    }

    pub(super) async fn aggregate(&mut self, round: u32) -> Result<(Event, Aside), DriveError> {
        let Some(gathered) = self.gathered.take() else {
            return Err(DriveError::Defect("a round to aggregate that is not open"));
        };
        crash_point("aggregating");
        let (context, base, state) = (self.context.clone(), self.base.clone(), self.state.clone());
        let shared = self.shared.clone();
        let make = move || {
            let tools =
                Tools { blobs: &shared.store.blobs, threads: shared.threads, budget: shared.reduce_budget };
            attempt::make(&context, &gathered, &base, state.as_ref(), &tools)
        };
        // A small model is made and kept before a thread would have started, unless it must wait for room. That is a sum
        // whose version and state travel in the journal.
        let made = match self.is_made_at_once().then(&make) {
            Some(Err(error)) if error.is_full_disk() => None,
            other => other,
        };
        let made = match made {
            Some(made) => made?,
            None => {
                let shutdown = self.shared.tasks.shutdown().clone();
                // To make it again costs as much as the first time.
                let wait = move || until_room(make, || shutdown.is_cancelled(), MAKE_RETRY);
                self.shared.tasks.blocking("aggregate", wait).await??
            }
        };
        self.differ(&made.weights);
        self.model = (made.weights.digest, made.weights.file.clone());
        self.met.carry = made.carry.clone();
        let (candidate, weights_bytes) = (made.weights.digest, made.weights.file.len() as u64);
        let optimizer = (!made.state.is_empty()).then(|| (made.state_digest, made.state.len() as u64));
        self.made = Some(made);
        Ok((Event::Aggregated { round, candidate }, Aside::Candidate { weights_bytes, optimizer }))
    }

    /// Measures the candidate on the coordinator's own holdout.
    pub(super) async fn measure(&mut self, round: u32) -> Result<(Event, Aside), DriveError> {
        let event = Event::EvaluatedCentrally { round };
        let (Some(holdout), Some(made)) = (self.context.holdout.clone(), &self.made) else {
            return Ok((event, Aside::None));
        };
        let (context, weights, device) = (self.context.clone(), made.weights.clone(), self.shared.device);
        let job = move || -> Result<_, DriveError> {
            let weights = weights.params(&context.layout)?;
            Ok(model::measure(&device, &context.network, &weights, holdout.examples())?)
        };
        let measured = self.shared.evaluate.run(job).await??;
        let (loss, correct, examples) = (measured.loss, measured.correct, measured.examples);
        Ok((event, Aside::Measured { loss, correct, examples }))
    }

    /// Commits the round. One entry of the journal is the commit point: the machine's event together with the version,
    /// the round, the run and the aliases.
    pub(super) async fn publish(&mut self, round: u32) -> Result<(Event, Aside), DriveError> {
        let (Some(made), Some(candidate)) = (self.made.take(), self.replay.ledger.candidate.clone()) else {
            return Err(DriveError::Defect("a round to publish without a candidate"));
        };
        let manifest = self.manifest(round, &candidate.weights);
        let better = self.is_better(&manifest);
        let mut record = self.record.clone();
        record.rounds = self.replay.machine.plan().rounds;
        record.committed = round;
        record.base = candidate.weights;
        record.optimizer = candidate.optimizer;
        let event = Event::Published { round, better };
        let now = self.now();
        let step = Step { run: self.context.run.clone(), now, event: event.clone(), aside: Aside::None };
        let metric = self.context.job.evaluate.metric;
        let publication = Publication { manifest, run: record.clone(), metric, what: What::Step(step) };
        crash_point("before-commit");
        let published = self.commit(publication).await?;
        self.appended = published.seq;
        self.committed_at = Some(now);
        self.shared.store.durable(published.seq).await?;
        crash_point("after-commit");
        let manifest = self.shared.registry.show(published);
        tracing::info!(run = %self.context.run, round, version = manifest.version, metrics = ?manifest.metrics, "round committed");
        self.record = record;
        self.rounds.push(Arc::new(manifest));
        self.base = made.weights;
        self.state = Some(made.state).filter(|state| !state.is_empty());
        Ok((event, Aside::None))
    }

    /// Adds the round to the journal. That takes two small writes, unless the disk is full: then it waits for room,
    /// on a thread that may.
    async fn commit(&self, publication: Publication) -> Result<Published, DriveError> {
        let (shared, shutdown) = (self.shared.clone(), self.shared.tasks.shutdown().clone());
        if self.is_small() {
            match shared.registry.publish(&publication) {
                Err(error) if error.is_full_disk() => {}
                result => return Ok(result?),
            }
        }
        let work = move || {
            let publish = || shared.registry.publish(&publication);
            until_room(publish, || shutdown.is_cancelled(), FULL_RETRY)
        };
        Ok(self.shared.tasks.blocking("publish", work).await??)
    }

    /// Whether a thread costs more than what is to be done with the model.
    pub(super) fn is_small(&self) -> bool {
        self.context.layout.elements() <= super::INLINE_ELEMENTS
    }

    /// Whether a version takes less than to start a thread: nothing waits for the disk, and no update is read again.
    fn is_made_at_once(&self) -> bool {
        let elements = self.context.layout.elements();
        let travels = elements.saturating_mul(4 + STATE_BYTES_MAX) <= crate::store::CARRIED_MAX / 2;
        travels && self.context.exchange.reduction.is_none()
    }

    /// Whether the version is better than every one before in this run, by the metric of the job.
    fn is_better(&self, manifest: &Manifest) -> bool {
        let evaluate = &self.context.job.evaluate;
        let word = evaluate.metric.word();
        let Some(value) = manifest.metrics.get(word) else { return self.rounds.is_empty() };
        let before = self.rounds.iter().filter_map(|round| round.metrics.get(word)).copied();
        let best = before.reduce(|best, next| if evaluate.metric.better(next, best) { next } else { best });
        best.is_none_or(|best| evaluate.improves(*value, best))
    }

    /// The base version is what workers fetch, again.
    pub(super) fn show_base(&mut self) {
        self.model = (self.base.digest, self.base.file.clone());
    }
}

/// Does something again and again while the disk is full: what is wanted is not lost, it waits.
fn until_room<T, E: From<StoreError> + FullDisk>(
    mut work: impl FnMut() -> Result<T, E>,
    stop: impl Fn() -> bool,
    retry: Duration,
) -> Result<T, E> {
    let mut told = false;
    loop {
        match work() {
            Err(error) if error.is_full_disk() => {
                if !told {
                    tracing::error!("no room on the disk: a round waits until there is some");
                    told = true;
                }
                if stop() {
                    return Err(StoreError::Closed.into());
                }
                std::thread::park_timeout(retry);
            }
            result => return result,
        }
    }
}

/// Errors that may mean a full disk.
trait FullDisk {
    fn is_full_disk(&self) -> bool;
}

impl FullDisk for StoreError {
    fn is_full_disk(&self) -> bool {
        self.is_full()
    }
}

impl FullDisk for DriveError {
    fn is_full_disk(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_full())
    }
}

impl FullDisk for registry::RegistryError {
    fn is_full_disk(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_full())
    }
}
