//! Evaluation work: a loss and two counts go out, nothing else.

use tokio::time::interval;

use super::{Assignment, Impossible, Training, WorkError, Worker, spec};
use crate::{client::Client, compute::ComputeError};

impl Worker {
    /// Measures a candidate on the held-out rows of the worker's own table and sends the metrics.
    pub(super) async fn evaluate(&mut self, client: &Client, work: &Assignment) -> Result<(), WorkError> {
        // The compute thread must be free. A finished update stays: its round is not committed yet.
        if self.training.as_ref().is_some_and(Training::is_running) {
            self.training = None;
        }
        let data = self.examples(client, work).await?;
        if data.test().is_none() {
            let name = &work.job.data.name;
            let reason =
                format!("dataset '{name}' has no held-out rows here to measure on: see data.holdout");
            return Err(Impossible::open(reason).into());
        }
        let candidate = self.weights(client, &work.model).await?;
        let network = spec::network(work);
        let mut result = self
            .compute
            .submit(move |device| data.test().map(|test| model::measure(device, &network, &candidate, test)))
            .await;
        // One pass over the held-out rows has no steps to tell of; the round's deadline bounds it.
        let mut due = interval(client.lease() / 3);
        due.reset();
        let measured = loop {
            tokio::select! {
                biased;
                measured = &mut result => break measured,
                _ = due.tick() => if client.progress(work.lease, 0).await? {
                    return Err(WorkError::Abandoned);
                },
            }
        };
        let lost = || Impossible::open(ComputeError::Lost.to_string());
        let measured = measured
            .map_err(|_| lost())?
            .ok_or_else(lost)?
            .map_err(|error| Impossible::open(format!("measuring failed: {error}")))?;
        let (examples, loss, correct) = (measured.examples, measured.loss, measured.correct);
        client.submit_evaluation(work.lease, examples, loss, correct).await?;
        tracing::info!(run = %work.run, round = work.round, examples, loss, correct, "candidate measured");
        Ok(())
    }
}
