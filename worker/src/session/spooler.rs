use std::{collections::VecDeque, pin::Pin, sync::Arc};

use params::Digest;
use round::worker::{Event, Kept};
use service::task::Tasks;

use crate::{
    disk::{
        carry::{Carried, Carry, Place},
        spool::Spool,
    },
    error::chain,
    work::Update,
};

/// Writes and deletes in the spool, one after the other in the order in which the machine asked, on a
/// thread that may block. The queue is as long as the machine's list of updates at most.
pub(super) struct Spooler {
    spool: Spool,
    carry: Carry,
    tasks: Tasks,
    queue: VecDeque<Order>,
    busy: Option<Pin<Box<dyn Future<Output = Option<Event>> + Send>>>,
}

enum Order {
    Keep(Kept, Update, Option<Place>),
    Forget(Digest),
}

impl Spooler {
    pub(super) fn new(spool: Spool, carry: Carry, tasks: Tasks) -> Self {
        Self { spool, carry, tasks, queue: VecDeque::new(), busy: None }
    }

    pub(super) fn keep(&mut self, kept: Kept, update: Update, carried: Option<(Place, Carried)>) {
        let place = carried.map(|(place, carried)| {
            self.carry.stage(&place, Arc::new(carried));
            place
        });
        self.queue.push_back(Order::Keep(kept, update, place));
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
                        let (spool, carry, tasks) =
                            (self.spool.clone(), self.carry.clone(), self.tasks.clone());
                        self.busy.insert(Box::pin(execute(spool, carry, tasks, order)))
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

async fn execute(spool: Spool, carry: Carry, tasks: Tasks, order: Order) -> Option<Event> {
    match order {
        Order::Forget(key) => {
            let forgotten = tasks.blocking("forget update", move || spool.forget(key)).await;
            if let Ok(Err(error)) = forgotten {
                tracing::warn!("an update that is not needed stays: {}", chain(&error));
            }
            None
        }
        Order::Keep(kept, update, place) => {
            let key = kept.key;
            // In this order: an update that may be offered goes with what it left behind.
            let write = move || {
                place.map_or(Ok(()), |place| carry.put(&place))?;
                spool.keep(&kept, update.train_loss, &update.payload)
            };
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
