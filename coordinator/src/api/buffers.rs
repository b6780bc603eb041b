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

/// The budget of all uploads in flight, and the pages that the last ones left.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    budget: Arc<Semaphore>,
    units: u32,
    free: Arc<Mutex<Vec<Pages>>>,
    /// Uploads that wait for a share.
    waiting: Arc<AtomicUsize>,
}

/// Counts one that waits, also when it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A share of the budget, given back when it is dropped.
pub(super) type Share = OwnedSemaphorePermit;

/// The bytes of one upload, with their share of the budget. Dropping it gives both back.
pub(crate) struct Buffer {
    place: Place,
    len: usize,
    free: Arc<Mutex<Vec<Pages>>>,
    units: u32,
    _share: Share,
}

enum Place {
    Heap(Vec<u8>),
    Pages(Option<Pages>),
}

impl Pool {
    /// `bytes` for all uploads at once. A single larger one is let in when there is no other.
    pub(super) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let budget = Arc::new(Semaphore::new(permits));
        Self { budget, units, free: Arc::default(), waiting: Arc::default() }
    }

    /// Waits for a share for `bytes`. First come, first served: a large upload is not overtaken for ever.
    pub(super) async fn share(&self, bytes: u64) -> Result<Share, WireError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _until_served = Waiting(&self.waiting);
        let closed = |_| WireError::new(ErrorCode::Unavailable, "the coordinator shuts down");
        self.budget.clone().acquire_many_owned(self.need(bytes)).await.map_err(closed)
    }

    /// Whether somebody waits for a share.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether a share for `bytes` is there now.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.budget.available_permits() >= self.need(bytes) as usize
    }

    /// Memory for `bytes`, once there is a share for it.
    pub(super) fn buffer(&self, bytes: usize, share: Share) -> Result<Buffer, WireError> {
        let place = match bytes <= SMALL_MAX {
            true => Place::Heap(vec![0; bytes]),
            false => Place::Pages(Some(self.pages(bytes)?)),
        };
        Ok(Buffer { place, len: bytes, free: self.free.clone(), units: self.units, _share: share })
    }

    /// Pages that an earlier upload of about this size left, or new ones. What does not fit is dropped then: what is
    /// in flight and what is kept are within the budget together.
    fn pages(&self, bytes: usize) -> Result<Pages, WireError> {
        let mut free = lock(&self.free);
        let fits = |pages: &Pages| (bytes..=bytes + bytes / 8).contains(&pages.capacity());
        if let Some(at) = free.iter().position(fits) {
            return Ok(free.swap_remove(at));
        }
        free.clear();
        drop(free);
        Pages::new(bytes).map_err(|cause| {
            WireError::new(ErrorCode::Busy, format!("no memory for an upload of {bytes} bytes: {cause}"))
                .retry_after(std::time::Duration::from_secs(1))
        })
    }

    fn need(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units)
    }
}

impl Buffer {
    /// Puts bytes at a place, which must be in it.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        let place = match &mut self.place {
            Place::Heap(heap) => heap.as_mut_slice(),
            Place::Pages(pages) => pages.as_mut().map_or(&mut [][..], AsMut::as_mut),
        };
        place[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let place = match &self.place {
            Place::Heap(heap) => heap.as_slice(),
            Place::Pages(pages) => pages.as_ref().map_or(&[][..], AsRef::as_ref),
        };
        &place[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Place::Pages(pages) = &mut self.place else { return };
        let Some(pages) = pages.take() else { return };
        let mut free = lock(&self.free);
        let kept: u64 = free.iter().chain([&pages]).map(|pages| pages.capacity() as u64).sum();
        if kept <= u64::from(self.units) * UNIT {
            free.push(pages);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

fn lock(free: &Mutex<Vec<Pages>>) -> MutexGuard<'_, Vec<Pages>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn buffer(pool: &Pool, bytes: usize) -> Buffer {
        pool.buffer(bytes, pool.share(bytes as u64).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn pages_are_reused_within_the_budget() {
        let pool = Pool::new(4 << 20);
        let mut first = buffer(&pool, 1 << 20).await;
        first.put((1 << 20) - 2, b"ab");
        assert_eq!(&first[(1 << 20) - 2..], b"ab");
        let at = first.as_ptr();
        drop(first);
        let second = buffer(&pool, 1 << 20).await;
        assert_eq!(second.as_ptr(), at);
        drop(second);
        // Another size: what was kept goes.
        let other = buffer(&pool, 3 << 20).await;
        assert_eq!(lock(&pool.free).len(), 0);
        drop(other);
        assert_eq!(lock(&pool.free).len(), 1);
        let small = buffer(&pool, 100).await;
        assert_eq!((small.len(), lock(&pool.free).len()), (100, 1));
    }

    #[tokio::test]
    async fn one_that_is_larger_than_the_budget_goes_alone() {
        let pool = Pool::new(1 << 20);
        let large = buffer(&pool, 5 << 20).await;
        assert!(!pool.has_room(1));
        drop(large);
        assert_eq!(lock(&pool.free).len(), 0, "it is not kept");
        assert!(pool.has_room(5 << 20));
    }
}
