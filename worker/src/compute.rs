//! The one thread that computes: nothing of libtorch runs on the async runtime.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use model::{Device, DeviceChoice, DeviceError, Hardware};
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&Device) + Send>;

/// Jobs that wait for the thread: a worker has one piece of work, and one that was just cancelled.
const QUEUE_MAX: usize = 4;

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComputeError {
    /// The operating system gives no thread.
    #[error("start the compute thread")]
    Start(#[from] std::io::Error),
    /// The device cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The job panicked, or the thread has ended.
    #[error("the computation ended without a result, see the worker's log")]
    Lost,
}

/// A handle to the thread.
#[derive(Debug)]
pub(crate) struct Compute {
    jobs: mpsc::Sender<Job>,
    ended: oneshot::Receiver<()>,
}

impl Compute {
    /// Starts the thread and opens the device on it, because libtorch keeps its number of threads
    /// per calling thread.
    pub(crate) async fn start(
        choice: DeviceChoice,
        threads: usize,
    ) -> Result<(Self, Hardware), ComputeError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_MAX);
        let (opened_tx, opened) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        std::thread::Builder::new().name("compute".to_owned()).spawn(move || {
            let hardware = model::open_device(choice, threads);
            let device = hardware.as_ref().map(|hardware| hardware.device).ok();
            let _ = opened_tx.send(hardware);
            while let Some((job, device)) = device.as_ref().and_then(|d| Some((queue.blocking_recv()?, d))) {
                // A panic loses this job's result and nothing else; the panic hook logs it.
                let _ = catch_unwind(AssertUnwindSafe(|| job(device)));
            }
            let _ = ended_tx.send(());
        })?;
        let hardware = opened.await.map_err(|_| ComputeError::Lost)??;
        Ok((Self { jobs, ended }, hardware))
    }

    /// Queues `job`; its result comes out of the receiver, or [`oneshot::error::RecvError`] when it
    /// panicked.
    pub(crate) async fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Device) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |device| {
            // Whoever asked may have gone away: then nobody wants the result.
            if !answer.is_closed() {
                let _ = answer.send(job(device));
            }
        });
        // When the thread is gone the job is dropped here, and the receiver says so.
        let _ = self.jobs.send(job).await;
        result
    }

    /// Waits for the thread to end, at most `limit`: a process must not exit while libtorch computes.
    /// Cancel running work first. Returns whether it ended.
    pub(crate) async fn stop(self, limit: Duration) -> bool {
        drop(self.jobs);
        tokio::time::timeout(limit, self.ended).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_on_the_named_thread_and_survive_a_panic() {
        let (compute, hardware) = Compute::start(DeviceChoice::Cpu, 1).await.unwrap();
        assert_eq!(hardware.device, Device::Cpu);
        let panicked = compute.submit(|_| -> u32 { panic!("expected by the test") }).await;
        assert!(panicked.await.is_err());
        let name = compute.submit(|_| std::thread::current().name().map(str::to_owned)).await;
        assert_eq!(name.await.unwrap().as_deref(), Some("compute"));
        assert!(compute.stop(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn a_device_that_cannot_be_opened_is_an_error() {
        let error = Compute::start(DeviceChoice::Cpu, 0).await.unwrap_err();
        assert!(matches!(error, ComputeError::Device(DeviceError::Threads { found: 0 })), "{error}");
    }
}
