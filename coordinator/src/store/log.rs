use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use journal::{Journal, WriteError, entry::Entry};
use service::fault;
use tokio::sync::watch;

use super::{StoreError, follower::Follower};

/// Entries that may wait for the disk; whoever would add more waits, see [`Log::room`].
const WAITING_MAX: usize = 4096;

/// How long to wait before a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// The journal's writer: one thread that makes whatever has gathered durable with one fsync (group commit),
/// tells who waits, and then lets the [`Follower`] take it in. So the index lags behind the journal and
/// never leads.
#[derive(Debug)]
pub(super) struct Log {
    queue: Arc<Queue>,
    durable: watch::Receiver<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: Vec<(Entry, Vec<u8>)>,
    next: u64,
    closing: bool,
}

impl Log {
    /// Starts the thread. `follower` has taken in everything that `journal` holds.
    pub(super) fn start(journal: Journal, follower: Follower) -> std::io::Result<Self> {
        let state = State { waiting: Vec::new(), next: journal.next_seq(), closing: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), filled: Condvar::new() });
        let (tell, durable) = watch::channel(journal.durable());
        let writer = Writer { queue: queue.clone(), journal, follower, tell };
        let run = move || {
            // The panic hook has logged it. Without this thread nothing would ever be acknowledged again.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run())).is_err() {
                stop(&"the journal's thread panicked");
            }
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(run)?;
        Ok(Self { queue, durable, thread: Mutex::new(Some(thread)) })
    }

    /// Adds an entry and returns its number at once; `before` is called with it before anybody else can
    /// add one.
    pub(super) fn append(&self, entry: Entry, before: impl FnOnce(u64, &Entry)) -> Result<u64, StoreError> {
        let bytes = entry.encode();
        let max = journal::Options::default().frame_bytes_max as usize;
        if bytes.len() > max {
            return Err(StoreError::EntryTooLarge { bytes: bytes.len(), max });
        }
        let mut state = self.queue.lock();
        if state.closing {
            return Err(StoreError::Closed);
        }
        let seq = state.next;
        state.next += 1;
        before(seq, &entry);
        state.waiting.push((entry, bytes));
        self.queue.filled.notify_one();
        Ok(seq)
    }

    /// Waits until the disk has caught up so far that more may be added.
    pub(super) async fn room(&self) {
        let mut durable = self.durable.clone();
        while self.queue.lock().waiting.len() >= WAITING_MAX {
            // The sender lives as long as the thread; when that ends, so does the process.
            if durable.changed().await.is_err() {
                return;
            }
        }
    }

    /// The number of the last entry that is on the disk, now and later.
    pub(super) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// Writes what is left and ends the thread. Nothing can be added afterwards.
    pub(super) fn close(&self) {
        self.queue.lock().closing = true;
        self.queue.filled.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It has logged why, if it panicked.
        let _ = thread.map(JoinHandle::join);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's own.
struct Writer {
    queue: Arc<Queue>,
    journal: Journal,
    follower: Follower,
    tell: watch::Sender<u64>,
}

impl Writer {
    fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            for (_, bytes) in &batch {
                if let Err(error) = self.journal.append(bytes) {
                    stop(&error);
                }
            }
            self.sync();
            self.tell.send_replace(self.journal.durable());
            let first = self.journal.durable() + 1 - batch.len() as u64;
            for (seq, (entry, _)) in (first..).zip(batch) {
                self.follower.take(seq, entry);
            }
            self.follower.rest(&self.journal);
        }
        self.follower.close();
    }

    /// What has gathered; `None` when nothing more will come. Waits for it, and lets the follower do what is due.
    fn next_batch(&mut self) -> Option<Vec<(Entry, Vec<u8>)>> {
        let mut state = self.queue.lock();
        loop {
            if !state.waiting.is_empty() {
                return Some(std::mem::take(&mut state.waiting));
            }
            if state.closing {
                return None;
            }
            let (woken, waited) = self
                .queue
                .filled
                .wait_timeout(state, self.follower.patience())
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if waited.timed_out() && state.waiting.is_empty() {
                drop(state);
                self.follower.rest(&self.journal);
                state = self.queue.lock();
            }
        }
    }

    fn sync(&mut self) {
        self.suffer();
        let mut told = false;
        loop {
            match self.journal.sync() {
                Ok(_) => break,
                Err(error @ WriteError::Full { .. }) => {
                    if !told {
                        tracing::error!(%error, "nothing can be acknowledged until there is room");
                        told = true;
                    }
                    std::thread::park_timeout(FULL_RETRY);
                }
                Err(error) => stop(&error),
            }
        }
        if told {
            tracing::info!("there is room again, what waited is durable");
        }
    }

    /// What tests do to this disk.
    fn suffer(&mut self) {
        if let Some(after) = fault::setting("journal-sync-eio")
            && self.journal.next_seq() > after
        {
            stop(&"sync the journal: input/output error (made by a test)");
        }
        if let Some(slow_ms) = fault::setting("journal-sync-slow-ms") {
            std::thread::park_timeout(Duration::from_millis(slow_ms));
        }
    }
}

/// A disk that does not keep what it was given ends the process, at once: nobody knows what is on the disk after a failed
/// fsync, and a second one may lie (Rebello et al. 2020, "Can applications recover from fsync failures?").
pub(super) fn stop(error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "what must be durable cannot be made so: this process ends now; nothing that was acknowledged is lost, start it again");
    std::process::exit(1);
}
