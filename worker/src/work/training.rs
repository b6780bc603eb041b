use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use model::{Flow, ModelError, Trained};
use params::{Digest, Params};
use tokio::{
    sync::{oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Assignment, Impossible, WorkError, prepared::Prepared, spec};
use crate::{
    client::Client,
    compute::{Compute, ComputeError},
};

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// A trained update, ready to be sent.
#[derive(Debug)]
pub(super) struct Update {
    /// f32 little-endian, in the order of the layout.
    pub(super) payload: Bytes,
    pub(super) examples: u64,
    pub(super) train_loss: f64,
}

/// One training, from its start until other work replaces it. It is independent of connections and
/// leases; dropping it stops it between batches.
pub(super) struct Training {
    key: Digest,
    percent: watch::Receiver<u32>,
    state: State,
    _stop: DropGuard,
}

enum State {
    Running(oneshot::Receiver<Result<Trained, ModelError>>),
    Done(Arc<Update>),
}

impl Training {
    /// Starts to train on the compute thread.
    pub(super) async fn start(
        compute: &Compute,
        work: &Assignment,
        base: Arc<Params>,
        data: Arc<Prepared>,
        seed: u64,
    ) -> Self {
        let (percent_tx, percent) = watch::channel(0);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (network, local) = (spec::network(work), spec::local(&work.job.local));
        let result = compute
            .submit(move |device| {
                let mut progress = |percent| {
                    // Also when the number is the same: it says that a batch was done.
                    percent_tx.send_replace(percent);
                    if stopped.is_cancelled() { Flow::Stop } else { Flow::Continue }
                };
                model::train(device, &network, &base, data.train(), &local, seed, &mut progress)
            })
            .await;
        Self { key: work.key, percent, state: State::Running(result), _stop: stop.drop_guard() }
    }

    /// Of the work that it is for.
    pub(super) fn key(&self) -> Digest {
        self.key
    }

    /// Not finished yet.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Waits for the end, and tells the coordinator about each step on the way: that renews the lease,
    /// and a training that hangs loses it.
    pub(super) async fn finish(&mut self, client: &Client, lease: u64) -> Result<Arc<Update>, WorkError> {
        let result = match &mut self.state {
            State::Done(update) => return Ok(Arc::clone(update)),
            State::Running(result) => result,
        };
        let mut due = interval(PROGRESS_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        due.reset();
        let trained = loop {
            tokio::select! {
                biased;
                trained = &mut *result => break trained,
                _ = due.tick() => tell(&mut self.percent, client, lease).await?,
            }
        };
        let trained = trained
            .map_err(|_| Impossible::open(ComputeError::Lost.to_string()))?
            .map_err(|error| Impossible::open(format!("training failed: {error}")))?;
        let payload: Vec<u8> = trained.update.iter().flat_map(|value| value.to_le_bytes()).collect();
        let update = Arc::new(Update {
            payload: payload.into(),
            examples: trained.examples,
            train_loss: trained.train_loss,
        });
        self.state = State::Done(Arc::clone(&update));
        Ok(update)
    }
}

async fn tell(percent: &mut watch::Receiver<u32>, client: &Client, lease: u64) -> Result<(), WorkError> {
    // The sender is gone when the training has ended: then its result is next.
    if !percent.has_changed().unwrap_or(false) {
        return Ok(());
    }
    let now = *percent.borrow_and_update();
    match client.progress(lease, now).await? {
        true => Err(WorkError::Abandoned),
        false => Ok(()),
    }
}
