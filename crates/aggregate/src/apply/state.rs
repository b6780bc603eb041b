//! What the states of all optimizers share: moments, and how they are saved and checked.
//!
//! A state is an 8-byte tag, then words of 8 bytes, little-endian: a header that the optimizer defines,
//! then each moment in turn.

use std::io::{self, Write};

/// The most bytes that a state is written in at once: a large state is never in memory twice.
const PIECE_BYTES: usize = 64 << 10;

/// The bytes of a word.
const WORD: usize = size_of::<f64>();

/// Why bytes are not the state of a server optimizer; the optimizer is left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes were saved by another optimizer, or by another release.
    #[error("state starts with '{found}', expected '{expected}'")]
    Kind {
        /// The tag in the bytes.
        found: String,
        /// The tag of this optimizer.
        expected: &'static str,
    },
    /// The bytes are cut short, or belong to a model of another size.
    #[error("state of {found} bytes, expected {expected}")]
    Length {
        /// Bytes that were given.
        found: usize,
        /// Bytes that this optimizer saves.
        expected: usize,
    },
    /// A number that this optimizer cannot have saved.
    #[error("state has {value} for {what}")]
    Value {
        /// Which part of the state.
        what: &'static str,
        /// The number, as text.
        value: String,
    },
}

/// One `f64` per parameter that an optimizer keeps from step to step; zeros before the first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    what: &'static str,
    signed: bool,
    values: Vec<f64>,
}

impl Moment {
    /// A running sum or mean of gradients. `what` names it in errors.
    pub(super) fn signed(what: &'static str, elements: usize) -> Self {
        Self { what, signed: true, values: vec![0.0; elements] }
    }

    /// A running sum or mean of squares, which is never negative. `what` names it in errors.
    pub(super) fn squares(what: &'static str, elements: usize) -> Self {
        Self { what, signed: false, values: vec![0.0; elements] }
    }

    /// The values that belong to `len` parameters from `start` on.
    pub(super) fn block(&mut self, start: usize, len: usize) -> &mut [f64] {
        let range = start..start.saturating_add(len);
        self.values.get_mut(range).expect("the optimizer is sized by the model, which holds every block")
    }

    /// Takes the words of this moment from [`parse`], which has checked them.
    pub(super) fn fill(&mut self, words: &[[u8; WORD]]) {
        for (value, word) in self.values.iter_mut().zip(words) {
            *value = f64::from_le_bytes(*word);
        }
    }

    fn check(&self, words: &[[u8; WORD]]) -> Result<(), StateError> {
        let good = |value: &f64| value.is_finite() && (self.signed || *value >= 0.0);
        match words.iter().map(|word| f64::from_le_bytes(*word)).find(|value| !good(value)) {
            Some(bad) => Err(StateError::Value { what: self.what, value: bad.to_string() }),
            None => Ok(()),
        }
    }
}

/// The bytes of a saved state with `header` words before its moments.
pub(super) fn bytes(header: usize, moments: &[&Moment]) -> usize {
    WORD * (1 + header + moments.iter().map(|moment| moment.values.len()).sum::<usize>())
}

/// Writes a state in pieces of at most 64 KiB.
pub(super) fn save(
    out: &mut dyn Write,
    tag: &str,
    header: &[[u8; WORD]],
    moments: &[&Moment],
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    piece.extend_from_slice(tag.as_bytes());
    piece.extend_from_slice(header.as_flattened());
    for moment in moments {
        // Small parts, so that a piece is filled nearly whole behind whatever is in it.
        for values in moment.values.chunks(PIECE_BYTES / WORD / 16) {
            if piece.len() + WORD * values.len() > PIECE_BYTES {
                out.write_all(&piece)?;
                piece.clear();
            }
            values.iter().for_each(|value| piece.extend_from_slice(&value.to_le_bytes()));
        }
    }
    out.write_all(&piece)
}

/// The header of a state, and the words of each of `moments`, in the order that [`save`] had.
type Parsed<'a, const H: usize, const M: usize> = (&'a [[u8; WORD]; H], [&'a [[u8; WORD]]; M]);

/// Takes a state apart, when its tag and length are right and the moments hold what they can hold. The
/// header is left to the caller to check.
pub(super) fn parse<'a, const H: usize, const M: usize>(
    bytes: &'a [u8],
    tag: &'static str,
    moments: [&Moment; M],
) -> Result<Parsed<'a, H, M>, StateError> {
    let rest = bytes.strip_prefix(tag.as_bytes()).ok_or_else(|| StateError::Kind {
        found: String::from_utf8_lossy(&bytes[..bytes.len().min(tag.len())]).into_owned(),
        expected: tag,
    })?;
    let expected = self::bytes(H, &moments);
    if bytes.len() != expected {
        return Err(StateError::Length { found: bytes.len(), expected });
    }
    let words = rest.as_chunks::<WORD>().0;
    let (header, mut words) = words.split_first_chunk::<H>().expect("the length was checked");
    let mut parts: [&[[u8; WORD]]; M] = [&[]; M];
    for (part, moment) in parts.iter_mut().zip(moments) {
        (*part, words) = words.split_at(moment.values.len());
        moment.check(part)?;
    }
    Ok((header, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written, and the length of each write.
    #[derive(Default)]
    struct Pieces(Vec<u8>, Vec<usize>);

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend(bytes);
            self.1.push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_large_state_is_written_in_pieces() {
        let values: Vec<f64> = (0..100_003).map(f64::from).collect();
        let a = Moment { values: values.clone(), ..Moment::signed("a", 0) };
        let b = Moment { values: values.iter().map(|value| value / 3.0).collect(), ..a.clone() };
        let mut out = Pieces::default();
        save(&mut out, "test  v1", &[7u64.to_le_bytes()], &[&a, &b]).unwrap();
        let mut expected = b"test  v1\x07\0\0\0\0\0\0\0".to_vec();
        a.values.iter().chain(&b.values).for_each(|value| expected.extend(value.to_le_bytes()));
        assert!(out.0 == expected && out.0.len() == bytes(1, &[&a, &b]));
        assert!(out.1.iter().all(|&len| len <= PIECE_BYTES), "{:?}", out.1);
        // 1600064 bytes are at least 25 pieces.
        assert!(out.1.len() <= 27, "{:?}", out.1);

        let ([header], [first, second]) = parse(&out.0, "test  v1", [&a, &b]).unwrap();
        assert_eq!(u64::from_le_bytes(*header), 7);
        let mut copy = Moment { values: vec![0.0; values.len()], ..a.clone() };
        copy.fill(first);
        assert!(copy == a);
        copy.fill(second);
        assert!(copy == b);
    }

    #[test]
    fn a_writer_that_fails_is_told() {
        let moment = Moment::signed("a", 100);
        let mut room = [0u8; 100];
        let error = save(&mut &mut room[..], "test  v1", &[], &[&moment]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
