/// Events that are remembered: many times what a coordinator repeats.
const TOLD_MAX: usize = 1024;

/// The last events that were told, oldest first, to tell each of them once.
#[derive(Debug, Default)]
pub(super) struct Told {
    events: Vec<String>,
}

impl Told {
    /// Takes in what happened since the last message; all of it is new.
    pub(super) fn add(&mut self, events: &[String]) {
        self.events.extend_from_slice(events);
        self.forget();
    }

    /// Takes in what a new connection says first: the last events of the run, most of them known.
    /// Returns those that were not told yet, in order.
    ///
    /// The two lists are aligned by a longest common subsequence, not compared as sets: the same text
    /// may stand for two events. A coordinator that was restarted may have more of the past than was
    /// told (that it was restarted), or less (what it could not write any more).
    pub(super) fn repeat(&mut self, events: Vec<String>) -> Vec<String> {
        if self.events.is_empty() {
            self.add(&events);
            return events;
        }
        // What is older than anything that is remembered was told long ago.
        let mut latest = events;
        latest.drain(..latest.len().saturating_sub(TOLD_MAX));
        let known = std::mem::take(&mut self.events);
        let common = Common::of(&known, &latest);
        let mut fresh = Vec::new();
        let (mut left, mut right) = (0, 0);
        while let Some(event) = latest.get(right) {
            match known.get(left) {
                Some(told) if told == event => (left, right) = (left + 1, right + 1),
                Some(told) if common.len(left + 1, right) >= common.len(left, right + 1) => {
                    left += 1;
                    self.events.push(told.clone());
                    continue;
                }
                _ => {
                    right += 1;
                    fresh.push(event.clone());
                }
            }
            self.events.push(event.clone());
        }
        self.events.extend_from_slice(&known[left..]);
        self.forget();
        fresh
    }

    fn forget(&mut self) {
        self.events.drain(..self.events.len().saturating_sub(TOLD_MAX));
    }
}

/// The length of the longest common subsequence of every two ends of two lists.
struct Common {
    width: usize,
    /// At most `TOLD_MAX`, like both lists.
    lens: Vec<u16>,
}

impl Common {
    fn of(left: &[String], right: &[String]) -> Self {
        let width = right.len() + 1;
        let mut common = Self { width, lens: vec![0; (left.len() + 1) * width] };
        for l in (0..left.len()).rev() {
            for r in (0..right.len()).rev() {
                common.lens[l * width + r] = if left[l] == right[r] {
                    common.len(l + 1, r + 1) + 1
                } else {
                    common.len(l + 1, r).max(common.len(l, r + 1))
                };
            }
        }
        common
    }

    /// Of the ends that begin at `left` and `right`.
    fn len(&self, left: usize, right: usize) -> u16 {
        self.lens[left * self.width + right]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(texts: &str) -> Vec<String> {
        texts.split_whitespace().map(str::to_owned).collect()
    }

    fn repeat(told: &str, said: &str) -> Vec<String> {
        let mut known = Told::default();
        known.add(&list(told));
        let fresh = known.repeat(list(said));
        // Said again, nothing is new.
        assert_eq!(known.repeat(list(said)), [""; 0], "{told} | {said}");
        fresh
    }

    #[test]
    fn what_is_known_is_not_told_again() {
        for (told, said, fresh) in [
            ("", "a b", "a b"),
            ("a b", "a b", ""),
            ("a b", "a b c", "c"),
            ("a b", "", ""),
            // The same text twice is two events.
            ("a b", "a b b", "b"),
            ("a b b", "a b b a b", "a b"),
            // The list was cut at its front, or is all new.
            ("a b c", "c d", "d"),
            ("a b c", "d e f", "d e f"),
            // The coordinator was restarted once, and again.
            ("a b", "a b restarted", "restarted"),
            ("a b restarted c", "a b restarted c restarted d", "restarted d"),
            // It does not remember the first restart.
            ("a b restarted c", "a b c restarted d", "restarted d"),
            // It was killed before it could write what it told.
            ("a b lost", "a b restarted c", "restarted c"),
        ] {
            assert_eq!(repeat(told, said), list(fresh), "{told} | {said}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let numbers = |range: std::ops::Range<usize>| range.map(|n| n.to_string()).collect::<Vec<_>>();
        let mut told = Told::default();
        assert_eq!(told.repeat(numbers(0..3000)).len(), 3000);
        told.add(&numbers(3000..3010));
        assert_eq!(told.events, numbers(3010 - TOLD_MAX..3010));
        assert_eq!(told.repeat(numbers(0..3020)), numbers(3010..3020));
        assert_eq!(told.events.len(), TOLD_MAX);
    }

    proptest! {
        /// Over any restarts, every event is told once, in order, however alike the texts are.
        #[test]
        fn every_event_is_told_once(events in prop::collection::vec("[ab]", 0..40), cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let (mut told, mut heard) = (Told::default(), Vec::new());
            let mut list: Vec<String> = Vec::new();
            let mut coming = events.into_iter();
            for cut in cuts {
                list.extend(coming.by_ref().take(cut % 10));
                heard.extend(told.repeat(list.clone()));
                prop_assert_eq!(&heard, &list);
                let seen = list.len();
                list.extend(coming.by_ref().take(cut / 10));
                told.add(&list[seen..]);
                heard.extend_from_slice(&list[seen..]);
                // Killed, and started again.
                list.push("restarted".to_owned());
            }
        }

        #[test]
        fn any_two_lists_can_be_aligned(told in prop::collection::vec("[abc]", 0..20), said in prop::collection::vec("[abc]", 0..20)) {
            let mut known = Told::default();
            known.add(&told);
            let fresh = known.repeat(said.clone());
            prop_assert!(fresh.len() <= said.len());
            prop_assert_eq!(known.events.len(), told.len() + fresh.len());
            prop_assert!(known.repeat(said).is_empty());
        }
    }
}
