//! Background tasks: named in the log, supervised, and ended together.
#![allow(clippy::disallowed_methods)]

use std::{
    fmt::Display,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, OnceLock},
    task::Poll,
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// All background tasks of a process. Cheap to clone.
///
/// A task watches [`Tasks::shutdown`] and ends by itself when it is cancelled; [`Tasks::wait`] drops
/// those that do not end in time.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    abort: CancellationToken,
    failure: Arc<OnceLock<String>>,
}

/// What the failure (an error or a panic) of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is logged; the process goes on without the task.
    Log,
    /// The process cannot go on: shutdown starts, and [`Tasks::failure`] has the cause.
    StopProcess,
}

/// What a task ends with: `()`, or a `Result` whose error is a failure.
pub trait Outcome: Send + 'static {
    /// The failure in words.
    fn failure(self) -> Option<String>;
}

/// A closure on a blocking thread panicked; the panic itself is in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("background work '{0}' panicked")]
pub struct Panicked(pub &'static str);

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future in the background under a name.
    ///
    /// An error or a panic is logged once and then means what `on_failure` says.
    pub fn spawn<F>(&self, name: &'static str, on_failure: OnFailure, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let tasks = self.clone();
        let supervised = async move {
            let Some(ended) = tasks.abort.run_until_cancelled(caught(future)).await else { return };
            let failure = match ended {
                Ok(outcome) => outcome.failure().inspect(|why| tracing::error!("task failed: {why}")),
                // The panic hook has logged it, with its place in the code.
                Err(()) => Some("panicked, see the log".to_owned()),
            };
            if let Some(why) = failure
                && on_failure == OnFailure::StopProcess
            {
                // Only the first cause counts; later ones follow from it.
                let _ = tasks.failure.set(format!("task '{name}' failed: {why}"));
                tasks.shutdown.cancel();
            }
        };
        self.tracker.spawn(supervised.instrument(tracing::info_span!("task", name)));
    }

    /// Runs a future to its end, also when the caller goes away in the middle: a server drops the future
    /// of a call whose client disconnects, and half of a change must not be left behind.
    pub async fn finish<T, F>(&self, name: &'static str, future: F) -> Result<T, Panicked>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (send, done) = tokio::sync::oneshot::channel();
        self.spawn(name, OnFailure::Log, async move {
            // Nobody may be waiting any more; what was done is done.
            let _ = send.send(future.await);
        });
        done.await.map_err(|_| Panicked(name))
    }

    /// Runs a closure on a thread that may block, for file and store access. It cannot be
    /// interrupted: [`Tasks::wait`] waits for it within its limit.
    pub async fn blocking<T, F>(&self, name: &'static str, work: F) -> Result<T, Panicked>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let span = tracing::info_span!("task", name);
        self.tracker.spawn_blocking(move || span.in_scope(work)).await.map_err(|_| Panicked(name))
    }

    /// Is cancelled when the process is to stop; cancel it to stop the process.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Why the process must stop, when a task with [`OnFailure::StopProcess`] failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits until every task has ended, at most `limit`; then drops the rest and returns how many
    /// there were. Call it after the shutdown token was cancelled.
    pub async fn wait(&self, limit: Duration) -> usize {
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tracker.len();
        self.abort.cancel();
        left
    }
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Display + Send + 'static> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| format!("{error:#}"))
    }
}

/// `Err` when the future panics. Its state is not seen again, so it need not be unwind safe.
async fn caught<F: Future>(future: F) -> Result<F::Output, ()> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(_) => Poll::Ready(Err(())),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_failed_task_that_matters_stops_the_process() {
        let tasks = Tasks::new();
        tasks.spawn("store", OnFailure::StopProcess, async { Err("disk full") });
        tasks.shutdown().cancelled().await;
        assert_eq!(tasks.failure(), Some("task 'store' failed: disk full"));
        assert_eq!(tasks.wait(LONG).await, 0);
    }

    async fn panics() {
        panic!("expected by this test")
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_stays_inside() {
        let tasks = Tasks::new();
        tasks.spawn("minor", OnFailure::Log, panics());
        assert_eq!(tasks.wait(LONG).await, 0);
        assert!(!tasks.shutdown().is_cancelled());

        let tasks = Tasks::new();
        tasks.spawn("major", OnFailure::StopProcess, panics());
        tasks.shutdown().cancelled().await;
        assert_eq!(tasks.failure(), Some("task 'major' failed: panicked, see the log"));
    }

    #[tokio::test]
    async fn blocking_work_returns_its_value_or_says_that_it_panicked() {
        let tasks = Tasks::new();
        assert_eq!(tasks.blocking("sum", || 2 + 2).await, Ok(4));
        let panics = || -> u8 { panic!("expected by this test") };
        assert_eq!(tasks.blocking("bad", panics).await, Err(Panicked("bad")));
    }

    #[tokio::test]
    async fn tasks_that_do_not_end_are_dropped() {
        let tasks = Tasks::new();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("stuck", OnFailure::Log, async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert_eq!(tasks.wait(Duration::from_millis(1)).await, 1);
        assert!(dropped.await.is_err(), "the future is dropped, not leaked");
    }
}
