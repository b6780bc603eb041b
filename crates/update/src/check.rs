use std::ops::Range;

use crate::{Encoding, Form, PayloadFault, Segment, catalog::first_beyond};

/// Elements that are decoded at once: they fit into the first cache, and are a multiple of [`LANES`].
const BLOCK: usize = 4096;

/// Partial sums of the norm. Part of what decides its bits.
const LANES: usize = 8;

/// What is known of an update that passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// The L2 norm of the averaged elements as decoded; `None` when no bound was given.
    pub norm: Option<f64>,
}

/// Why an update is refused; a refused update leaves no trace.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpdateFault {
    /// The update has another length than the form and the encoding have.
    #[error("update has {found} bytes, the round's form has {expected}")]
    Length {
        /// Bytes of the update.
        found: u64,
        /// Bytes of the form.
        expected: u64,
    },
    /// The payload breaks a rule of its encoding.
    #[error("update is no payload of encoding '{encoding}': {fault}")]
    Malformed {
        /// The encoding of the run.
        encoding: &'static str,
        /// The rule.
        fault: PayloadFault,
    },
    /// An element is NaN or infinite.
    #[error("tensor '{tensor}' has {value} at index {index}, every element must be finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The index in the tensor, row-major.
        index: usize,
        /// The element.
        value: f32,
    },
    /// An element is larger than the coordinate bound of its tensor.
    #[error("tensor '{tensor}' has {value} at index {index}, beyond the coordinate bound of {bound}")]
    Bound {
        /// The tensor.
        tensor: String,
        /// The index in the tensor, row-major.
        index: usize,
        /// The element.
        value: f32,
        /// The largest magnitude that is allowed.
        bound: f32,
    },
    /// The averaged elements together are larger than the norm bound of the round.
    #[error("update has an L2 norm of {found}, beyond the bound of {bound}")]
    Norm {
        /// The norm of the update.
        found: f64,
        /// The largest norm that is allowed.
        bound: f64,
    },
}

/// Whether `update`, as it came from the wire, may be decoded and averaged. What passes decodes to finite
/// elements within the bounds of the form. Integers have no rule but their length: any difference passes, and
/// [`Form::raise_integers`] adds it without overflow.
///
/// The norm is computed when `norm_max` (parameter units) is given; `f64::INFINITY` measures without a
/// bound. Memory is a constant, whatever the size of the model.
///
/// # Errors
/// See [`UpdateFault`], in the order length, structure, elements, norm. Of elements the first that
/// breaks a rule is named, averaged ones before `max` ones.
pub fn check(
    form: &Form,
    encoding: &Encoding,
    update: &[u8],
    norm_max: Option<f64>,
) -> Result<Checked, UpdateFault> {
    let Some((payload, maxed)) = form.split(encoding, update) else {
        let (found, expected) = (update.len() as u64, form.bytes(encoding));
        return Err(UpdateFault::Length { found, expected });
    };
    let malformed = |fault| UpdateFault::Malformed { encoding: encoding.name(), fault };
    encoding.verify(payload, form.averaged()).map_err(malformed)?;
    let mut norm = norm_max.map(|_| Norm::default());
    let averaged = Payload { encoding, bytes: payload, elements: form.averaged() };
    let measure = |values: &[f32]| norm.iter_mut().for_each(|norm| norm.add(values));
    if let Some(outlier) = averaged.scan(form.segments(), measure) {
        return Err(outlier.fault(form.locate(outlier.at)));
    }
    let maxed = Payload { encoding: &Encoding::F32, bytes: maxed, elements: form.maxed() };
    if let Some(outlier) = maxed.scan(form.max_segments(), |_| {}) {
        return Err(outlier.fault(form.locate_maxed(outlier.at)));
    }
    let norm = norm.map(|norm| norm.finish());
    match (norm, norm_max) {
        // A bound that is NaN lets nothing pass.
        (Some(found), Some(bound)) if found > bound || bound.is_nan() => {
            Err(UpdateFault::Norm { found, bound })
        }
        _ => Ok(Checked { norm }),
    }
}

struct Payload<'a> {
    encoding: &'a Encoding,
    bytes: &'a [u8],
    elements: usize,
}

/// An element that breaks a rule.
struct Outlier {
    at: usize,
    value: f32,
    bound: f32,
}

impl Payload<'_> {
    /// Decodes block by block, shows each to `measure`, and looks for the first outlier.
    fn scan(&self, segments: &[Segment], mut measure: impl FnMut(&[f32])) -> Option<Outlier> {
        let mut scratch = vec![0.0; BLOCK.min(self.elements)];
        let mut segments = segments.iter().peekable();
        for start in (0..self.elements).step_by(BLOCK) {
            let block = start..self.elements.min(start + BLOCK);
            let values = &mut scratch[..block.len()];
            self.encoding.decode(self.bytes, self.elements, start, values);
            while let Some(segment) = segments.peek() {
                if let Some(outlier) = outlier(values, &block, segment) {
                    return Some(outlier);
                }
                if segment.place().end > block.end {
                    break;
                }
                segments.next();
            }
            measure(values);
        }
        None
    }
}

/// The first outlier among the elements of a block that belong to a segment.
fn outlier(values: &[f32], block: &Range<usize>, segment: &Segment) -> Option<Outlier> {
    let place = segment.place();
    let (from, to) = (place.start.max(block.start), place.end.min(block.end));
    let bound = segment.coordinate_max;
    let shared = values.get(from - block.start..to.max(from) - block.start)?;
    let at = from + first_beyond(shared, bound)?;
    Some(Outlier { at, value: values[at - block.start], bound })
}

impl Outlier {
    fn fault(&self, place: Option<(&str, usize)>) -> UpdateFault {
        let (tensor, index) = place.expect("segments consist of tensors");
        let (tensor, value, bound) = (tensor.to_owned(), self.value, self.bound);
        if value.is_finite() {
            UpdateFault::Bound { tensor, index, value, bound }
        } else {
            UpdateFault::NotFinite { tensor, index, value }
        }
    }
}

/// A sum of squares in `f64`, element `i` in lane `i % 8`: the bits do not depend on the size of the
/// blocks, each but the last a multiple of 8. Squares of `f32` are exact, and cannot overflow.
#[derive(Default)]
struct Norm {
    lanes: [f64; LANES],
}

impl Norm {
    fn add(&mut self, values: &[f32]) {
        let (eights, rest) = values.as_chunks::<LANES>();
        for values in eights {
            for (sum, value) in self.lanes.iter_mut().zip(values) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        for (sum, value) in self.lanes.iter_mut().zip(rest) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }

    fn finish(&self) -> f64 {
        self.lanes.iter().sum::<f64>().sqrt()
    }
}

#[cfg(test)]
mod tests;
