use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use memmap2::MmapMut;

/// Fewer than this lie on the heap.
const MAPPED_MIN: usize = 128 * 1024;

/// The integers of a sum, zero at first. Many of them lie in memory that is taken from the system in large pages where
/// it has some: to touch 800 MB for the first time in small ones costs as much as to receive two updates of half that.
pub(crate) enum Sums {
    Heap(Vec<i64>),
    Mapped(MmapMut, usize),
}

impl Sums {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mapped = len.checked_mul(size_of::<i64>()).filter(|_| len >= MAPPED_MIN);
        match mapped.and_then(|bytes| MmapMut::map_anon(bytes).ok()) {
            Some(map) => {
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Self::Mapped(map, len)
            }
            // Whatever the system has against it, the allocator says so in its own way.
            None => Self::Heap(vec![0; len]),
        }
    }
}

impl Deref for Sums {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        match self {
            Self::Heap(sums) => sums,
            Self::Mapped(map, len) => &bytemuck::cast_slice(map)[..*len],
        }
    }
}

impl DerefMut for Sums {
    fn deref_mut(&mut self) -> &mut [i64] {
        match self {
            Self::Heap(sums) => sums,
            Self::Mapped(map, len) => &mut bytemuck::cast_slice_mut(map)[..*len],
        }
    }
}

impl Clone for Sums {
    fn clone(&self) -> Self {
        let mut clone = Self::zeros(self.len());
        clone.copy_from_slice(self);
        clone
    }
}

impl PartialEq for Sums {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sums({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_zero_and_ours() {
        for len in [0, 1, MAPPED_MIN - 1, MAPPED_MIN, MAPPED_MIN + 1] {
            let mut sums = Sums::zeros(len);
            assert_eq!((sums.len(), sums.iter().all(|sum| *sum == 0)), (len, true));
            if let Some(last) = sums.last_mut() {
                *last = i64::MIN;
                assert_eq!(sums.clone(), sums);
                assert_ne!(Sums::zeros(len), sums);
            }
        }
    }
}
