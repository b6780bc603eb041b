//! What is done between polls.

mod assignment;
pub(crate) mod evaluate;
pub(crate) mod prepared;
mod spec;
pub(crate) mod train;
mod training;

use std::{sync::Arc, time::Duration};

use data::DataError;
use params::{Name, Params, Rng};
use proto::{
    error::ErrorCode,
    v1::{self, BlobRef, WorkKind},
};

pub(crate) use self::assignment::Assignment;
use self::{prepared::Prepared, training::Training};
use crate::{
    client::{CallError, Client},
    compute::Compute,
    fetch::Fetcher,
    tables::Tables,
};

/// What a worker process is made of.
pub(crate) struct Options {
    pub(crate) name: Name,
    pub(crate) tables: Tables,
    pub(crate) compute: Compute,
    /// Tests only: the longest random wait before an upload.
    pub(crate) upload_delay_max: Duration,
    /// Differs between processes.
    pub(crate) seed: u64,
}

/// Does work, one piece at a time, and keeps what the next piece can use again: the last weights, the
/// last examples, and the last update until other work replaces it, so that nothing is trained
/// twice when the coordinator or the connection is lost.
pub(crate) struct Worker {
    name: Name,
    tables: Tables,
    compute: Compute,
    upload_delay_max: Duration,
    rng: Rng,
    fetcher: Fetcher,
    weights: Option<(BlobRef, Arc<Params>)>,
    prepared: Option<Arc<Prepared>>,
    training: Option<Training>,
}

/// How a piece of work went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is done, or was handed back.
    Done,
    /// It is not done; ask again after a while, at least this long.
    Setback(Duration),
}

/// Work that cannot be done here; it is handed back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Impossible {
    /// What is sent to the coordinator: no contents of private cells.
    pub(crate) reason: String,
    /// What is logged here, where the data is.
    pub(crate) detail: String,
}

impl Impossible {
    /// A reason that holds nothing private.
    fn open(reason: String) -> Self {
        Self { detail: reason.clone(), reason }
    }

    /// A fault in data that the coordinator handed out itself.
    fn hosted(error: &DataError) -> Self {
        Self::open(error.to_string())
    }
}

/// Why a piece of work was not finished.
#[derive(Debug)]
enum WorkError {
    Impossible(Impossible),
    Abandoned,
    Call(CallError),
}

impl From<CallError> for WorkError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Impossible> for WorkError {
    fn from(error: Impossible) -> Self {
        Self::Impossible(error)
    }
}

impl Worker {
    pub(crate) fn new(options: Options) -> Self {
        let Options { name, tables, compute, upload_delay_max, seed } = options;
        Self {
            name,
            tables,
            compute,
            upload_delay_max,
            rng: Rng::new(seed, &["delay uploads"]),
            fetcher: Fetcher::default(),
            weights: None,
            prepared: None,
            training: None,
        }
    }

    /// The tables that are announced.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Cancels what is being computed and waits for its thread, at most `limit`.
    pub(crate) async fn stop(self, limit: Duration) -> bool {
        drop(self.training);
        self.compute.stop(limit).await
    }

    /// The coordinator has no work for this worker: whatever is being computed is not wanted.
    pub(crate) fn idle(&mut self) {
        if self.training.as_ref().is_some_and(Training::is_running) {
            tracing::info!("the work that was going on is no longer wanted");
            self.training = None;
        }
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// The connection is lost, or the coordinator does not accept this worker: a later
    /// [`Worker::perform`] of the same work goes on where this one ended.
    pub(crate) async fn perform(&mut self, client: &Client, work: v1::Work) -> Result<Step, CallError> {
        let (lease, run, round) = (work.lease, work.run.clone(), work.round);
        let error = match self.attempt(client, work).await {
            Ok(()) => return Ok(Step::Done),
            Err(error) => error,
        };
        let impossible = match error {
            WorkError::Abandoned => {
                tracing::info!(%run, round, "the work is no longer wanted");
                return Ok(Step::Setback(Duration::ZERO));
            }
            WorkError::Impossible(impossible) => impossible,
            WorkError::Call(CallError::Refused(error)) => {
                let wait = error.retry_after.unwrap_or_default();
                match error.code {
                    ErrorCode::Stale | ErrorCode::NotFound => {
                        tracing::info!(%run, round, "too late: {error}");
                        return Ok(Step::Setback(wait));
                    }
                    ErrorCode::Unauthenticated | ErrorCode::Forbidden | ErrorCode::Version => {
                        return Err(CallError::Refused(error));
                    }
                    ErrorCode::Invalid | ErrorCode::Conflict => {
                        Impossible::open(format!("the coordinator refused it: {error}"))
                    }
                    _ => {
                        tracing::warn!(%run, round, "the coordinator does not take it now: {error}");
                        return Ok(Step::Setback(wait));
                    }
                }
            }
            WorkError::Call(error) => return Err(error),
        };
        tracing::warn!(%run, round, "handing the work back: {}", impossible.detail);
        match client.decline(lease, &impossible.reason).await {
            // Nothing is left to hand back.
            Err(error) if error.is_over() => Ok(Step::Done),
            other => other.map(|()| Step::Done),
        }
    }

    async fn attempt(&mut self, client: &Client, work: v1::Work) -> Result<(), WorkError> {
        let work = Assignment::try_from(work)?;
        match work.kind {
            WorkKind::Evaluate => self.evaluate(client, &work).await,
            WorkKind::Train | WorkKind::Unspecified => self.train(client, &work).await,
        }
    }

    /// The weights that `blob` names.
    async fn weights(&mut self, client: &Client, blob: &BlobRef) -> Result<Arc<Params>, WorkError> {
        if let Some((_, weights)) = self.weights.as_ref().filter(|(known, _)| known == blob) {
            return Ok(Arc::clone(weights));
        }
        // Before the new ones are there: a host holds one model, not two.
        self.weights = None;
        let bytes = self.fetcher.fetch(client, blob).await?;
        let weights = Params::from_safetensors(&bytes)
            .map_err(|e| Impossible::open(format!("the weights cannot be used: {e}")))?;
        let weights = Arc::new(weights);
        self.weights = Some((blob.clone(), Arc::clone(&weights)));
        Ok(weights)
    }

    /// The examples of this work.
    async fn examples(&mut self, client: &Client, work: &Assignment) -> Result<Arc<Prepared>, WorkError> {
        if let Some(known) = self.prepared.as_ref().filter(|known| known.key() == work.data_key) {
            return Ok(Arc::clone(known));
        }
        self.prepared = None;
        let prepared = match &work.shard {
            Some(shard) => {
                let csv = self.fetcher.fetch(client, shard).await?;
                Prepared::hosted(work, &csv).map_err(|e| Impossible::hosted(&e))?
            }
            None => {
                let name = &work.job.data.name;
                let table = self.tables.get(name).ok_or_else(|| {
                    let names = self.tables.names();
                    Impossible::open(format!(
                        "this worker offers no dataset '{name}' (it offers: {names}): start it with --data {name}=PATH"
                    ))
                })?;
                Prepared::private(work, table)?
            }
        };
        let prepared = Arc::new(prepared);
        self.prepared = Some(Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Tests only: a random wait before an upload.
    async fn delay_upload(&mut self) {
        if !self.upload_delay_max.is_zero() {
            tokio::time::sleep(self.upload_delay_max.mul_f64(self.rng.unit())).await;
        }
    }
}

#[cfg(test)]
mod tests;
