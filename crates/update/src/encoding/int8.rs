use super::{
    Codec, PayloadFault, SettingError,
    levels::{self, Levels},
};

/// Blocks of elements with one scale each: all scales as `f32`, then a signed byte per element.
///
/// `scale = max|v| / 127` of the block, rounded up to 17 bits, and `level = floor(v / scale + u)` with u
/// uniform in [0, 1): stochastic rounding of Alistarh et al. (QSGD), arXiv:1610.02132, with the largest
/// magnitude in place of the norm. An element is off by less than one scale, that is by
/// `max|v| / 127 * (1 + 2^-16)`; the error's variance is at most `scale^2 / 4`; and its expectation is 0
/// within `2^-24 (|v| + scale)`, the resolution of `f32` itself.
pub(crate) struct Int8 {
    /// Elements of a block.
    pub(crate) block: u32,
}

const LEVEL_MAX: u8 = 127;

impl Int8 {
    fn levels(&self) -> Levels {
        Levels { block: levels::block(self.block), max: LEVEL_MAX }
    }
}

impl Codec for Int8 {
    fn name(&self) -> &'static str {
        "int8"
    }

    fn validate(&self) -> Result<(), SettingError> {
        levels::validate(self.block)
    }

    fn bytes(&self, elements: usize) -> u64 {
        (elements as u64).saturating_add(levels::head_bytes(elements, self.block))
    }

    fn encode(&self, values: &[f32], seed: u64, out: &mut [u8]) {
        let levels = self.levels();
        let (head, body) = out.split_at_mut(levels.head(values.len()));
        levels.encode(values, (seed, self.name()), head, |first, levels| put(&mut body[first..], levels));
    }

    fn verify(&self, payload: &[u8], elements: usize) -> Result<(), PayloadFault> {
        let levels = self.levels();
        let (head, body) = payload.split_at(levels.head(elements));
        levels.verify(head)?;
        if !body.iter().fold(false, |any, byte| any | (*byte == 0x80)) {
            return Ok(());
        }
        let index = body.iter().position(|byte| *byte == 0x80).expect("there is one");
        Err(PayloadFault::Level { index, level: -128, max: LEVEL_MAX })
    }

    fn decode(&self, payload: &[u8], elements: usize, start: usize, out: &mut [f32]) {
        let levels = self.levels();
        let (head, body) = payload.split_at(levels.head(elements));
        levels.decode(head, start, out, |scale, first, part| {
            for (to, byte) in part.iter_mut().zip(&body[first..]) {
                *to = f32::from(*byte as i8) * scale;
            }
        });
    }
}

fn put(body: &mut [u8], levels: &[i8]) {
    for (to, level) in body.iter_mut().zip(levels) {
        *to = *level as u8;
    }
}
