use std::collections::BTreeMap;

use journal::entry::Change;

/// Changes that the journal has (or waits to write) and the index has not yet: whoever reads sees them.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// By key: the number of the entry, and the value; `None` is removed.
    pending: BTreeMap<String, (u64, Option<Vec<u8>>)>,
}

impl Overlay {
    pub(super) fn add(&mut self, seq: u64, changes: &[Change]) {
        for change in changes {
            self.pending.insert(change.key.clone(), (seq, change.value.clone()));
        }
    }

    /// The index has taken in these changes of entry `seq`.
    pub(super) fn forget(&mut self, seq: u64, changes: &[Change]) {
        for change in changes {
            // A later change of the same key still waits.
            if self.pending.get(&change.key).is_some_and(|(pending, _)| *pending <= seq) {
                self.pending.remove(&change.key);
            }
        }
    }

    /// What waits for this key: `None` is nothing, `Some(None)` that it is removed.
    pub(super) fn get(&self, key: &str) -> Option<Option<Vec<u8>>> {
        self.pending.get(key).map(|(_, value)| value.clone())
    }

    /// Puts what waits over the pairs of the index.
    pub(super) fn over(&self, prefix: &str, pairs: &mut BTreeMap<String, Vec<u8>>) {
        let waiting = self.pending.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        for (key, (_, value)) in waiting {
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_change_counts_until_the_index_has_it() {
        let change = |key: &str, value: Option<&str>| Change {
            key: key.to_owned(),
            value: value.map(|text| text.as_bytes().to_vec()),
        };
        let mut overlay = Overlay::default();
        let (first, second) = ([change("a/1", Some("x")), change("a/2", None)], [change("a/1", Some("y"))]);
        overlay.add(5, &first);
        overlay.add(6, &second);
        overlay.forget(5, &first);
        assert_eq!(overlay.get("a/1"), Some(Some(b"y".to_vec())));
        assert_eq!(overlay.get("a/2"), None);
        overlay.add(7, &[change("a/3", None), change("b", Some("z"))]);
        let mut pairs =
            BTreeMap::from([("a/1".to_owned(), b"x".to_vec()), ("a/3".to_owned(), b"w".to_vec())]);
        overlay.over("a/", &mut pairs);
        assert_eq!(pairs, BTreeMap::from([("a/1".to_owned(), b"y".to_vec())]));
        overlay.forget(7, &second);
        assert_eq!(overlay.get("a/1"), None);
    }
}
