use std::ops::Range;

use params::{Dtype, Layout};

use self::integers::Integers;
use crate::Encoding;

mod integers;

/// What becomes of a tensor at the end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its update travels in the encoding of the run, and the mean is applied. Not for integers.
    Average,
    /// It stays with its worker, which goes on from its own values (FedBN, Li et al.,
    /// arXiv:2102.07623).
    KeepLocal,
    /// Its elements travel as `f32`, or `i64` where they are integers, and the largest of all workers counts.
    Max,
    /// It does not travel, and the version keeps the values that it had.
    Skip,
}

impl Policy {
    /// All of them, with their words in a job file.
    pub const ALL: [(&str, Policy); 4] = [
        ("average", Policy::Average),
        ("keep-local", Policy::KeepLocal),
        ("max", Policy::Max),
        ("skip", Policy::Skip),
    ];

    /// That of tensors without a rule: the one place that decides.
    fn unless_ruled(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::Average,
            Dtype::I64 => Self::Skip,
        }
    }

    /// The policy of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(word, _)| *word == name).map(|(_, policy)| *policy)
    }
}

/// Gives the tensors whose names match a policy. Of all rules the first that matches counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// A whole name, in which `*` stands for any run of characters, also for none.
    pub pattern: String,
    /// What becomes of the tensors.
    pub policy: Policy,
    /// The largest magnitude of an element, in parameter units; `None`: the bound of the round for averaged
    /// tensors, and no bound for `max` ones. Integers have no bound.
    pub coordinate_max: Option<f32>,
}

/// Why rules do not fit a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FormError {
    /// A rule that matches no tensor is a typing error.
    #[error("pattern '{pattern}' matches no tensor, the model has {tensors}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// Some names of tensors.
        tensors: String,
    },
    /// All tensors are kept, skipped or `max`, or have no element.
    #[error("no element is averaged: give at least one tensor the policy 'average'")]
    NothingAveraged,
    /// The mean of integers is none.
    #[error(
        "tensor '{tensor}' holds integers, which policy 'average' of pattern '{pattern}' would round: give it 'max', \
         'keep-local' or 'skip' in a rule before, or no rule, which is 'skip' for integers"
    )]
    AverageOfIntegers {
        /// The tensor.
        tensor: String,
        /// The first pattern that matches it.
        pattern: String,
    },
    /// A coordinate bound is NaN, infinite, zero or negative.
    #[error("coordinate bound {value} of {rule} must be finite and above 0")]
    CoordinateMax {
        /// The rule it belongs to.
        rule: String,
        /// The bound.
        value: f32,
    },
}

/// A run of elements that lie side by side in the model and on the wire, with one bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The elements in the flat layout of floats.
    pub flat: Range<usize>,
    /// The index of the first among those of its policy, on the wire.
    pub at: usize,
    /// The largest magnitude of an element, in parameter units; `f32::MAX` where any finite one is allowed.
    pub coordinate_max: f32,
}

impl Segment {
    /// The elements among those of its policy, on the wire.
    pub fn place(&self) -> Range<usize> {
        self.at..self.at + self.flat.len()
    }
}

/// Which elements of a model travel in an update, where, and within which bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    tensors: Vec<(String, Range<usize>)>,
    averaged: Part,
    maxed: Part,
    kept_local: Vec<Range<usize>>,
    integers: Integers,
}

/// The floats that travel under one policy.
#[derive(Clone, Debug, Default, PartialEq)]
struct Part {
    segments: Vec<Segment>,
    elements: usize,
}

impl Part {
    fn push(&mut self, flat: Range<usize>, coordinate_max: f32) {
        let (at, len) = (self.elements, flat.len());
        self.elements += len;
        match self.segments.last_mut() {
            Some(last) if last.flat.end == flat.start && last.coordinate_max == coordinate_max => {
                last.flat.end = flat.end;
            }
            _ => self.segments.push(Segment { flat, at, coordinate_max }),
        }
    }

    fn gather(&self, flat: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.reserve(self.elements);
        self.segments.iter().for_each(|segment| out.extend_from_slice(&flat[segment.flat.clone()]));
    }

    fn scatter(&self, values: &[f32], flat: &mut [f32]) {
        assert_eq!(values.len(), self.elements, "values come from a payload of this form");
        for segment in &self.segments {
            flat[segment.flat.clone()].copy_from_slice(&values[segment.place()]);
        }
    }

    /// The flat index of an element.
    fn flat(&self, index: usize) -> Option<usize> {
        let after = self.segments.partition_point(|segment| segment.at <= index);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let flat = segment.flat.start + (index - segment.at);
        segment.flat.contains(&flat).then_some(flat)
    }
}

impl Form {
    /// The form of updates of a model, by the rules of a job. Tensors without a rule are averaged, those of
    /// integers skipped; averaged tensors whose rule has no bound are within `coordinate_max` (parameter units).
    ///
    /// # Errors
    /// See [`FormError`].
    pub fn new(layout: &Layout, rules: &[Rule], coordinate_max: f32) -> Result<Self, FormError> {
        validate(layout, rules, coordinate_max)?;
        let mut form = Self {
            tensors: Vec::with_capacity(layout.tensors().len()),
            averaged: Part::default(),
            maxed: Part::default(),
            kept_local: Vec::new(),
            integers: Integers::new(layout, rules)?,
        };
        // Empty tensors have nothing that could travel, and would be found at the index of the next one.
        for (tensor, flat) in layout.ranges().filter(|(_, flat)| !flat.is_empty()) {
            form.tensors.push((tensor.name.clone(), flat.clone()));
            let rule = first(rules, &tensor.name);
            let bound = rule.and_then(|rule| rule.coordinate_max);
            match rule.map_or(Policy::unless_ruled(tensor.dtype), |rule| rule.policy) {
                Policy::Average => form.averaged.push(flat, bound.unwrap_or(coordinate_max)),
                Policy::Max => form.maxed.push(flat, bound.unwrap_or(f32::MAX)),
                Policy::KeepLocal => push(&mut form.kept_local, flat),
                Policy::Skip => {}
            }
        }
        if form.averaged.elements == 0 { Err(FormError::NothingAveraged) } else { Ok(form) }
    }

    /// Elements that are averaged.
    pub fn averaged(&self) -> usize {
        self.averaged.elements
    }

    /// Floats of which the largest counts.
    pub fn maxed(&self) -> usize {
        self.maxed.elements
    }

    /// The exact length of an update on the wire.
    pub fn bytes(&self, encoding: &Encoding) -> u64 {
        let maxed = Encoding::F32.bytes(self.maxed()).saturating_add(8 * self.max_integers() as u64);
        encoding.bytes(self.averaged()).saturating_add(maxed)
    }

    /// An update on the wire as the payload of the encoding and that of the `max` floats, which is
    /// [`Encoding::F32`]; `None` when it has another length. [`Form::read_integers`] reads what is behind them.
    pub fn split<'a>(&self, encoding: &Encoding, update: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let fits = update.len() as u64 == self.bytes(encoding);
        let floats = update.len().checked_sub(8 * self.max_integers()).filter(|_| fits)?;
        Some(update[..floats].split_at(floats - 4 * self.maxed()))
    }

    /// The averaged elements: runs of the flat layout without gaps on the wire, in its order.
    pub fn segments(&self) -> &[Segment] {
        &self.averaged.segments
    }

    /// The `max` elements, as [`Form::segments`].
    pub fn max_segments(&self) -> &[Segment] {
        &self.maxed.segments
    }

    /// What stays with its worker of the floats, in the flat layout.
    pub fn kept_local(&self) -> &[Range<usize>] {
        &self.kept_local
    }

    /// Copies what travels out of a flat vector; the vectors are replaced.
    ///
    /// # Panics
    /// When `flat` is shorter than the layout.
    pub fn gather(&self, flat: &[f32], averaged: &mut Vec<f32>, maxed: &mut Vec<f32>) {
        self.averaged.gather(flat, averaged);
        self.maxed.gather(flat, maxed);
    }

    /// Copies averaged elements to their places in a flat vector; the others are left as they are.
    ///
    /// # Panics
    /// When `averaged` has another length, or `flat` is shorter than the layout.
    pub fn scatter_averaged(&self, averaged: &[f32], flat: &mut [f32]) {
        self.averaged.scatter(averaged, flat);
    }

    /// Copies `max` elements to their places in a flat vector, as [`Form::scatter_averaged`].
    pub fn scatter_maxed(&self, maxed: &[f32], flat: &mut [f32]) {
        self.maxed.scatter(maxed, flat);
    }

    /// The tensor that holds averaged element `index`, and the index inside it.
    pub fn locate(&self, index: usize) -> Option<(&str, usize)> {
        self.locate_flat(self.averaged.flat(index)?)
    }

    /// The tensor that holds `max` element `index`, and the index inside it.
    pub fn locate_maxed(&self, index: usize) -> Option<(&str, usize)> {
        self.locate_flat(self.maxed.flat(index)?)
    }

    fn locate_flat(&self, index: usize) -> Option<(&str, usize)> {
        let after = self.tensors.partition_point(|(_, flat)| flat.start <= index);
        let (name, flat) = self.tensors.get(after.checked_sub(1)?)?;
        flat.contains(&index).then(|| (name.as_str(), index - flat.start))
    }
}

/// The rule that counts for a tensor.
fn first<'a>(rules: &'a [Rule], tensor: &str) -> Option<&'a Rule> {
    rules.iter().find(|rule| ::job::matches(&rule.pattern, tensor))
}

fn validate(layout: &Layout, rules: &[Rule], coordinate_max: f32) -> Result<(), FormError> {
    let check = |rule: &dyn Fn() -> String, value: f32| {
        let fits = value.is_finite() && value > 0.0;
        fits.then_some(()).ok_or_else(|| FormError::CoordinateMax { rule: rule(), value })
    };
    check(&|| "the round".to_owned(), coordinate_max)?;
    for Rule { pattern, coordinate_max, .. } in rules {
        if let Some(value) = *coordinate_max {
            check(&|| format!("pattern '{pattern}'"), value)?;
        }
        if !layout.tensors().iter().any(|tensor| ::job::matches(pattern, &tensor.name)) {
            return Err(FormError::NoMatch { pattern: pattern.clone(), tensors: some_names(layout) });
        }
    }
    Ok(())
}

/// The first few names, enough to see what a pattern should look like.
fn some_names(layout: &Layout) -> String {
    const SHOWN: usize = 5;
    let all = layout.tensors();
    let names: Vec<String> = all.iter().take(SHOWN).map(|tensor| format!("'{}'", tensor.name)).collect();
    match all.len() {
        0 => "none".to_owned(),
        1..=SHOWN => names.join(", "),
        more => format!("{} and {} more", names.join(", "), more - SHOWN),
    }
}

/// Adds a range, or lengthens the last one that ends where it starts.
fn push(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests;
