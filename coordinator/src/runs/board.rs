use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use params::{Digest, Name};
use proto::{convert, v1};
use round::{Assignment, Lease, Machine, Millis, Touched};

use super::difference::{Difference, State};

/// What each worker of a run should be doing, for the calls of workers. The driver changes it entry by entry
/// before it answers, so that who is acknowledged and asks at once sees what is next.
#[derive(Debug, Default)]
pub(crate) struct Board {
    posted: RwLock<Posted>,
}

/// See [`Board`].
#[derive(Debug, Default)]
pub(crate) struct Posted {
    work: BTreeMap<Name, Offer>,
    /// Work of the open round that is done, by its lease: a repeated message is let in and acknowledged.
    done: BTreeMap<Name, Lease>,
    /// The file that work names, to be sent to workers.
    pub(crate) model: Option<(Digest, Bytes)>,
    /// What makes that file of an earlier one.
    difference: Option<Difference>,
}

/// Work, and the digest of an update whose bytes are wanted again.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) assignment: Assignment,
    pub(crate) owed: Option<Digest>,
    /// Until the round closes, from when this was posted.
    pub(crate) deadline_ms: u64,
}

impl Posted {
    /// What this worker should be doing.
    pub(crate) fn work(&self, worker: &Name) -> Option<&Offer> {
        self.work.get(worker)
    }

    /// Who has work.
    pub(crate) fn workers(&self) -> Vec<Name> {
        self.work.keys().cloned().collect()
    }

    /// Whether the difference to this version will be here soon.
    pub(crate) fn is_differing(&self, model: &Digest, now: Millis) -> bool {
        self.difference.as_ref().is_some_and(|difference| {
            difference.model == *model && matches!(difference.state, State::Making { until } if now < until)
        })
    }

    /// Names the difference to the version that the work names, if there is one.
    pub(crate) fn name_difference(&self, model: &Digest, work: &mut v1::Work) {
        if let Some(Difference { before, model: known, state: State::Made(digest, bytes) }) = &self.difference
            && known == model
        {
            work.base_before = before.as_bytes().to_vec();
            work.difference = Some(convert::blob_ref(*digest, bytes.len() as u64));
        }
    }

    /// The difference with this digest to the version that work names.
    pub(crate) fn difference(&self, model: &Digest, digest: &Digest) -> Option<Bytes> {
        match &self.difference {
            Some(Difference { model: known, state: State::Made(made, bytes), .. }) => {
                (known == model && made == digest).then(|| bytes.clone())
            }
            _ => None,
        }
    }

    /// Whether a message about this work would be taken.
    pub(crate) fn expects(&self, worker: &Name, lease: Lease) -> bool {
        self.work.get(worker).is_some_and(|offer| offer.assignment.lease == lease)
            || self.done.get(worker) == Some(&lease)
    }

    /// Work names this file from now on.
    fn show(&mut self, model: Option<&(Digest, Bytes)>) {
        self.model = model.cloned();
        let shown = model.map(|(digest, _)| *digest);
        // One that leads to another file is of no use any more.
        self.difference.take_if(|difference| Some(difference.model) != shown);
    }

    fn post(&mut self, machine: &Machine, worker: &Name) {
        match machine.assignment(worker) {
            Some(assignment) => {
                let owed = machine.owed(worker);
                // The machine's time is its own: workers are told how long, not until when.
                let deadline_ms = assignment.deadline.saturating_sub(machine.now());
                self.work.insert(worker.clone(), Offer { assignment, owed, deadline_ms });
            }
            None => {
                self.work.remove(worker);
            }
        }
        // A lease of the round before is still known: its sender may have missed the answer.
        if let Some(lease) = machine.done(worker) {
            self.done.insert(worker.clone(), lease);
        }
    }
}

impl Board {
    /// As it is now.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Posted> {
        self.posted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Workers need not fetch a whole file, soon.
    pub(super) fn expect(&self, difference: Difference) {
        self.posted.write().unwrap_or_else(PoisonError::into_inner).difference = Some(difference);
    }

    /// The difference to a version was made, or is of no use. Returns who may have waited for it.
    pub(super) fn settle(&self, model: Digest, made: Option<(Digest, Bytes)>) -> Vec<Name> {
        let mut posted = self.posted.write().unwrap_or_else(PoisonError::into_inner);
        match posted.difference.as_mut().filter(|difference| difference.model == model) {
            Some(difference) => {
                difference.state = made.map_or(State::Useless, |(digest, bytes)| State::Made(digest, bytes));
                posted.workers()
            }
            // The work that it was for is over.
            None => Vec::new(),
        }
    }

    /// Takes over what changed, and returns whom it concerns.
    pub(super) fn update(
        &self,
        machine: &Machine,
        touched: Touched,
        model: Option<&(Digest, Bytes)>,
    ) -> Vec<Name> {
        let mut posted = self.posted.write().unwrap_or_else(PoisonError::into_inner);
        posted.show(model);
        let names = match touched {
            Touched::Workers(names) => names,
            Touched::All => {
                let mut names: Vec<Name> = std::mem::take(&mut posted.work).into_keys().collect();
                names.extend(machine.members().into_iter().map(|member| member.worker));
                names.sort_unstable();
                names.dedup();
                names
            }
        };
        for name in &names {
            posted.post(machine, name);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[u8] = b"old";
    const NEW: &[u8] = b"new";
    const DIFFERENCE: &[u8] = b"difference";

    /// A board that shows the new version, with a difference to it that is being made until 100.
    fn board() -> Board {
        let board = Board::default();
        let (before, model) = (Digest::of(OLD), Digest::of(NEW));
        show(&board, Some(OLD));
        board.expect(Difference { before, model, state: State::Making { until: 100 } });
        show(&board, Some(NEW));
        board
    }

    fn show(board: &Board, file: Option<&'static [u8]>) {
        let model = file.map(|file| (Digest::of(file), Bytes::from_static(file)));
        board.posted.write().unwrap().show(model.as_ref());
    }

    fn made() -> Option<(Digest, Bytes)> {
        Some((Digest::of(DIFFERENCE), Bytes::from_static(DIFFERENCE)))
    }

    fn named(board: &Board, model: &[u8]) -> Option<v1::BlobRef> {
        let mut work = v1::Work::default();
        board.read().name_difference(&Digest::of(model), &mut work);
        let before = if work.difference.is_some() { Digest::of(OLD).as_bytes().to_vec() } else { Vec::new() };
        assert_eq!(work.base_before, before);
        work.difference
    }

    fn kept(board: &Board, model: &[u8], digest: &[u8]) -> Option<Bytes> {
        board.read().difference(&Digest::of(model), &Digest::of(digest))
    }

    #[test]
    fn a_difference_is_waited_for_then_named_and_had() {
        let board = board();
        let differing = |model, now| board.read().is_differing(&Digest::of(model), now);
        assert_eq!((differing(NEW, 99), differing(NEW, 100), differing(OLD, 99)), (true, false, false));
        assert_eq!((named(&board, NEW), kept(&board, NEW, DIFFERENCE)), (None, None));
        board.settle(Digest::of(NEW), made());
        assert!(!differing(NEW, 0));
        let bytes = DIFFERENCE.len() as u64;
        assert_eq!(named(&board, NEW), Some(convert::blob_ref(Digest::of(DIFFERENCE), bytes)));
        assert_eq!(named(&board, OLD), None);
        assert_eq!(kept(&board, NEW, DIFFERENCE).as_deref(), Some(DIFFERENCE));
        assert_eq!((kept(&board, OLD, DIFFERENCE), kept(&board, NEW, NEW)), (None, None));
        // The candidate becomes the base version: who did not measure it has the one before.
        show(&board, Some(NEW));
        assert!(named(&board, NEW).is_some());
    }

    #[test]
    fn a_difference_goes_with_its_version() {
        for shown in [Some(OLD), None] {
            let board = board();
            board.settle(Digest::of(NEW), made());
            show(&board, shown);
            assert_eq!((named(&board, NEW), kept(&board, NEW, DIFFERENCE)), (None, None));
        }
        // One that comes too late for its version.
        let board = board();
        show(&board, Some(OLD));
        board.settle(Digest::of(NEW), made());
        assert_eq!(kept(&board, NEW, DIFFERENCE), None);
    }

    #[test]
    fn what_saves_nothing_is_not_waited_for() {
        let board = board();
        board.settle(Digest::of(NEW), None);
        assert!(!board.read().is_differing(&Digest::of(NEW), 0));
        assert_eq!(named(&board, NEW), None);
    }
}
