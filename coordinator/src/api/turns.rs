//! One upload for each worker: which one it is, how far it is, and how another takes its place.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use params::Name;
use proto::error::{ErrorCode, WireError};
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

/// How long an upload that is given up may take to leave what has arrived.
const PARK_MAX: Duration = Duration::from_secs(1);

/// All uploads of workers that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    under_way: Arc<Mutex<BTreeMap<Name, Arc<UnderWay>>>>,
}

/// One of them.
#[derive(Debug, Default)]
struct UnderWay {
    /// It is to end.
    over: CancellationToken,
    /// It has ended.
    gone: CancellationToken,
    /// What has arrived is asked for again: it is kept.
    parked: AtomicBool,
    /// All its bytes are here, and what is in them is being taken in.
    whole: AtomicBool,
    percent: AtomicU64,
}

/// The upload of a worker, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    worker: Name,
    upload: Arc<UnderWay>,
}

impl Turns {
    /// From now on this is the upload of the worker; one that is still on its way ends.
    ///
    /// # Errors
    /// One has arrived and is being taken in: to let more of them in would take the memory of others.
    pub(super) fn take(&self, worker: &Name) -> Result<Turn, WireError> {
        let mut under_way = self.lock();
        if let Some(before) = under_way.get(worker) {
            if before.whole.load(Ordering::Relaxed) {
                let message = "an update of this worker is being taken in, ask again".to_owned();
                let busy = WireError::new(ErrorCode::Busy, message);
                return Err(busy.retry_after(Duration::from_secs(1)));
            }
            before.over.cancel();
        }
        let upload = Arc::<UnderWay>::default();
        under_way.insert(worker.clone(), upload.clone());
        Ok(Turn { turns: self.clone(), worker: worker.clone(), upload })
    }

    /// Whoever asks how far an upload is has lost its connection: ends it, and waits until it has left what came.
    pub(super) async fn park(&self, worker: &Name) {
        let known = self.lock().get(worker).cloned();
        if let Some(upload) = known.filter(|upload| !upload.whole.load(Ordering::Relaxed)) {
            upload.parked.store(true, Ordering::Relaxed);
            upload.over.cancel();
            // Without it, the upload begins anew.
            let _ = timeout(PARK_MAX, upload.gone.cancelled()).await;
        }
    }

    /// How much of the upload of this worker has arrived, in per cent, if there is one.
    pub(super) fn percent(&self, worker: &Name) -> Option<u64> {
        self.lock().get(worker).map(|upload| upload.percent.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<UnderWay>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Does something for as long as it is this upload's turn; `Err`: whether what has arrived is to be kept.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, bool> {
        let done = self.upload.over.run_until_cancelled(work).await;
        done.ok_or_else(|| self.upload.parked.load(Ordering::Relaxed))
    }

    /// So much has arrived.
    pub(super) fn tell(&self, percent: u64) {
        self.upload.percent.store(percent, Ordering::Relaxed);
    }

    /// All has arrived.
    pub(super) fn is_whole(&self) {
        self.upload.whole.store(true, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = self.turns.lock();
        if under_way.get(&self.worker).is_some_and(|known| Arc::ptr_eq(known, &self.upload)) {
            under_way.remove(&self.worker);
        }
        self.upload.gone.cancel();
    }
}
