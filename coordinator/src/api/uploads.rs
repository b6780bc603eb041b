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

use super::{
    buffers::{Buffer, Pool},
    turns::{Turn, Turns},
};

/// A peer that sends nothing for this long loses its connection's upload.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// An upload may take a minute, and longer for what this rate cannot carry in it.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// How often an upload that waits for its share looks for what others left.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// While somebody waits, an upload that is silent for this long, or slower than [`BYTES_PER_SECOND_MIN`] over it, loses
/// its share. A frame of half a mebibyte takes eight seconds at that rate.
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
    turns: Turns,
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

/// What arrived whole, and whose turn it is until it is taken in.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Buffer,
    /// Kept for as long as the bytes are: a worker cannot fill the memory with updates that wait.
    pub(crate) turn: Option<Turn>,
}

impl Uploads {
    /// `budget_bytes` for all uploads at once, `bytes_max` for one.
    pub(crate) fn new(budget_bytes: u64, bytes_max: u64) -> Self {
        Self {
            pool: Pool::new(budget_bytes),
            bytes_max,
            partials: Arc::default(),
            turns: Turns::default(),
            clock: Clock::start(),
        }
    }

    /// The most that one upload may hold.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// How much of this payload has arrived from this worker. An upload of it that is still under way ends: its sender
    /// would not ask.
    pub(crate) async fn offset(&self, worker: &Name, announced: &BlobRef) -> u64 {
        self.turns.park(worker).await;
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
    ) -> Result<Received, WireError>
    where
        F: Future<Output = Result<Option<Piece>, WireError>>,
    {
        // Before it takes anybody's place.
        let tally = Tally::new(announced, bytes_max.min(self.bytes_max))?;
        let Some(resume) = from else {
            let mut arriving = self.begin(tally, None).await?;
            let filled = self.fill(&mut arriving, announced, None, next).await;
            filled.map_err(Stop::into_error)?;
            arriving.tally.finish()?;
            return Ok(Received { bytes: arriving.buffer, turn: None });
        };
        let turn = self.turns.take(&resume.worker)?;
        let taken_over = || busy("a later upload of this worker took over".to_owned());
        let begun = turn.during(self.begin(tally, Some(&resume))).await;
        let mut arriving = begun.map_err(|_| taken_over())??;
        let filled = turn.during(self.fill(&mut arriving, announced, Some(&turn), next)).await;
        let stop = match filled {
            Ok(Ok(())) => {
                arriving.tally.finish()?;
                turn.is_whole();
                return Ok(Received { bytes: arriving.buffer, turn: Some(turn) });
            }
            Ok(Err(stop)) => stop,
            Err(true) => Stop::Broken(taken_over()),
            Err(false) => Stop::Refused(taken_over()),
        };
        match stop {
            Stop::Broken(error) => {
                if arriving.tally.offset() > 0 {
                    let since = self.clock.now_ms();
                    self.partials().insert(resume.worker, Partial { arriving, since });
                }
                Err(error)
            }
            Stop::Refused(error) => Err(error),
        }
    }

    /// Takes in chunks until all is there. An upload that may be gone on with later shows how far it is.
    async fn fill<F>(
        &self,
        arriving: &mut Arriving,
        announced: &BlobRef,
        turn: Option<&Turn>,
        mut next: impl FnMut() -> F,
    ) -> Result<(), Stop>
    where
        F: Future<Output = Result<Option<Piece>, WireError>>,
    {
        // From here on only: others decide how long an upload waits for its share.
        let (began, longest) = (self.clock.now_ms(), longest(announced.bytes));
        let (from, heard) = (arriving.tally.offset(), AtomicU64::new(0));
        let mut next = || {
            let piece = next();
            async {
                let piece = piece.await;
                heard.fetch_add(1, Ordering::Relaxed);
                piece
            }
        };
        loop {
            let (have, all) = (arriving.tally.offset(), announced.bytes);
            let taken = Duration::from_millis(self.clock.now_ms().saturating_sub(began));
            let slow = (have - from) / taken.as_secs().max(1) < BYTES_PER_SECOND_MIN;
            if taken > longest || (slow && taken > SLOW && self.pool.is_wanted()) {
                let seconds = taken.as_secs();
                let slow = format!("{have} of {all} bytes arrived in {seconds} s, send the rest");
                return Err(Stop::Broken(busy(slow)));
            }
            if self.patiently(&heard, arriving.chunk(&mut next)).await? {
                if let Some(turn) = turn {
                    turn.tell(arriving.tally.offset() * 100 / all.max(1));
                }
                continue;
            }
            if arriving.tally.is_complete() || turn.is_none() {
                return Ok(());
            }
            let message = format!("the upload ended after {have} of {all} bytes, send the rest");
            return Err(Stop::Broken(WireError::new(ErrorCode::Corrupt, message)));
        }
    }

    /// The next chunk, for as long as pieces of it are `heard`.
    async fn patiently<T>(
        &self,
        heard: &AtomicU64,
        next: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let mut next = std::pin::pin!(next);
        let (mut silent, mut before) = (Duration::ZERO, heard.load(Ordering::Relaxed));
        loop {
            if let Ok(chunk) = timeout(LOOK_AGAIN, &mut next).await {
                return chunk;
            }
            let now = heard.load(Ordering::Relaxed);
            silent = if now == before { silent + LOOK_AGAIN } else { Duration::ZERO };
            before = now;
            if silent >= SILENCE_MAX || (silent >= SLOW && self.pool.is_wanted()) {
                let silence = format!("no byte for {} s, send the upload again", silent.as_secs());
                return Err(Stop::Broken(busy(silence)));
            }
        }
    }

    /// What is there of the upload, or a new one with its share of the budget.
    async fn begin(&self, tally: Tally, from: Option<&Resume>) -> Result<Arriving, WireError> {
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
        // `Tally` has seen that it can be addressed.
        let bytes = tally.bytes() as usize;
        // The same future all the time: it keeps its place in the queue.
        let mut buffer = std::pin::pin!(self.pool.buffer(bytes));
        loop {
            // What others left and do not come back for must not starve this one.
            self.forget_old(&mut self.partials());
            if !self.pool.has_room(bytes as u64) {
                self.partials().clear();
                self.pool.shrink();
            }
            if let Ok(buffer) = timeout(LOOK_AGAIN, &mut buffer).await {
                return Ok(Arriving { tally, buffer: buffer? });
            }
        }
    }

    /// How much of the upload of this worker has arrived, in per cent, if there is one.
    pub(crate) fn percent(&self, worker: &Name) -> Option<u64> {
        self.turns.percent(worker)
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

impl Stop {
    fn into_error(self) -> WireError {
        let (Self::Broken(error) | Self::Refused(error)) = self;
        error
    }
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
    ) -> Result<Received, WireError> {
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
        assert_eq!(uploads.offset(&ada, &announced).await, 0);
        assert_eq!(send(&uploads, &payload, 0, 8, Some(cut.clone())).await.unwrap_err(), cut);
        assert_eq!(uploads.offset(&ada, &announced).await, 2 << 20);
        // Nobody else's, and of no other payload.
        assert_eq!(uploads.offset(&"ben".parse().unwrap(), &announced).await, 0);
        assert_eq!(uploads.offset(&ada, &chunks::announce(b"other")).await, 0);
        assert_eq!(send(&uploads, &payload, 2 << 20, 4, Some(cut.clone())).await.unwrap_err(), cut);
        let received = send(&uploads, &payload, 3 << 20, 99, None).await.unwrap();
        assert_eq!(*received.bytes, payload);
        assert_eq!(uploads.offset(&ada, &announced).await, 0);
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
        assert_eq!(*second.unwrap().bytes, payload);
        assert_eq!(uploads.percent(&"ada".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn who_asks_how_far_an_upload_is_goes_on_with_it() {
        let uploads = Uploads::new(4 << 20, 4 << 20);
        let payload: Bytes = vec![7u8; 3 << 20].into();
        let announced = chunks::announce(&payload);
        let mut chunks = chunks::split(payload.clone(), 0, chunks::Proof::Whole).take(4);
        // A connection that is dead, and not known to be.
        let next = || {
            let next = chunks.next();
            async move {
                match next {
                    Some(chunk) => Ok(Some(Piece::Chunk(chunk))),
                    None => std::future::pending().await,
                }
            }
        };
        let ada = "ada".parse().unwrap();
        let first = uploads.receive(&announced, 1 << 30, from(0), next);
        let again = async {
            tokio::task::yield_now().await;
            uploads.offset(&ada, &announced).await
        };
        let (first, offset) = tokio::join!(first, again);
        assert!(first.is_err());
        assert_eq!(offset, 1 << 20);
        assert_eq!(*send(&uploads, &payload, offset, 99, None).await.unwrap().bytes, payload);
    }

    #[tokio::test]
    async fn a_worker_has_one_update_in_memory() {
        let uploads = Uploads::new(8 << 20, 4 << 20);
        let payload: Bytes = vec![7u8; 1 << 20].into();
        let received = send(&uploads, &payload, 0, 99, None).await.unwrap();
        let refused = send(&uploads, &payload, 0, 99, None).await.unwrap_err();
        assert_eq!(refused.message, "an update of this worker is being taken in, ask again");
        drop(received);
        assert!(send(&uploads, &payload, 0, 99, None).await.is_ok());
    }
}
