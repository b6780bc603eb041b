use std::{future::Future, sync::Arc};

use proto::{
    chunks::Assembler,
    error::{ErrorCode, WireError},
    v1::{BlobRef, Chunk},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, timeout},
};

/// Unit of the memory budget.
const UNIT: u64 = 64 * 1024;

/// A peer that sends nothing for this long loses its upload.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The memory that uploads in flight may take. An upload waits for its share before its bytes are
/// read; until then flow control holds the sender back.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    budget: Arc<Semaphore>,
    bytes_max: u64,
}

/// A share of the budget, given back when it is dropped.
pub(crate) type Share = OwnedSemaphorePermit;

/// Bytes that arrived whole, and their share of the budget: keep it for as long as what they became.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) share: Share,
}

impl Uploads {
    /// `budget_bytes` for all uploads at once, `bytes_max` for one.
    pub(crate) fn new(budget_bytes: u64, bytes_max: u64) -> Self {
        // One upload must fit, or it would wait for ever.
        let units = budget_bytes.max(bytes_max).div_ceil(UNIT);
        let units = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { budget: Arc::new(Semaphore::new(units)), bytes_max }
    }

    /// The most that one upload may hold.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Receives what was announced; `next` gives the next chunk, `None` at the end of the stream.
    pub(crate) async fn receive<F>(
        &self,
        announced: &BlobRef,
        bytes_max: u64,
        mut next: impl FnMut() -> F,
    ) -> Result<Received, WireError>
    where
        F: Future<Output = Result<Option<Chunk>, WireError>>,
    {
        let mut assembler = Assembler::new(announced, bytes_max.min(self.bytes_max))?;
        let units = u32::try_from(announced.bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let share = self.budget.clone().acquire_many_owned(units).await;
        let share =
            share.map_err(|_| WireError::new(ErrorCode::Unavailable, "the coordinator shuts down"))?;
        loop {
            let silent = || {
                let message = format!("no byte for {} s, send the upload again", SILENCE_MAX.as_secs());
                WireError::new(ErrorCode::Busy, message).retry_after(Duration::from_secs(1))
            };
            match timeout(SILENCE_MAX, next()).await.map_err(|_| silent())?? {
                Some(chunk) => assembler.push(&chunk)?,
                None => return Ok(Received { bytes: assembler.finish()?, share }),
            }
        }
    }
}
