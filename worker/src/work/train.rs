//! Training work: an update and its weight go out, nothing else.

use std::{sync::Arc, time::Duration};

use super::{Assignment, Training, WorkError, Worker};
use crate::client::Client;

/// An upload may take this long beyond the deadline of its round: the coordinator answers then.
const UPLOAD_GRACE: Duration = Duration::from_secs(30);

impl Worker {
    /// Trains, or takes what was trained for the same work before, and sends the update.
    pub(super) async fn train(&mut self, client: &Client, work: &Assignment) -> Result<(), WorkError> {
        if self.training.as_ref().is_none_or(|known| known.key() != work.key) {
            // Stops a training that is no longer wanted.
            self.training = None;
            let base = self.weights(client, &work.model).await?;
            let data = self.examples(client, work).await?;
            tracing::info!(run = %work.run, round = work.round, rows = data.train().rows(), "training");
            let seed = work.seed(&self.name);
            self.training = Some(Training::start(&self.compute, work, base, data, seed).await);
        }
        let update = match &mut self.training {
            Some(training) => training.finish(client, work.lease).await,
            None => Err(WorkError::Abandoned),
        };
        let update = update.inspect_err(|error| {
            // A call that failed, or a lease that was replaced, leaves the training as it is: the next poll
            // says whether the same work is still wanted.
            if !matches!(error, WorkError::Call(_) | WorkError::Abandoned) {
                self.training = None;
            }
        })?;
        self.delay_upload().await;
        let (examples, train_loss) = (update.examples, update.train_loss);
        let limit = work.deadline.saturating_add(UPLOAD_GRACE);
        let payload = update.payload.clone();
        drop::<Arc<_>>(update);
        client.submit_update(work.lease, examples, train_loss, payload, limit).await?;
        tracing::info!(run = %work.run, round = work.round, examples, train_loss, "update accepted");
        Ok(())
    }
}
