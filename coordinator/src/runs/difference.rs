//! The difference from the base version to the candidate, which is the next base version: a worker that has the one
//! needs no more than that to have the other.

use std::time::Duration;

use bytes::Bytes;
use job::Task;
use params::Digest;
use round::Millis;
use service::task::OnFailure;

use super::{driver::Driver, weights::Weights};

/// A smaller file is sent before a difference is made.
const BYTES_MIN: usize = 256 * 1024;

/// A larger file has no difference: it is in memory while it is made and while it is offered, at most 3/4 of this for each run.
const BYTES_MAX: usize = 64 << 20;

/// The longest that workers wait for a difference before they are given work without one. It is made while the
/// coordinator measures and publishes, and takes about 3 ms for each MiB.
const WAIT_MS: Millis = 500;

/// A difference on a board.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The version that it goes on from.
    pub(crate) before: Digest,
    /// What it leads to.
    pub(crate) model: Digest,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    /// It is being made; nobody waits for it any longer from `until` on.
    Making { until: Millis },
    /// It saves a quarter or more: its digest, and its bytes.
    Made(Digest, Bytes),
    /// It saves nothing.
    Useless,
}

impl Driver {
    /// Begins to make the difference to a candidate, beside what else is done with it.
    pub(super) fn differ(&self, candidate: &Weights) {
        let (before, model) = (self.base.digest, candidate.digest);
        // Workers of a synthetic run need no weights.
        let wanted = !matches!(self.context.job.task, Task::Synthetic(_)) && before != model;
        if !wanted || !(BYTES_MIN..=BYTES_MAX).contains(&candidate.file.len()) {
            return;
        }
        let until = self.shared.clock.now_ms() + WAIT_MS;
        self.board.expect(Difference { before, model, state: State::Making { until } });
        let (old, new) = (self.base.file.clone(), candidate.file.clone());
        let (shared, board) = (self.shared.clone(), self.board.clone());
        let make = async move {
            let encode = move || encode(&old, &new);
            let mut making = std::pin::pin!(shared.tasks.blocking("make difference", encode));
            let made = match tokio::time::timeout(Duration::from_millis(WAIT_MS), &mut making).await {
                Ok(made) => made,
                Err(_) => {
                    // Nobody waits any longer.
                    shared.workers.wake(&board.read().workers());
                    making.await
                }
            };
            // A panic is in the log, and means no more than a longer download.
            shared.workers.wake(&board.settle(model, made.ok().flatten()));
        };
        self.shared.tasks.spawn("difference", OnFailure::Log, make);
    }
}

fn encode(old: &[u8], new: &[u8]) -> Option<(Digest, Bytes)> {
    let made = update::difference::encode(old, new, new.len() / 4 * 3)?;
    Some((Digest::of(&made), made.into()))
}
