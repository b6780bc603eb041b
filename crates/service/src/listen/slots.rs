//! How many connections are open, in all and per address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    max_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one open connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    address: IpAddr,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{0} connections are open, the most that are allowed")]
    All(usize),
    #[error("{0} connections of this address are open, the most that are allowed")]
    Address(usize),
}

impl Slots {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self(Arc::new(Inner { max, max_per_address, open: Mutex::default() }))
    }

    pub(super) fn take(&self, address: IpAddr) -> Result<Slot, Full> {
        let mut open = self.open();
        if open.all >= self.0.max {
            return Err(Full::All(self.0.max));
        }
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        if here >= self.0.max_per_address {
            return Err(Full::Address(self.0.max_per_address));
        }
        open.all += 1;
        open.by_address.insert(address, here + 1);
        Ok(Slot { slots: self.clone(), address })
    }

    /// The counts are whole numbers, right at every point where a panic could leave them.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.open();
        open.all -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_come_back() {
        let slots = Slots::new(3, 2);
        let [a, b, c] = [1u8, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let first = slots.take(a).unwrap();
        let _second = slots.take(a).unwrap();
        assert_eq!(slots.take(a).unwrap_err(), Full::Address(2));
        let third = slots.take(b).unwrap();
        assert_eq!(slots.take(c).unwrap_err(), Full::All(3));
        drop(first);
        let _fourth = slots.take(a).unwrap();
        drop(third);
        assert_eq!(slots.open().by_address.len(), 1, "an address without connections is forgotten");
    }
}
