use super::{
    Codec, PayloadFault, SettingError,
    levels::{self, Levels},
};

/// Blocks of elements with one scale each: all scales as `f32`, then half a byte per element, the first
/// of two in the low half. The last half is 0 when the number of elements is odd.
///
/// As [`Int8`](super::Int8) with 7 levels on each side: `scale = max|v| / 7`, rounded up to 21 bits. An
/// element is off by less than one scale, the error's variance is at most `scale^2 / 4`, and its expectation is 0
/// within `2^-24 (|v| + scale)` (QSGD, arXiv:1610.02132).
pub(crate) struct Int4 {
    /// Elements of a block.
    pub(crate) block: u32,
}

const LEVEL_MAX: u8 = 7;

impl Int4 {
    fn levels(&self) -> Levels {
        Levels { block: levels::block(self.block), max: LEVEL_MAX }
    }
}

impl Codec for Int4 {
    fn name(&self) -> &'static str {
        "int4"
    }

    fn validate(&self) -> Result<(), SettingError> {
        levels::validate(self.block)
    }

    fn bytes(&self, elements: usize) -> u64 {
        (elements.div_ceil(2) as u64).saturating_add(levels::head_bytes(elements, self.block))
    }

    fn encode(&self, values: &[f32], seed: u64, out: &mut [u8]) {
        let levels = self.levels();
        let (head, body) = out.split_at_mut(levels.head(values.len()));
        levels.encode(values, (seed, self.name()), head, |first, levels| put(body, first, levels));
    }

    fn verify(&self, payload: &[u8], elements: usize) -> Result<(), PayloadFault> {
        let levels = self.levels();
        let (head, body) = payload.split_at(levels.head(elements));
        levels.verify(head)?;
        let beyond = |byte: u8| (byte & 0x0f == 0x08) | (byte & 0xf0 == 0x80);
        if body.iter().fold(false, |any, byte| any | beyond(*byte)) {
            let byte = body.iter().position(|byte| beyond(*byte)).expect("there is one");
            let index = 2 * byte + usize::from(body[byte] & 0x0f != 0x08);
            // A half behind the last element is padding, whatever it holds.
            if index < elements {
                return Err(PayloadFault::Level { index, level: -8, max: LEVEL_MAX });
            }
        }
        match body.last() {
            Some(last) if elements % 2 == 1 && last >> 4 != 0 => Err(PayloadFault::Padding),
            _ => Ok(()),
        }
    }

    fn decode(&self, payload: &[u8], elements: usize, start: usize, out: &mut [f32]) {
        let levels = self.levels();
        let (head, body) = payload.split_at(levels.head(elements));
        levels.decode(head, start, out, |scale, first, part| {
            // A block of an odd number of elements, or a range, may start in the middle of a byte.
            let (odd, pairs) = part.split_at_mut((first % 2).min(part.len()));
            if let [to] = odd {
                *to = high(body[first / 2]) * scale;
            }
            let bytes = &body[first.div_ceil(2).min(body.len())..];
            let (pairs, last) = pairs.as_chunks_mut::<2>();
            for (to, byte) in pairs.iter_mut().zip(bytes) {
                *to = [low(*byte) * scale, high(*byte) * scale];
            }
            if let [to] = last {
                *to = low(bytes[pairs.len()]) * scale;
            }
        });
    }
}

fn low(byte: u8) -> f32 {
    f32::from((byte << 4) as i8 >> 4)
}

fn high(byte: u8) -> f32 {
    f32::from(byte as i8 >> 4)
}

/// Puts levels into `body`, where their halves are still 0.
fn put(body: &mut [u8], first: usize, levels: &[i8]) {
    let (odd, pairs) = levels.split_at((first % 2).min(levels.len()));
    if let [level] = odd {
        body[first / 2] |= (*level as u8) << 4;
    }
    let bytes = &mut body[first.div_ceil(2)..];
    let (pairs, last) = pairs.as_chunks::<2>();
    for (to, [low, high]) in bytes.iter_mut().zip(pairs) {
        *to = (*low as u8 & 0x0f) | (*high as u8) << 4;
    }
    if let [level] = last {
        bytes[pairs.len()] |= *level as u8 & 0x0f;
    }
}
