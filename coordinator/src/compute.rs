//! Threads of our own for libtorch: nothing that computes runs on the async runtime, and libtorch
//! keeps its thread count per calling thread.

use std::sync::mpsc;

use tokio::sync::oneshot;

/// A closure for the thread.
type Job = Box<dyn FnOnce() + Send>;

/// Jobs that may wait for the thread; more are refused.
const QUEUE_MAX: usize = 256;

/// Why a job did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ComputeError {
    /// The queue is full: try again later.
    #[error("{QUEUE_MAX} computations are waiting already, try again later")]
    Busy,
    /// The thread is gone, or the job panicked.
    #[error("the computation ended without a result")]
    Lost,
}

/// A handle to one named thread with a bounded queue.
#[derive(Clone, Debug)]
pub(crate) struct Compute {
    jobs: mpsc::SyncSender<Job>,
}

impl Compute {
    /// Starts the thread; `prepare` runs on it first.
    pub(crate) fn start(name: &str, prepare: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE_MAX);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            prepare();
            for job in queue {
                // A panic loses this job's result and nothing else; its caller sees `Lost`.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the thread and waits for its result.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have gone away: then nobody wants the result.
            if !answer.is_closed() {
                let _ = answer.send(job());
            }
        });
        self.jobs.try_send(job).map_err(|e| match e {
            mpsc::TrySendError::Full(_) => ComputeError::Busy,
            mpsc::TrySendError::Disconnected(_) => ComputeError::Lost,
        })?;
        result.await.map_err(|_| ComputeError::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn runs_jobs_in_order_and_survives_a_panic() {
        let compute = Compute::start("test", || {}).unwrap();
        assert_eq!(compute.run(|| 1 + 1).await, Ok(2));
        assert_eq!(compute.run(|| -> u32 { panic!("expected by the test") }).await, Err(ComputeError::Lost));
        let name = compute.run(|| std::thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("test"));
    }
}
