//! The life of a worker: connect, register, poll, work, and again after every loss.

use std::{convert::Infallible, time::Duration};

use proto::error::ErrorCode;
use service::dial::DialError;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    backoff::Backoff,
    client::{CallError, Client},
    work::{Step, Worker},
};

/// What a session needs besides the worker.
pub(crate) struct Options<'a, D> {
    /// Opens a connection.
    pub(crate) dial: D,
    /// What the coordinator is told about the device.
    pub(crate) device: &'a str,
    /// Differs between processes.
    pub(crate) seed: u64,
}

/// Works for the coordinator until `shutdown` is cancelled, then tells it that this process ends.
///
/// A lost connection, a restarted coordinator or an overloaded one is waited for without end, with
/// [`Backoff`].
///
/// # Errors
/// The coordinator and this worker do not accept each other: waiting does not help.
pub(crate) async fn run<D>(
    worker: &mut Worker,
    options: Options<'_, D>,
    shutdown: &CancellationToken,
) -> Result<(), CallError>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    let mut current = None;
    let ended = shutdown.run_until_cancelled(serve(worker, &options, &mut current)).await;
    if let Some(Err(error)) = ended {
        return Err(error);
    }
    if let Some(client) = current {
        match client.leave().await {
            Ok(()) => tracing::info!("left"),
            Err(error) => tracing::info!("the coordinator was not told that this worker ends: {error}"),
        }
    }
    Ok(())
}

/// Sessions, one after the other.
async fn serve<D>(
    worker: &mut Worker,
    options: &Options<'_, D>,
    current: &mut Option<Client>,
) -> Result<Infallible, CallError>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    let mut backoff = Backoff::new(options.seed);
    loop {
        let Err(error) = session(worker, options, current, &mut backoff).await;
        *current = None;
        let wait = backoff.next();
        match verdict(error)? {
            Lost::Connection(cause) => {
                tracing::warn!("no connection, trying again in {} ms: {cause}", wait.as_millis());
                tokio::time::sleep(wait).await;
            }
            Lost::Session(cause) => {
                tracing::info!("registering again in {} ms: {cause}", wait.as_millis());
                tokio::time::sleep(wait).await;
            }
            Lost::Room(cause, after) => {
                let wait = wait + after;
                tracing::info!("waiting {} ms: {cause}", wait.as_millis());
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// One registration, until it ends.
async fn session<D>(
    worker: &mut Worker,
    options: &Options<'_, D>,
    current: &mut Option<Client>,
    backoff: &mut Backoff,
) -> Result<Infallible, CallError>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    let channel = (options.dial)().await?;
    let client = Client::register(channel, worker.tables().announce(), options.device).await?;
    *current = Some(client.clone());
    tracing::info!(lease_ms = client.lease().as_millis(), "registered, waiting for work");
    let mut setbacks = Backoff::new(options.seed);
    loop {
        let work = client.poll().await?;
        // Only now: a coordinator that forgets its sessions at once is not a reason to hurry.
        backoff.reset();
        let Some(work) = work else {
            worker.idle();
            continue;
        };
        match Box::pin(worker.perform(&client, work)).await? {
            Step::Done => setbacks.reset(),
            Step::Setback(at_least) => tokio::time::sleep(at_least + setbacks.next()).await,
        }
    }
}

/// Why a session ended that another one can follow.
enum Lost {
    Connection(String),
    Session(String),
    Room(String, Duration),
}

/// Whether another session can follow.
fn verdict(error: CallError) -> Result<Lost, CallError> {
    match error {
        CallError::Broken(cause) => Ok(Lost::Connection(cause)),
        CallError::Dial(_) => Err(error),
        CallError::Refused(ref refusal) => match refusal.code {
            ErrorCode::Stale | ErrorCode::NotFound => Ok(Lost::Session(refusal.message.clone())),
            ErrorCode::Busy | ErrorCode::Unavailable | ErrorCode::Corrupt | ErrorCode::Internal => {
                let after = refusal.retry_after.unwrap_or_default();
                Ok(Lost::Room(refusal.message.clone(), after))
            }
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests;
