use params::{Digest, Name};

/// Keeps these digests apart from every other use of BLAKE3.
const DOMAIN: &[u8] = b"conclave cohort v1\0";

/// The cohort of a round, sorted by name: the `count` workers of `eligible` with the lowest digests.
///
/// A function of the seed, the round and the *set* of names: their order does not matter, and adding
/// a worker displaces at most one other.
pub(crate) fn pick(seed: u64, round: u32, eligible: &[Name], count: usize) -> Vec<Name> {
    let mut drawn: Vec<(Digest, &Name)> =
        eligible.iter().map(|worker| (ticket(seed, round, worker), worker)).collect();
    drawn.sort_unstable();
    let mut cohort: Vec<Name> = drawn.into_iter().take(count).map(|(_, worker)| worker.clone()).collect();
    cohort.sort_unstable();
    cohort
}

fn ticket(seed: u64, round: u32, worker: &Name) -> Digest {
    let mut bytes = Vec::from(DOMAIN);
    bytes.extend(seed.to_le_bytes());
    bytes.extend(round.to_le_bytes());
    // Last, because only the name has a variable length.
    bytes.extend(worker.as_str().as_bytes());
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<Name> {
        (0..count).map(|i| format!("w{i:02}").parse().unwrap()).collect()
    }

    /// Computed with another implementation: Python, the `blake3` package and `struct.pack("<QI", ...)`.
    #[test]
    fn golden() {
        let picked = |seed, round| {
            let cohort = pick(seed, round, &names(10), 3);
            cohort.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(picked(7, 1), "w01 w02 w05");
        assert_eq!(picked(7, 2), "w00 w04 w07");
        assert_eq!(picked(8, 1), "w00 w04 w06");
    }

    #[test]
    fn every_worker_has_its_turn() {
        let mut turns = [0; 10];
        for round in 1..=1000 {
            for worker in pick(7, round, &names(10), 3) {
                turns[worker.as_str()[1..].parse::<usize>().unwrap()] += 1;
            }
        }
        // 300 expected, standard deviation 14.5: six of them either way.
        assert!(turns.iter().all(|&n| (213..=387).contains(&n)), "{turns:?}");
    }

    proptest! {
        #[test]
        fn is_a_function_of_the_set(seed: u64, round: u32, size in 0..20usize, count in 0..25usize) {
            let mut workers = names(size);
            let cohort = pick(seed, round, &workers, count);
            prop_assert_eq!(cohort.len(), size.min(count));
            prop_assert!(cohort.is_sorted());
            workers.reverse();
            prop_assert_eq!(&pick(seed, round, &workers, count), &cohort);

            workers.push("newcomer".parse().unwrap());
            let with = pick(seed, round, &workers, count);
            let displaced = cohort.iter().filter(|worker| !with.contains(worker)).count();
            prop_assert!(displaced <= 1);
        }
    }
}
