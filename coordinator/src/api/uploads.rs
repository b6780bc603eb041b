use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use params::{Digest, Name};
use proto::{
    chunks::Assembler,
    error::{ErrorCode, WireError},
    v1::{BlobRef, Chunk},
};
use service::clock::Clock;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, timeout},
};

/// Unit of the memory budget.
const UNIT: u64 = 64 * 1024;

/// A peer that sends nothing for this long loses its connection's upload.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// An upload may take a minute, and longer for what this rate cannot carry in it.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// How often an upload that waits for its share looks for what others left.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What a broken connection left of an upload is kept for this long, one per worker.
const PARTIAL_MS: u64 = 60_000;

/// The memory that uploads in flight may take. An upload waits for its share before its bytes are
/// read; until then flow control holds the sender back.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    budget: Arc<Semaphore>,
    bytes_max: u64,
    partials: Arc<Mutex<BTreeMap<Name, Partial>>>,
    clock: Clock,
}

/// A share of the budget, given back when it is dropped.
pub(crate) type Share = OwnedSemaphorePermit;

/// Bytes that arrived whole, and their share of the budget: keep it for as long as what they became.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) share: Share,
}

/// Whose upload it is, and where it goes on.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) worker: Name,
    pub(crate) offset: u64,
}

/// What has arrived of an upload whose connection broke. It keeps its share: memory stays bounded.
#[derive(Debug)]
struct Partial {
    digest: Digest,
    assembler: Assembler,
    share: Share,
    since: u64,
}

impl Uploads {
    /// `budget_bytes` for all uploads at once, `bytes_max` for one.
    pub(crate) fn new(budget_bytes: u64, bytes_max: u64) -> Self {
        // One upload must fit, or it would wait for ever.
        let units = budget_bytes.max(bytes_max).div_ceil(UNIT);
        let units = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let budget = Arc::new(Semaphore::new(units));
        Self { budget, bytes_max, partials: Arc::default(), clock: Clock::start() }
    }

    /// The most that one upload may hold.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// How much of this payload has arrived from this worker.
    pub(crate) fn offset(&self, worker: &Name, announced: &BlobRef) -> u64 {
        let digest = Digest::try_from(announced.digest.as_slice()).ok();
        let mut partials = self.partials();
        self.forget_old(&mut partials);
        let partial = partials.get(worker).filter(|partial| Some(partial.digest) == digest);
        partial.map_or(0, |partial| partial.assembler.offset())
    }

    /// Receives what was announced; `next` gives the next chunk, `None` at the end of the stream. With `from`, goes on
    /// where an earlier connection ended, and keeps what has arrived when this one breaks.
    pub(crate) async fn receive<F>(
        &self,
        announced: &BlobRef,
        bytes_max: u64,
        from: Option<Resume>,
        mut next: impl FnMut() -> F,
    ) -> Result<Received, WireError>
    where
        F: Future<Output = Result<Option<Chunk>, WireError>>,
    {
        let (mut assembler, share) = self.begin(announced, bytes_max, from.as_ref()).await?;
        // From here on only: others decide how long an upload waits for its share.
        let (began, longest) = (self.clock.now_ms(), longest(announced.bytes));
        let busy =
            |message: String| WireError::new(ErrorCode::Busy, message).retry_after(Duration::from_secs(1));
        let broken = loop {
            let silent = || busy(format!("no byte for {} s, send the upload again", SILENCE_MAX.as_secs()));
            if Duration::from_millis(self.clock.now_ms().saturating_sub(began)) > longest {
                let (have, all) = (assembler.offset(), announced.bytes);
                break busy(format!(
                    "{have} of {all} bytes arrived in {} s, send the rest",
                    longest.as_secs()
                ));
            }
            match timeout(SILENCE_MAX, next()).await.unwrap_or_else(|_| Err(silent())) {
                Ok(Some(chunk)) => assembler.push(&chunk)?,
                Ok(None) if assembler.is_complete() || from.is_none() => {
                    return Ok(Received { bytes: assembler.finish()?, share });
                }
                Ok(None) => {
                    let (have, all) = (assembler.offset(), announced.bytes);
                    let message = format!("the upload ended after {have} of {all} bytes, send the rest");
                    break WireError::new(ErrorCode::Corrupt, message);
                }
                Err(error) => break error,
            }
        };
        if let Some(Resume { worker, .. }) = from
            && assembler.offset() > 0
        {
            let digest = Digest::try_from(announced.digest.as_slice());
            let digest = digest.map_err(|e| WireError::invalid(e.to_string()))?;
            let since = self.clock.now_ms();
            self.partials().insert(worker, Partial { digest, assembler, share, since });
        }
        Err(broken)
    }

    /// What is there of the upload, or a new one with its share of the budget.
    async fn begin(
        &self,
        announced: &BlobRef,
        bytes_max: u64,
        from: Option<&Resume>,
    ) -> Result<(Assembler, Share), WireError> {
        let assembler = Assembler::new(announced, bytes_max.min(self.bytes_max))?;
        if let Some(Resume { worker, offset }) = from {
            let known = self.partials().remove(worker);
            let digest = Digest::try_from(announced.digest.as_slice()).ok();
            match known.filter(|partial| Some(partial.digest) == digest) {
                Some(partial) if partial.assembler.offset() == *offset => {
                    return Ok((partial.assembler, partial.share));
                }
                _ if *offset == 0 => {}
                other => {
                    let have = other.map_or(0, |partial| partial.assembler.offset());
                    let message =
                        format!("the upload starts at {offset}, {have} bytes of it are here; ask again");
                    return Err(WireError::new(ErrorCode::Corrupt, message));
                }
            }
        }
        let units = u32::try_from(announced.bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        loop {
            // What others left and do not come back for must not starve this one.
            self.forget_old(&mut self.partials());
            if self.budget.available_permits() < units as usize {
                self.partials().clear();
            }
            if let Ok(share) = timeout(LOOK_AGAIN, self.budget.clone().acquire_many_owned(units)).await {
                let closed = |_| WireError::new(ErrorCode::Unavailable, "the coordinator shuts down");
                return Ok((assembler, share.map_err(closed)?));
            }
        }
    }

    fn forget_old(&self, partials: &mut MutexGuard<'_, BTreeMap<Name, Partial>>) {
        let now = self.clock.now_ms();
        partials.retain(|_, partial| now.saturating_sub(partial.since) < PARTIAL_MS);
    }

    fn partials(&self) -> MutexGuard<'_, BTreeMap<Name, Partial>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn longest(bytes: u64) -> Duration {
    Duration::from_secs(60 + bytes / BYTES_PER_SECOND_MIN)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::chunks;

    use super::*;

    fn from(offset: u64) -> Option<Resume> {
        Some(Resume { worker: "ada".parse().unwrap(), offset })
    }

    /// Chunks from `offset` on, and then what breaks the connection, if anything does.
    async fn send(
        uploads: &Uploads,
        payload: &Bytes,
        offset: u64,
        count: usize,
        then: Option<WireError>,
    ) -> Result<Received, WireError> {
        let mut chunks = chunks::split(payload.clone(), offset).take(count).collect::<Vec<_>>().into_iter();
        let announced = chunks::announce(payload);
        let next = || {
            let next = match chunks.next() {
                Some(chunk) => Ok(Some(chunk)),
                None => then.clone().map_or(Ok(None), Err),
            };
            std::future::ready(next)
        };
        uploads.receive(&announced, 1 << 30, from(offset), next).await
    }

    #[tokio::test]
    async fn a_broken_upload_goes_on_where_it_ended() {
        let uploads = Uploads::new(1 << 30, 1 << 30);
        let payload: Bytes = (0..3_500_000u32).map(|i| (i % 251) as u8).collect();
        let announced = chunks::announce(&payload);
        let ada = "ada".parse().unwrap();
        let cut = WireError::new(ErrorCode::Unavailable, "connection reset");
        assert_eq!(uploads.offset(&ada, &announced), 0);
        assert_eq!(send(&uploads, &payload, 0, 2, Some(cut.clone())).await.unwrap_err(), cut);
        assert_eq!(uploads.offset(&ada, &announced), 2 << 20);
        // Nobody else's, and of no other payload.
        assert_eq!(uploads.offset(&"ben".parse().unwrap(), &announced), 0);
        assert_eq!(uploads.offset(&ada, &chunks::announce(b"other")), 0);
        assert_eq!(send(&uploads, &payload, 2 << 20, 1, Some(cut.clone())).await.unwrap_err(), cut);
        let received = send(&uploads, &payload, 3 << 20, 9, None).await.unwrap();
        assert_eq!(received.bytes, payload);
        assert_eq!(uploads.offset(&ada, &announced), 0);
    }

    #[tokio::test]
    async fn a_wrong_offset_is_refused_and_costs_what_was_there() {
        let uploads = Uploads::new(1 << 30, 1 << 30);
        let payload: Bytes = vec![7u8; 3 << 20].into();
        let cut = WireError::new(ErrorCode::Unavailable, "connection reset");
        let _ = send(&uploads, &payload, 0, 1, Some(cut)).await;
        let refused = send(&uploads, &payload, 2 << 20, 9, None).await.unwrap_err();
        assert_eq!(refused.message, "the upload starts at 2097152, 1048576 bytes of it are here; ask again");
        assert!(send(&uploads, &payload, 0, 9, None).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_left_of_uploads_does_not_starve_others() {
        let uploads = Uploads::new(3 << 20, 3 << 20);
        let payload: Bytes = vec![7u8; 3 << 20].into();
        let cut = WireError::new(ErrorCode::Unavailable, "connection reset");
        let _ = send(&uploads, &payload, 0, 1, Some(cut)).await;
        assert_eq!(uploads.budget.available_permits(), 0);
        let announced = chunks::announce(&payload);
        let mut chunks = chunks::split(payload.clone(), 0).collect::<Vec<_>>().into_iter();
        let ben = Resume { worker: "ben".parse().unwrap(), offset: 0 };
        let next = || std::future::ready(Ok(chunks.next()));
        assert!(uploads.receive(&announced, 1 << 30, Some(ben), next).await.is_ok());
    }
}
