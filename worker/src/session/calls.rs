//! Each call of the machine as a future.

use std::{pin::Pin, sync::Arc, time::Duration};

use proto::{
    convert,
    error::{ErrorCode, WireError},
    v1,
};
use round::worker::{Call, Effect, Kept};
use service::{dial::DialError, task::Tasks};
use tonic::transport::Channel;

use super::Shell;
use crate::{
    client::{CallError, Client, Upload},
    disk::spool::{Spool, SpoolError},
    error::chain,
    work::{Assignment, Impossible, Inputs, Task, Update, WorkError},
};

/// What a call is about, for the log and for what its failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Connection,
    Poll,
    Work,
    Leave,
}

/// A call that worked.
pub(super) enum Answer {
    Connected(Client),
    Polled(Option<v1::Work>),
    Told {
        abandon: bool,
    },
    /// The inputs come back in any case.
    Fetched(Box<Inputs>, Result<Task, WorkError>),
    Accepted,
    Measured,
    Done,
}

/// The call that is under way; dropping it drops the call.
pub(super) struct UnderWay<'a> {
    call: Call,
    what: What,
    future: Pending<'a>,
}

type Pending<'a> = Pin<Box<dyn Future<Output = Result<Answer, WorkError>> + 'a>>;

/// Waits for the call that is under way, if there is one. May be dropped and called again.
pub(super) async fn answer(under_way: &mut Option<UnderWay<'_>>) -> (Call, What, Result<Answer, WorkError>) {
    match under_way {
        None => std::future::pending().await,
        Some(waiting) => {
            let result = waiting.future.as_mut().await;
            let (call, what) = (waiting.call, waiting.what);
            *under_way = None;
            (call, what, result)
        }
    }
}

impl<'a, D> Shell<'a, D>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    /// Starts a call; `None` where there is no connection for it.
    pub(super) fn call(&mut self, effect: Effect) -> Option<UnderWay<'a>> {
        if let Effect::Connect { call } = effect {
            let future = connect(self.options);
            return Some(UnderWay { call, what: What::Connection, future: Box::pin(future) });
        }
        let client = self.client.clone()?;
        let (call, what, future): (_, _, Pending<'a>) = match effect {
            Effect::Poll { call } => {
                (call, What::Poll, Box::pin(async move { Ok(Answer::Polled(client.poll().await?)) }))
            }
            Effect::TellProgress { call, lease, percent } => {
                let tell =
                    async move { Ok(Answer::Told { abandon: client.progress(lease, percent).await? }) };
                (call, What::Work, Box::pin(tell))
            }
            Effect::Fetch { call, .. } => {
                let (inputs, work) = (self.inputs.take()?, self.work.clone()?);
                (call, What::Work, Box::pin(fetch(inputs, client, work, self.name.clone())))
            }
            Effect::Submit { call, lease, update, resume, limit_ms } => {
                let at_hand = self.update.as_ref().filter(|(key, _)| *key == update.key);
                let encoding = self.work.as_ref()?.as_ref().ok()?.job.aggregate.encoding.word();
                let source = Source {
                    encoding,
                    kept: update,
                    at_hand: at_hand.map(|(_, update)| update.clone()),
                    spool: self.spool.clone(),
                    tasks: self.tasks.clone(),
                };
                let limit = Duration::from_millis(limit_ms);
                let delay = self.upload_delay_max.mul_f64(self.delays.unit());
                let submit = async move {
                    if !delay.is_zero() {
                        tokio::time::sleep(delay).await;
                    }
                    submit(client, lease, source, resume, limit).await
                };
                (call, What::Work, Box::pin(submit))
            }
            Effect::SubmitEvaluation { call, lease, key } => {
                let (_, measured) = self.measured.filter(|(known, _)| *known == key)?;
                let send = async move {
                    let (examples, loss, correct) = (measured.examples, measured.loss, measured.correct);
                    client.submit_evaluation(lease, examples, loss, correct).await?;
                    Ok(Answer::Measured)
                };
                (call, What::Work, Box::pin(send))
            }
            Effect::Decline { call, lease, reason } => {
                let decline = async move {
                    client.decline(lease, &reason).await?;
                    Ok(Answer::Done)
                };
                (call, What::Work, Box::pin(decline))
            }
            Effect::Leave { call } => {
                let leave = async move {
                    client.leave().await?;
                    Ok(Answer::Done)
                };
                (call, What::Leave, Box::pin(leave))
            }
            _ => return None,
        };
        Some(UnderWay { call, what, future })
    }
}

async fn connect<D>(options: &super::Options<'_, D>) -> Result<Answer, WorkError>
where
    D: AsyncFn() -> Result<Channel, DialError>,
{
    let channel = (options.dial)().await.map_err(CallError::from)?;
    let datasets = options.datasets.clone();
    let client = Client::register(channel, datasets, options.device, options.protocol_max).await?;
    Ok(Answer::Connected(client))
}

async fn fetch(
    mut inputs: Box<Inputs>,
    client: Client,
    work: Result<Arc<Assignment>, Impossible>,
    worker: params::Name,
) -> Result<Answer, WorkError> {
    let task = match work {
        Ok(work) => Box::pin(Task::fetch(&mut inputs, &client, &work, &worker)).await,
        Err(impossible) => Err(impossible.into()),
    };
    Ok(Answer::Fetched(inputs, task))
}

/// Where the payload of an update is.
struct Source {
    /// Of the run.
    encoding: &'static str,
    kept: Kept,
    at_hand: Option<Update>,
    spool: Spool,
    tasks: Tasks,
}

impl Source {
    async fn read(self) -> Result<Upload, WorkError> {
        let announced = convert::blob_ref(self.kept.digest, self.kept.bytes);
        let (kept, spool) = (self.kept, self.spool);
        let examples = kept.examples;
        let (payload, train_loss) = match self.at_hand {
            Some(update) => (update.payload, update.train_loss),
            None => {
                let read = self.tasks.blocking("read update", move || spool.read(&kept)).await;
                let (payload, train_loss) = read.map_err(|_| WorkError::Lost)?.map_err(unread)?;
                (payload.into(), train_loss)
            }
        };
        Ok(Upload { examples, train_loss, encoding: self.encoding, announced, payload })
    }
}

/// What is wrong with a damaged update was logged where it was dropped; what cannot be read now is tried again.
fn unread(error: SpoolError) -> WorkError {
    if !error.is_passing() {
        return WorkError::Lost;
    }
    let busy =
        WireError::new(ErrorCode::Busy, format!("a kept update cannot be read now: {}", chain(&error)));
    CallError::Refused(busy.retry_after(Duration::from_secs(1))).into()
}

async fn submit(
    client: Client,
    lease: u64,
    source: Source,
    resume: bool,
    limit: Duration,
) -> Result<Answer, WorkError> {
    let update = source.read().await?;
    let bytes = update.announced.bytes;
    let mut offset = 0;
    if resume {
        let status = client.update_status(lease, update.announced.clone()).await?;
        if status.accepted {
            return Ok(Answer::Accepted);
        }
        // An offset beyond the end makes no sense: then all of it.
        offset = Some(status.offset).filter(|offset| *offset <= bytes).unwrap_or(0);
        if offset > 0 {
            tracing::info!(offset, bytes, "the upload goes on where it ended");
        }
    }
    client.submit_update(lease, update, offset, limit).await?;
    Ok(Answer::Accepted)
}
