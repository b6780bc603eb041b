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

use super::{Task, task::Done};
use crate::{
    compute::{Compute, ComputeError},
    disk::carry::{Carried, Place},
};

/// Batches are looked at this often: small ones come by the thousand.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A trained update, and what stays here.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) update: Update,
    /// What the next training of the run goes on from, if there is anything.
    pub(crate) carried: Option<(Place, Carried)>,
}

/// A trained update: all that leaves this host of a training.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// As `crates/update` lays it out.
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
    Trained(Leaving),
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
    Trained { leaving: Leaving, batches: u64 },
    Measured(Measured),
}

impl Running {
    /// Starts a training on the compute thread.
    pub(crate) async fn train(compute: &Compute, which: Which, task: Task) -> Self {
        tracing::info!(run = %which.run, round = which.round, "training");
        let (percent_tx, percent) = watch::channel(0);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (run, round) = (which.run.clone(), which.round);
        let result = compute
            .submit(move |device| {
                let mut batches = 0;
                let mut progress = |percent| {
                    batches += 1;
                    // Also when the number is the same: it says that a batch was done.
                    percent_tx.send_replace(percent);
                    if stopped.is_cancelled() { Flow::Stop } else { Flow::Continue }
                };
                let done = task.train(device, &mut progress);
                let Done { packed, examples, train_loss, from } =
                    done.map_err(|error| format!("training failed: {error}"))?;
                let digest = Digest::of(&packed.payload);
                let update = Update { payload: packed.payload.into(), digest, examples, train_loss };
                let carried = packed.carried.map(|carried| (Place { run, round, from }, carried));
                Ok(Outcome::Trained { leaving: Leaving { update, carried }, batches })
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
            Ok(Ok(Outcome::Trained { leaving, batches })) => {
                tracing::info!(%run, round, batches, "trained");
                Step::Trained(leaving)
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
