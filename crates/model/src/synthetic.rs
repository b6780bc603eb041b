use params::Rng;

use crate::ModelSpec;

/// What is in the update of a worker that has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntheticUpdate {
    /// Independent numbers, uniform in `[-1, 1) * 2^-6`, in steps of 2^-29.
    Random,
    /// 1 at the place of the shard, 0 elsewhere: the sum of such updates tells whose are in it.
    OneHot,
}

/// The update of a synthetic model: `parameters` numbers for the shard `part`. Needs no libtorch.
///
/// The same arguments give the same bits on every platform and in every release. A caller that wants
/// another random update in each round gives another `seed`. A one-hot update does not depend on it,
/// and is all zeros where `part` is not below `parameters`.
pub fn synthetic_update(kind: SyntheticUpdate, parameters: usize, seed: u64, part: u32) -> Vec<f32> {
    let mut update = Vec::new();
    append(&mut update, kind, parameters, seed, part);
    update
}

/// The update of a synthetic model with buffers: floats and integers, each in the order of its layout, which has the
/// statistics before the parameters. These are as [`synthetic_update`] has them. Running means move, and running
/// variances grow, by numbers of the size of a random update; the worker with shard `part` has seen `1 + part`
/// batches more, so that workers differ.
pub fn synthetic_update_with_buffers(
    kind: SyntheticUpdate,
    parameters: usize,
    seed: u64,
    part: u32,
) -> (Vec<f32>, Vec<i64>) {
    let width = ModelSpec::NORM_WIDTH;
    // Exactly: a large update must not take the next power of two.
    let mut update = Vec::with_capacity(2 * width + parameters);
    let rng = Rng::new(seed, &["synthetic buffers", &part.to_string()]);
    random(&mut update, 2 * width, rng);
    update[width..].iter_mut().for_each(|growth| *growth = growth.abs());
    append(&mut update, kind, parameters, seed, part);
    (update, vec![1 + i64::from(part)])
}

fn append(update: &mut Vec<f32>, kind: SyntheticUpdate, parameters: usize, seed: u64, part: u32) {
    match kind {
        SyntheticUpdate::Random => {
            random(update, parameters, Rng::new(seed, &["synthetic", &part.to_string()]));
        }
        SyntheticUpdate::OneHot => {
            let start = update.len();
            update.resize(start + parameters, 0.0);
            let place = usize::try_from(part).ok().and_then(|at| update[start..].get_mut(at));
            place.into_iter().for_each(|value| *value = 1.0);
        }
    }
}

/// Bytes that are drawn at once: a call per number would cost more than the cipher.
const BLOCK: usize = 4096;

/// Appends `count` numbers.
fn random(update: &mut Vec<f32>, count: usize, mut rng: Rng) {
    update.reserve_exact(count);
    let end = update.len() + count;
    let mut block = [0; BLOCK];
    while update.len() < end {
        rng.fill(&mut block);
        let words = block.as_chunks::<4>().0.iter().take(end - update.len());
        update.extend(words.map(|word| number(i32::from_le_bytes(*word))));
    }
}

/// The upper 24 bits, which an `f32` holds exactly: from -2^23 to 2^23 - 1, times 2^-29.
fn number(bits: i32) -> f32 {
    const STEP: f32 = 1.0 / (1u32 << 29) as f32;
    (bits >> 8) as f32 * STEP
}

#[cfg(test)]
mod tests;
