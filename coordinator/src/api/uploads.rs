use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use params::{Digest, Name};
use proto::{
    chunks::Tally,
    error::{ErrorCode, WireError},
    v1::{BlobRef, Chunk},
};
use service::clock::Clock;
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use super::buffers::{Buffer, Pool};

/// A peer that sends nothing for this long loses its connection's upload.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// An upload may take a minute, and longer for what this rate cannot carry in it.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// How often an upload that waits for its share looks for what others left.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// While somebody waits, who holds a share and sends no whole chunk for this long loses it: at [`BYTES_PER_SECOND_MIN`]
/// a chunk takes four seconds.
const SILENCE_WANTED: Duration = Duration::from_secs(6);

/// While somebody waits, an upload slower than [`BYTES_PER_SECOND_MIN`] over this time loses its share.
const SLOW: Duration = Duration::from_secs(10);

/// What a broken connection left of an upload is kept for this long, one per worker.
const PARTIAL_MS: u64 = 60_000;

/// Uploads in flight: bounded in memory, one for each worker, and kept for a while when their connection breaks. An
/// upload waits for its share before its bytes are read; until then flow control holds the sender back.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    pool: Pool,
    bytes_max: u64,
    partials: Arc<Mutex<BTreeMap<Name, Partial>>>,
    under_way: Arc<Mutex<BTreeMap<Name, UnderWay>>>,
    next: Arc<AtomicU64>,
    clock: Clock,
}

/// Whose upload it is, and where it goes on.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) worker: Name,
    pub(crate) offset: u64,
}

/// A piece of a payload, as whoever reads the stream has it.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A whole chunk.
    Chunk(Chunk),
    /// Some of the data of a chunk, which has `of` bytes in all. The rest follows.
    Data { piece: Bytes, of: usize },
    /// The end of a chunk whose data came before; an empty digest is none.
    End { offset: u64, digest: Vec<u8> },
}

/// What has arrived of an upload whose connection broke. It keeps its share: memory stays bounded.
#[derive(Debug)]
struct Partial {
    arriving: Arriving,
    since: u64,
}

/// An upload while its bytes come.
#[derive(Debug)]
struct Arriving {
    tally: Tally,
    buffer: Buffer,
}

impl Arriving {
    /// Takes in one chunk; `false` at the end of the stream. Data goes to its place as it comes, and counts with the
    /// end of its chunk: what breaks in between leaves no trace. It is hashed then, in one piece, from the cache.
    async fn chunk<F>(&mut self, next: &mut impl FnMut() -> F) -> Result<bool, Stop>
    where
        F: Future<Output = Result<Option<Piece>, WireError>>,
    {
        // What is in memory is addressed by `usize`.
        let start = self.tally.offset() as usize;
        let mut end = start;
        loop {
            let (offset, digest) = match next().await.map_err(Stop::Broken)? {
                None => return Ok(false),
                Some(Piece::Data { piece, of }) => {
                    self.tally.fits(of).map_err(Stop::Refused)?;
                    self.buffer.put(end, &piece);
                    end += piece.len();
                    continue;
                }
                Some(Piece::Chunk(Chunk { offset, data, digest })) => {
                    self.tally.accept(offset, &data, &digest).map_err(Stop::Refused)?;
                    self.buffer.put(start, &data);
                    return Ok(true);
                }
                Some(Piece::End { offset, digest }) => (offset, digest),
            };
            self.tally.accept(offset, &self.buffer[start..end], &digest).map_err(Stop::Refused)?;
            return Ok(true);
        }
    }
}

/// The one upload of a worker that is let through; a later one ends it.
struct Turn<'a> {
    uploads: &'a Uploads,
    worker: Name,
    number: u64,
    over: CancellationToken,
    percent: Arc<AtomicU64>,
}

/// What others see of it.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    over: CancellationToken,
    percent: Arc<AtomicU64>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = self.uploads.under_way();
        if under_way.get(&self.worker).is_some_and(|upload| upload.number == self.number) {
            under_way.remove(&self.worker);
        }
    }
}

impl Uploads {
    /// `budget_bytes` for all uploads at once, `bytes_max` for one.
    pub(crate) fn new(budget_bytes: u64, bytes_max: u64) -> Self {
        Self {
            pool: Pool::new(budget_bytes),
            bytes_max,
            partials: Arc::default(),
            under_way: Arc::default(),
            next: Arc::default(),
            clock: Clock::start(),
        }
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
        let partial = partials.get(worker).filter(|partial| Some(partial.arriving.tally.digest()) == digest);
        partial.map_or(0, |partial| partial.arriving.tally.offset())
    }

    /// Receives what was announced; `next` gives the next piece, `None` at the end of the stream. With `from`, goes on
    /// where an earlier connection ended, and keeps what has arrived when this one breaks; a worker that starts
    /// another upload gives up the one before.
    pub(crate) async fn receive<F>(
        &self,
        announced: &BlobRef,
        bytes_max: u64,
        from: Option<Resume>,
        next: impl FnMut() -> F,
    ) -> Result<Buffer, WireError>
    where
        F: Future<Output = Result<Option<Piece>, WireError>>,
    {
        let turn = from.as_ref().map(|resume| self.turn(&resume.worker));
        let mut arriving = self.begin(announced, bytes_max, from.as_ref()).await?;
        let result = match &turn {
            None => self.fill(&mut arriving, announced, None, next).await,
            Some(turn) => {
                let fill = self.fill(&mut arriving, announced, Some(&turn.percent), next);
                let taken_over = || Stop::Refused(busy("a later upload of this worker took over".to_owned()));
                turn.over.run_until_cancelled(fill).await.unwrap_or_else(|| Err(taken_over()))
            }
        };
        match (result, from) {
            (Ok(()), _) => {
                arriving.tally.finish()?;
                Ok(arriving.buffer)
            }
            (Err(Stop::Broken(error)), Some(Resume { worker, .. })) if arriving.tally.offset() > 0 => {
                let since = self.clock.now_ms();
                self.partials().insert(worker, Partial { arriving, since });
                Err(error)
            }
            (Err(Stop::Broken(error) | Stop::Refused(error)), _) => Err(error),
        }
    }

    /// Takes in chunks until all is there. An upload that may be gone on with later shows how far it is.
    async fn fill<F>(
        &self,
        arriving: &mut Arriving,
        announced: &BlobRef,
        resumable: Option<&AtomicU64>,
        mut next: impl FnMut() -> F,
    ) -> Result<(), Stop>
    where
        F: Future<Output = Result<Option<Piece>, WireError>>,
    {
        // From here on only: others decide how long an upload waits for its share.
        let (began, longest) = (self.clock.now_ms(), longest(announced.bytes));
        let from = arriving.tally.offset();
        loop {
            let (have, all) = (arriving.tally.offset(), announced.bytes);
            let taken = Duration::from_millis(self.clock.now_ms().saturating_sub(began));
            let slow = (have - from) / taken.as_secs().max(1) < BYTES_PER_SECOND_MIN;
            if taken > longest || (slow && taken > SLOW && self.pool.is_wanted()) {
                let seconds = taken.as_secs();
                let slow = format!("{have} of {all} bytes arrived in {seconds} s, send the rest");
                return Err(Stop::Broken(busy(slow)));
            }
            if self.patiently(arriving.chunk(&mut next)).await? {
                if let Some(percent) = resumable {
                    percent.store(arriving.tally.offset() * 100 / all.max(1), Ordering::Relaxed);
                }
                continue;
            }
            if arriving.tally.is_complete() || resumable.is_none() {
                return Ok(());
            }
            let message = format!("the upload ended after {have} of {all} bytes, send the rest");
            return Err(Stop::Broken(WireError::new(ErrorCode::Corrupt, message)));
        }
    }

    /// The next chunk, as long as it may take.
    async fn patiently<T>(&self, next: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        let mut next = std::pin::pin!(next);
        let mut silent = Duration::ZERO;
        loop {
            if let Ok(chunk) = timeout(LOOK_AGAIN, &mut next).await {
                return chunk;
            }
            silent += LOOK_AGAIN;
            if silent >= SILENCE_MAX || (silent >= SILENCE_WANTED && self.pool.is_wanted()) {
                let silence = format!("no byte for {} s, send the upload again", silent.as_secs());
                return Err(Stop::Broken(busy(silence)));
            }
        }
    }

    /// What is there of the upload, or a new one with its share of the budget.
    async fn begin(
        &self,
        announced: &BlobRef,
        bytes_max: u64,
        from: Option<&Resume>,
    ) -> Result<Arriving, WireError> {
        let tally = Tally::new(announced, bytes_max.min(self.bytes_max))?;
        if let Some(Resume { worker, offset }) = from {
            let known = self.partials().remove(worker);
            match known.filter(|partial| partial.arriving.tally.digest() == tally.digest()) {
                Some(partial) if partial.arriving.tally.offset() == *offset => return Ok(partial.arriving),
                _ if *offset == 0 => {}
                other => {
                    let have = other.map_or(0, |partial| partial.arriving.tally.offset());
                    let message =
                        format!("the upload starts at {offset}, {have} bytes of it are here; ask again");
                    return Err(WireError::new(ErrorCode::Corrupt, message));
                }
            }
        }
        loop {
            // What others left and do not come back for must not starve this one.
            self.forget_old(&mut self.partials());
            if !self.pool.has_room(announced.bytes) {
                self.partials().clear();
            }
            if let Ok(share) = timeout(LOOK_AGAIN, self.pool.share(announced.bytes)).await {
                // `Tally` has seen that it can be addressed.
                let buffer = self.pool.buffer(announced.bytes as usize, share?)?;
                return Ok(Arriving { tally, buffer });
            }
        }
    }

    /// From now on this is the upload of the worker.
    fn turn(&self, worker: &Name) -> Turn<'_> {
        let (number, over) = (self.next.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
        let percent = Arc::<AtomicU64>::default();
        let upload = UnderWay { number, over: over.clone(), percent: percent.clone() };
        if let Some(before) = self.under_way().insert(worker.clone(), upload) {
            before.over.cancel();
        }
        Turn { uploads: self, worker: worker.clone(), number, over, percent }
    }

    /// How much of the upload of this worker has arrived, if there is one.
    pub(crate) fn percent(&self, worker: &Name) -> Option<u64> {
        self.under_way().get(worker).map(|upload| upload.percent.load(Ordering::Relaxed))
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<Name, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_old(&self, partials: &mut MutexGuard<'_, BTreeMap<Name, Partial>>) {
        let now = self.clock.now_ms();
        partials.retain(|_, partial| now.saturating_sub(partial.since) < PARTIAL_MS);
    }

    fn partials(&self) -> MutexGuard<'_, BTreeMap<Name, Partial>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an upload did not come to its end.
enum Stop {
    /// What has arrived is good, the rest may come later.
    Broken(WireError),
    /// What came is not what was announced, or is not wanted any more.
    Refused(WireError),
}

fn busy(message: String) -> WireError {
    WireError::new(ErrorCode::Busy, message).retry_after(Duration::from_secs(1))
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
    ) -> Result<Buffer, WireError> {
        let mut chunks = chunks::split(payload.clone(), offset, chunks::Proof::Whole)
            .take(count)
            .collect::<Vec<_>>()
            .into_iter();
        let announced = chunks::announce(payload);
        let next = || {
            let next = match chunks.next() {
                Some(chunk) => Ok(Some(Piece::Chunk(chunk))),
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
        assert_eq!(send(&uploads, &payload, 0, 8, Some(cut.clone())).await.unwrap_err(), cut);
        assert_eq!(uploads.offset(&ada, &announced), 2 << 20);
        // Nobody else's, and of no other payload.
        assert_eq!(uploads.offset(&"ben".parse().unwrap(), &announced), 0);
        assert_eq!(uploads.offset(&ada, &chunks::announce(b"other")), 0);
        assert_eq!(send(&uploads, &payload, 2 << 20, 4, Some(cut.clone())).await.unwrap_err(), cut);
        let received = send(&uploads, &payload, 3 << 20, 99, None).await.unwrap();
        assert_eq!(*received, payload);
        assert_eq!(uploads.offset(&ada, &announced), 0);
    }

    #[tokio::test]
    async fn a_wrong_offset_is_refused_and_costs_what_was_there() {
        let uploads = Uploads::new(1 << 30, 1 << 30);
        let payload: Bytes = vec![7u8; 3 << 20].into();
        let cut = WireError::new(ErrorCode::Unavailable, "connection reset");
        let _ = send(&uploads, &payload, 0, 4, Some(cut)).await;
        let refused = send(&uploads, &payload, 2 << 20, 99, None).await.unwrap_err();
        assert_eq!(refused.message, "the upload starts at 2097152, 1048576 bytes of it are here; ask again");
        assert!(send(&uploads, &payload, 0, 99, None).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_left_of_uploads_does_not_starve_others() {
        let uploads = Uploads::new(3 << 20, 3 << 20);
        let payload: Bytes = vec![7u8; 3 << 20].into();
        let cut = WireError::new(ErrorCode::Unavailable, "connection reset");
        let _ = send(&uploads, &payload, 0, 1, Some(cut)).await;
        assert!(!uploads.pool.has_room(1));
        let announced = chunks::announce(&payload);
        let mut chunks =
            chunks::split(payload.clone(), 0, chunks::Proof::Chunks).collect::<Vec<_>>().into_iter();
        let ben = Resume { worker: "ben".parse().unwrap(), offset: 0 };
        let next = || std::future::ready(Ok(chunks.next().map(Piece::Chunk)));
        assert!(uploads.receive(&announced, 1 << 30, Some(ben), next).await.is_ok());
    }

    #[tokio::test]
    async fn a_later_upload_of_a_worker_takes_over() {
        let uploads = Uploads::new(3 << 20, 3 << 20);
        let payload: Bytes = vec![7u8; 3 << 20].into();
        let announced = chunks::announce(&payload);
        let never = || std::future::pending::<Result<Option<Piece>, WireError>>();
        let first = uploads.receive(&announced, 1 << 30, from(0), never);
        let (first, second) = tokio::join!(first, send(&uploads, &payload, 0, 99, None));
        assert_eq!(first.unwrap_err().message, "a later upload of this worker took over");
        assert_eq!(*second.unwrap(), payload);
        assert!(uploads.under_way().is_empty());
    }
}
