use params::Rng;

/// What is in the update of a worker that has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntheticUpdate {
    /// Independent numbers, uniform in `[-1, 1) * 2^-6`, in steps of 2^-29.
    Random,
    /// 1 at the place of the shard, 0 elsewhere: the sum of such updates tells whose are in it.
    OneHot,
}

/// The update of a synthetic run: `parameters` numbers for the shard `part`. Needs no libtorch.
///
/// The same arguments give the same bits on every platform and in every release. A caller that wants
/// another random update in each round gives another `seed`. A one-hot update does not depend on it,
/// and is all zeros where `part` is not below `parameters`.
pub fn synthetic_update(kind: SyntheticUpdate, parameters: usize, seed: u64, part: u32) -> Vec<f32> {
    match kind {
        SyntheticUpdate::Random => random(parameters, Rng::new(seed, &["synthetic", &part.to_string()])),
        SyntheticUpdate::OneHot => {
            let mut update = vec![0.0; parameters];
            let place = usize::try_from(part).ok().and_then(|at| update.get_mut(at));
            place.into_iter().for_each(|value| *value = 1.0);
            update
        }
    }
}

/// Bytes that are drawn at once: a call per number would cost more than the cipher.
const BLOCK: usize = 4096;

fn random(count: usize, mut rng: Rng) -> Vec<f32> {
    let mut update = Vec::with_capacity(count);
    let mut block = [0; BLOCK];
    while update.len() < count {
        rng.fill(&mut block);
        let words = block.as_chunks::<4>().0.iter().take(count - update.len());
        update.extend(words.map(|word| number(i32::from_le_bytes(*word))));
    }
    update
}

/// The upper 24 bits, which an `f32` holds exactly: from -2^23 to 2^23 - 1, times 2^-29.
fn number(bits: i32) -> f32 {
    const STEP: f32 = 1.0 / (1u32 << 29) as f32;
    (bits >> 8) as f32 * STEP
}

#[cfg(test)]
mod tests;
