use std::{collections::VecDeque, pin::Pin};

use params::Digest;
use round::worker::{Event, Kept};
use service::task::Tasks;

use crate::{disk::spool::Spool, error::chain, work::Update};

/// Writes and deletes in the spool, one after the other in the order in which the machine asked, on a
/// thread that may block. The queue is as long as the machine's list of updates at most.
pub(super) struct Spooler {
    spool: Spool,
    tasks: Tasks,
    queue: VecDeque<Order>,
    busy: Option<Pin<Box<dyn Future<Output = Option<Event>> + Send>>>,
}

enum Order {
    Keep(Kept, Update),
    Forget(Digest),
}

impl Spooler {
    pub(super) fn new(spool: Spool, tasks: Tasks) -> Self {
        Self { spool, tasks, queue: VecDeque::new(), busy: None }
    }

    pub(super) fn keep(&mut self, kept: Kept, update: Update) {
        self.queue.push_back(Order::Keep(kept, update));
    }

    pub(super) fn forget(&mut self, key: Digest) {
        self.queue.push_back(Order::Forget(key));
    }

    /// Waits until an update is durable, or cannot be made so. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let busy = match &mut self.busy {
                Some(busy) => busy,
                None => match self.queue.pop_front() {
                    Some(order) => {
                        self.busy.insert(Box::pin(execute(self.spool.clone(), self.tasks.clone(), order)))
                    }
                    None => std::future::pending().await,
                },
            };
            let event = busy.await;
            self.busy = None;
            if let Some(event) = event {
                return event;
            }
        }
    }
}

async fn execute(spool: Spool, tasks: Tasks, order: Order) -> Option<Event> {
    match order {
        Order::Forget(key) => {
            let forgotten = tasks.blocking("forget update", move || spool.forget(key)).await;
            if let Ok(Err(error)) = forgotten {
                tracing::warn!("an update that is not needed stays: {}", chain(&error));
            }
            None
        }
        Order::Keep(kept, update) => {
            let key = kept.key;
            let write = move || spool.keep(&kept, update.train_loss, &update.payload);
            let reason = match tasks.blocking("keep update", write).await {
                Ok(Ok(())) => return Some(Event::Kept { key }),
                Ok(Err(error)) => {
                    tracing::error!("the update cannot be kept: {}", chain(&error));
                    // Without the path: it is this host's business.
                    std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
                }
                Err(panicked) => panicked.to_string(),
            };
            Some(Event::WorkFailed {
                key,
                reason: format!("the worker's disk does not take the update: {reason}"),
            })
        }
    }
}
