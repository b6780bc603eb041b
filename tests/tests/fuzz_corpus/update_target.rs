//! What a worker contributes.

use params::{Layout, TensorSpec};
use update::{ENCODINGS, Encoding, Form, Policy, Rule, check, difference};

/// The bound of averaged elements here.
const BOUND: f32 = 2.0;

/// An update behind three bytes: the encoding, its setting, and the elements that are averaged; behind
/// them come two that the form compares. What passes decodes to finite elements within their bounds, the
/// same in parts as in whole, and can be encoded again; exact encodings give the same bytes.
pub(crate) fn update_payload(bytes: &[u8]) {
    let [kind, setting, size, update @ ..] = bytes else { return };
    let encoding = encoding(*kind, *setting);
    let elements = 1 + usize::from(size % 64);
    let form = form(elements);
    let checked = match check(&form, &encoding, update, Some(f64::INFINITY)) {
        Ok(checked) => checked,
        Err(fault) => return assert!(!fault.to_string().is_empty()),
    };
    let (payload, maxed) = form.split(&encoding, update).unwrap();
    let decoded = decode(&encoding, payload, elements, 0, elements);
    assert!(decoded.iter().all(|value| value.abs() <= BOUND));
    assert!(decode(&Encoding::F32, maxed, 2, 0, 2).iter().all(|value| value.is_finite()));
    let sum: f64 = decoded.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!((checked.norm.unwrap() - sum.sqrt()).abs() <= 1e-12 * sum.sqrt());
    for start in 0..elements {
        let end = elements.min(start + 9);
        let part = decode(&encoding, payload, elements, start, end);
        let same = part.iter().zip(&decoded[start..end]).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{encoding:?}: {start}..{end}");
    }
    let mut again = Vec::new();
    encoding.encode(&decoded, 1, &mut again).unwrap();
    assert_eq!(encoding.verify(&again, elements), Ok(()));
    if matches!(encoding, Encoding::F32 | Encoding::Bf16 | Encoding::Fp16) {
        assert_eq!(again, payload);
    }
}

/// Settings that a job may not have must not panic either.
fn encoding(kind: u8, setting: u8) -> Encoding {
    match Encoding::named(ENCODINGS[usize::from(kind) % ENCODINGS.len()]).unwrap() {
        Encoding::Int8 { .. } => Encoding::Int8 { block: setting.into() },
        Encoding::Int4 { .. } => Encoding::Int4 { block: setting.into() },
        Encoding::TopK { .. } => Encoding::TopK { fraction: f64::from(setting) / 64.0 },
        other => other,
    }
}

fn form(elements: usize) -> Form {
    let layout = Layout::new(vec![TensorSpec::new("a", [elements]), TensorSpec::new("m", [2])]).unwrap();
    let rule = Rule { pattern: "m".to_owned(), policy: Policy::Max, coordinate_max: None };
    Form::new(&layout, &[rule], BOUND).unwrap()
}

fn decode(encoding: &Encoding, payload: &[u8], elements: usize, start: usize, end: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; end - start];
    encoding.decode(payload, elements, start, &mut out);
    out
}

/// A difference behind two bytes that say how long the old file is, of bytes that are a function of that. What is
/// applied has its length, and comes back by a difference that is made anew.
pub(crate) fn model_difference(bytes: &[u8]) {
    let [low, high, change @ ..] = bytes else { return };
    let length = usize::from(u16::from_le_bytes([*low, *high])) % 4096;
    let old: Vec<u8> = (0..length).map(|i| (i / 3) as u8).collect();
    let new = match difference::apply(&old, change, 4000) {
        Ok(new) => new,
        Err(fault) => return assert!(!fault.to_string().is_empty()),
    };
    assert!(length <= 4000 && new.len() == length);
    let again = difference::encode(&old, &new, usize::MAX).unwrap();
    assert_eq!(difference::apply(&old, &again, length), Ok(new));
}
