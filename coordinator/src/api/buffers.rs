//! The memory that uploads arrive in: bounded in all, reused, and given back in order of arrival.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use proto::error::{ErrorCode, WireError};
use service::memory::Pages;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of the memory budget.
const UNIT: u64 = 64 * 1024;

/// Shorter payloads lie on the heap: to map pages for them would cost more than to copy them.
const SMALL_MAX: usize = 256 * 1024;

/// The budget of all uploads in flight, and the pages that the last ones left. Those keep their share until somebody
/// needs it, so that what is in flight and what is kept are within the budget together.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    budget: Arc<Semaphore>,
    units: u32,
    free: Free,
    /// Uploads that wait for a share.
    waiting: Arc<AtomicUsize>,
}

type Free = Arc<Mutex<Vec<(Pages, Share)>>>;

/// Counts one that waits, also when it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A share of the budget, given back when it is dropped.
type Share = OwnedSemaphorePermit;

/// The bytes of one upload, with their share of the budget. Dropping it gives both back.
pub(crate) struct Buffer {
    place: Place,
    len: usize,
    pool: Pool,
}

enum Place {
    Heap(Vec<u8>, #[allow(dead_code)] Share),
    Pages(Option<(Pages, Share)>),
}

impl Pool {
    /// `bytes` for all uploads at once. A single larger one is let in when there is no other.
    pub(super) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let budget = Arc::new(Semaphore::new(permits));
        Self { budget, units, free: Arc::default(), waiting: Arc::default() }
    }

    /// Memory for `bytes`, once there is a share for it. First come, first served: a large upload is not overtaken, as
    /// long as the same future is waited for.
    pub(super) async fn buffer(&self, bytes: usize) -> Result<Buffer, WireError> {
        if let Some(kept) = self.kept(bytes) {
            return Ok(self.with(Place::Pages(Some(kept)), bytes));
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let until_served = Waiting(&self.waiting);
        if !self.has_room(bytes as u64) {
            self.shrink();
        }
        let closed = |_| WireError::new(ErrorCode::Unavailable, "the coordinator shuts down");
        let share = self.budget.clone().acquire_many_owned(self.need(bytes as u64)).await.map_err(closed)?;
        drop(until_served);
        let place = match bytes <= SMALL_MAX {
            true => Place::Heap(vec![0; bytes], share),
            false => Place::Pages(Some((pages(bytes)?, share))),
        };
        Ok(self.with(place, bytes))
    }

    /// Whether somebody waits for a share.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether a share for `bytes` is there now.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.budget.available_permits() >= self.need(bytes) as usize
    }

    /// Gives back what is kept for later uploads.
    pub(super) fn shrink(&self) {
        lock(&self.free).clear();
    }

    /// Pages that an earlier upload of this size left.
    fn kept(&self, bytes: usize) -> Option<(Pages, Share)> {
        let mut free = lock(&self.free);
        let at = free.iter().position(|(pages, _)| pages.capacity() == bytes && bytes > SMALL_MAX)?;
        Some(free.swap_remove(at))
    }

    fn with(&self, place: Place, len: usize) -> Buffer {
        Buffer { place, len, pool: self.clone() }
    }

    fn need(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units)
    }
}

fn pages(bytes: usize) -> Result<Pages, WireError> {
    Pages::new(bytes).map_err(|cause| {
        WireError::new(ErrorCode::Busy, format!("no memory for an upload of {bytes} bytes: {cause}"))
            .retry_after(std::time::Duration::from_secs(1))
    })
}

impl Buffer {
    /// Puts bytes at a place, which must be in it.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        let place = match &mut self.place {
            Place::Heap(heap, _) => heap.as_mut_slice(),
            Place::Pages(pages) => pages.as_mut().map_or(&mut [][..], |(pages, _)| pages.as_mut()),
        };
        place[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let place = match &self.place {
            Place::Heap(heap, _) => heap.as_slice(),
            Place::Pages(pages) => pages.as_ref().map_or(&[][..], |(pages, _)| pages.as_ref()),
        };
        &place[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Place::Pages(pages) = &mut self.place else { return };
        // One that is larger than the budget would keep all of it.
        let keep = !self.pool.is_wanted() && self.len as u64 <= u64::from(self.pool.units) * UNIT;
        if let Some(pages) = pages.take().filter(|_| keep) {
            lock(&self.pool.free).push(pages);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

fn lock(free: &Free) -> MutexGuard<'_, Vec<(Pages, Share)>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_reused_within_the_budget() {
        let pool = Pool::new(4 << 20);
        let mut first = pool.buffer(1 << 20).await.unwrap();
        first.put((1 << 20) - 2, b"ab");
        assert_eq!(&first[(1 << 20) - 2..], b"ab");
        let at = first.as_ptr();
        drop(first);
        let second = pool.buffer(1 << 20).await.unwrap();
        assert_eq!(second.as_ptr(), at);
        drop(second);
        assert!(!pool.has_room(4 << 20), "what is kept counts");
        // Another needs all of it: what was kept goes.
        let other = pool.buffer(4 << 20).await.unwrap();
        assert_eq!(lock(&pool.free).len(), 0);
        drop(other);
        let small = pool.buffer(100).await.unwrap();
        assert_eq!((small.len(), lock(&pool.free).len()), (100, 0));
    }

    #[tokio::test]
    async fn one_that_is_larger_than_the_budget_goes_alone() {
        let pool = Pool::new(1 << 20);
        let large = pool.buffer(5 << 20).await.unwrap();
        assert!(!pool.has_room(1));
        drop(large);
        assert_eq!(lock(&pool.free).len(), 0, "it is not kept");
        assert!(pool.has_room(5 << 20));
    }

    #[tokio::test]
    async fn a_large_one_is_not_overtaken() {
        let pool = Pool::new(4 << 20);
        let held = pool.buffer(2 << 20).await.unwrap();
        let mut large = std::pin::pin!(pool.buffer(4 << 20));
        let mut small = std::pin::pin!(pool.buffer(1 << 20));
        let now = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(now, &mut large).await.is_err());
        assert!(tokio::time::timeout(now, &mut small).await.is_err(), "it came later");
        assert!(pool.is_wanted());
        drop(held);
        drop(large.await.unwrap());
        assert!(small.await.is_ok());
    }
}
