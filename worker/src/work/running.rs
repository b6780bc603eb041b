//! A computation, from its start until its result. It is independent of connections and leases; dropping
//! it stops a training between batches.

use std::time::Duration;

use bytes::Bytes;
use model::{Flow, Measured};
use params::{Digest, Name};
use tokio::{
    sync::{oneshot, watch},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Task;
use crate::compute::{Compute, ComputeError};

/// Batches are looked at this often: small ones come by the thousand.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A trained update: all that leaves this host of a training.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// f32 little-endian, in the order of the layout.
    pub(crate) payload: Bytes,
    pub(crate) digest: Digest,
    pub(crate) examples: u64,
    pub(crate) train_loss: f64,
}

/// What is computed, for the log.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    pub(crate) run: Name,
    pub(crate) round: u32,
    pub(crate) key: Digest,
}

/// How a computation goes on.
#[derive(Debug)]
pub(crate) enum Step {
    /// Batches were done.
    Batch(u32),
    Trained(Update),
    Measured(Measured),
    /// For good, with a reason that holds nothing private.
    Failed(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Running {
    which: Which,
    percent: watch::Receiver<u32>,
    result: oneshot::Receiver<Result<Outcome, String>>,
    look: Interval,
    _stop: DropGuard,
}

#[derive(Debug)]
enum Outcome {
    Trained { update: Update, batches: u64 },
    Measured(Measured),
}

impl Running {
    /// Starts a training on the compute thread.
    pub(crate) async fn train(compute: &Compute, which: Which, task: Task) -> Self {
        tracing::info!(run = %which.run, round = which.round, "training");
        let (percent_tx, percent) = watch::channel(0);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let result = compute
            .submit(move |device| {
                let mut batches = 0;
                let mut progress = |percent| {
                    batches += 1;
                    // Also when the number is the same: it says that a batch was done.
                    percent_tx.send_replace(percent);
                    if stopped.is_cancelled() { Flow::Stop } else { Flow::Continue }
                };
                let trained = task.train(device, &mut progress);
                let trained = trained.map_err(|error| format!("training failed: {error}"))?;
                let payload: Vec<u8> = trained.update.iter().flat_map(|value| value.to_le_bytes()).collect();
                let digest = Digest::of(&payload);
                let (examples, train_loss) = (trained.examples, trained.train_loss);
                let update = Update { payload: payload.into(), digest, examples, train_loss };
                Ok(Outcome::Trained { update, batches })
            })
            .await;
        Self { which, percent, result, look: looks(), _stop: stop.drop_guard() }
    }

    /// Starts to measure on the compute thread.
    pub(crate) async fn measure(compute: &Compute, which: Which, task: Task) -> Self {
        let (_, percent) = watch::channel(0);
        let result = compute
            .submit(move |device| match task.measure(device) {
                Some(Ok(measured)) => Ok(Outcome::Measured(measured)),
                Some(Err(error)) => Err(format!("measuring failed: {error}")),
                None => Err(ComputeError::Lost.to_string()),
            })
            .await;
        Self { which, percent, result, look: looks(), _stop: CancellationToken::new().drop_guard() }
    }

    /// Of the work that it is for.
    pub(crate) fn key(&self) -> Digest {
        self.which.key
    }

    /// Waits for news. May be dropped and called again; not after the result.
    pub(crate) async fn next(&mut self) -> Step {
        loop {
            tokio::select! {
                biased;
                ended = &mut self.result => return self.ended(ended),
                _ = self.look.tick() => {
                    // The sender is gone when the computation has ended: then its result is next.
                    if self.percent.has_changed().unwrap_or(false) {
                        return Step::Batch(*self.percent.borrow_and_update());
                    }
                }
            }
        }
    }

    fn ended(&self, ended: Result<Result<Outcome, String>, oneshot::error::RecvError>) -> Step {
        let Which { run, round, .. } = &self.which;
        match ended {
            Ok(Ok(Outcome::Trained { update, batches })) => {
                tracing::info!(%run, round, batches, "trained");
                Step::Trained(update)
            }
            Ok(Ok(Outcome::Measured(measured))) => Step::Measured(measured),
            Ok(Err(reason)) => Step::Failed(reason),
            Err(_) => Step::Failed(ComputeError::Lost.to_string()),
        }
    }
}

fn looks() -> Interval {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
