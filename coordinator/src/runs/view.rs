use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use params::Name;
use round::Member;

use super::prepare::Context;
use crate::registry::Manifest;

/// Events that are kept for people who start to watch late.
const EVENTS_MAX: usize = 200;

/// What people see of a run: replaced whole, at most a moment after it changed. What its workers should be
/// doing is on its [`super::Board`].
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) context: Arc<Context>,
    /// One word for people and programs: gathering, training, ..., paused, completed, failed, stopped.
    pub(crate) state: &'static str,
    /// Why it ended, or what it waits for.
    pub(crate) cause: String,
    pub(crate) ended: bool,
    /// The round in progress, 1-based.
    pub(crate) round: u32,
    pub(crate) planned: u32,
    /// Committed rounds, in order.
    pub(crate) rounds: Vec<Arc<Manifest>>,
    pub(crate) members: Vec<Member>,
    /// What each worker is in this run that is not away, for people.
    pub(crate) standings: BTreeMap<Name, String>,
    pub(crate) events: Events,
}

/// The last events, each with its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    next: u64,
    kept: VecDeque<Arc<str>>,
}

impl Events {
    /// Adds one; the oldest is forgotten when there are too many.
    pub(crate) fn push(&mut self, text: &str) {
        self.kept.push_back(text.into());
        self.next += 1;
        if self.kept.len() > EVENTS_MAX {
            self.kept.pop_front();
        }
    }

    /// Those from number `from` on, and the number of the next one.
    pub(crate) fn since(&self, from: u64) -> (Vec<String>, u64) {
        let first = self.next - self.kept.len() as u64;
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        (self.kept.iter().skip(skip).map(|e| e.to_string()).collect(), self.next)
    }
}

/// Payload bytes of the round in progress.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    pub(crate) fn add_up(&self, bytes: u64) {
        self.up.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_down(&self, bytes: u64) {
        self.down.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes up and down since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.up.swap(0, Ordering::Relaxed), self.down.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_and_bounded() {
        let mut events = Events::default();
        assert_eq!(events.since(0), (vec![], 0));
        events.push("a");
        events.push("b");
        assert_eq!(events.since(0), (vec!["a".into(), "b".into()], 2));
        assert_eq!(events.since(1), (vec!["b".into()], 2));
        assert_eq!(events.since(9), (vec![], 2));
        (0..EVENTS_MAX).for_each(|_| events.push("x"));
        let (kept, next) = events.since(0);
        assert_eq!((kept.len(), next), (EVENTS_MAX, EVENTS_MAX as u64 + 2));
        assert!(!kept.contains(&"b".to_owned()));
    }

    #[test]
    fn traffic_is_counted_per_round() {
        let traffic = Traffic::default();
        traffic.add_up(3);
        traffic.add_down(5);
        traffic.add_up(4);
        assert_eq!(traffic.take(), (7, 5));
        assert_eq!(traffic.take(), (0, 0));
    }
}
