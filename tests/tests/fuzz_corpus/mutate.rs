//! Deterministic mutations: what broken disks, cut connections and hostile peers make of good bytes.

use params::Rng;

use crate::harness::Seed;

/// The longest input, in bytes; larger ones only cost time.
const LEN_MAX: usize = 1 << 16;

/// Changes of one input.
const CHANGES_MAX: u64 = 5;

/// Pieces that parsers of text or lengths get wrong.
const PIECES: [&[u8]; 26] = [
    b"\"",
    b"'",
    b"\n",
    b"\r\n",
    b",",
    b"=",
    b"[",
    b"]",
    b"{",
    b"}",
    b".",
    b":",
    b"/",
    b"\\",
    b"\0",
    b"#",
    b"-1",
    b"1e999",
    b"nan",
    b"inf",
    b"18446744073709551616",
    b"9223372036854775807",
    b"\xef\xbb\xbf",
    b"\xc3\xa9",
    b"\xff",
    b"\xe2\x80",
];

/// An input made from one of the corpus, and which one.
pub(crate) fn mutate<'a>(rng: &mut Rng, corpus: &'a [Seed]) -> (Vec<u8>, &'a str) {
    let seed = &corpus[pick(rng, corpus.len())];
    let mut bytes = seed.bytes.clone();
    for _ in 0..=rng.below(CHANGES_MAX) {
        change(rng, &mut bytes, corpus);
        bytes.truncate(LEN_MAX);
    }
    (bytes, &seed.path)
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, corpus: &[Seed]) {
    let at = pick(rng, bytes.len() + 1);
    let (from, to) = range(rng, bytes.len());
    match rng.below(9) {
        0 => flip(rng, bytes),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(from..to)),
        3 => {
            let copy = bytes[from..to].to_vec();
            insert(bytes, at, &copy);
        }
        4 => {
            let other = &corpus[pick(rng, corpus.len())].bytes;
            let (from, to) = range(rng, other.len());
            insert(bytes, at, &other[from..to]);
        }
        5 => insert(bytes, at, PIECES[pick(rng, PIECES.len())]),
        6 => extreme(rng, bytes, at),
        7 => digit(rng, bytes),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.bits() as u8;
            }
        }
    }
}

fn flip(rng: &mut Rng, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        let at = pick(rng, bytes.len());
        bytes[at] ^= 1 << rng.below(8);
    }
}

/// Writes a number at the edge of its range over 1, 2, 4 or 8 bytes: most of them are lengths somewhere.
fn extreme(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    let width = 1usize << rng.below(4);
    let all = u64::MAX >> (64 - 8 * width);
    let value = [0, 1, all, all >> 1, (all >> 1) + 1, all - 1, bytes.len() as u64][pick(rng, 7)];
    let little = value.to_le_bytes();
    let big = value.to_be_bytes();
    let new = if rng.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
    if let Some(old) = bytes.get_mut(at..at + width) {
        old.copy_from_slice(new);
    }
}

/// Changes one decimal digit: numbers in text stay numbers.
fn digit(rng: &mut Rng, bytes: &mut [u8]) {
    let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    if !digits.is_empty() {
        bytes[digits[pick(rng, digits.len())]] = b'0' + rng.below(10) as u8;
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Short ranges are as likely as long ones.
fn range(rng: &mut Rng, len: usize) -> (usize, usize) {
    let from = pick(rng, len + 1);
    let most = (len - from).min(1 << rng.below(17));
    (from, from + pick(rng, most + 1))
}

fn pick(rng: &mut Rng, len: usize) -> usize {
    rng.below(len as u64) as usize
}

#[test]
fn mutations_repeat_and_differ() {
    let corpus = [
        Seed { path: "a".into(), bytes: Vec::new() },
        Seed { path: "b".into(), bytes: b"length = 12345, and some text".to_vec() },
    ];
    let make = |seed: u64| mutate(&mut Rng::new(seed, &["test"]), &corpus).0;
    let all: std::collections::BTreeSet<Vec<u8>> = (0..1000).map(make).collect();
    assert!(all.len() > 500, "{} different inputs of 1000", all.len());
    assert!((0..100).all(|seed| make(seed) == make(seed)));
    let large = [Seed { path: "c".into(), bytes: vec![1; LEN_MAX] }];
    assert!((0..100).all(|seed| mutate(&mut Rng::new(seed, &["test"]), &large).0.len() <= LEN_MAX));
}
