use std::{collections::BTreeSet, ops::Range};

/// The most tensors that a model may have.
pub const TENSOR_COUNT_MAX: usize = 65_536;

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats: weights and statistics.
    F32,
    /// 64-bit integers: counters, such as `num_batches_tracked` of PyTorch's `BatchNorm`.
    I64,
}

impl Dtype {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::I64 => size_of::<i64>(),
        }
    }
}

/// A named tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The key in the PyTorch `state_dict`, for instance `fc1.weight`.
    pub name: String,
    /// The extent of each dimension, outermost first (row-major).
    pub shape: Vec<usize>,
    /// What its elements are.
    pub dtype: Dtype,
}

impl TensorSpec {
    /// A tensor of floats of this name and shape.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), dtype: Dtype::F32 }
    }

    /// A tensor of integers of this name and shape.
    pub fn integers(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { dtype: Dtype::I64, ..Self::new(name, shape) }
    }

    /// The number of elements; a 0-d tensor has one.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of a model in the order of their names: what is flat in memory and on the wire.
///
/// Floats and integers are two flat vectors. What has no other name is about floats: `elements`, `bytes`,
/// `ranges` and `locate` pass over tensors of integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    elements: usize,
    integers: usize,
}

/// Why some tensors do not make a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Two tensors have one name.
    #[error("tensor '{0}' occurs twice")]
    Duplicate(String),
    /// More tensors than [`TENSOR_COUNT_MAX`].
    #[error("{0} tensors, at most {TENSOR_COUNT_MAX} are allowed")]
    TooMany(usize),
    /// The element count does not fit in memory.
    #[error("tensor '{0}' has a shape whose size overflows")]
    Overflow(String),
}

impl Layout {
    /// Sorts the tensors by name and checks that names are unique and sizes fit.
    pub fn new(mut tensors: Vec<TensorSpec>) -> Result<Self, LayoutError> {
        if tensors.len() > TENSOR_COUNT_MAX {
            return Err(LayoutError::TooMany(tensors.len()));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let mut seen = BTreeSet::new();
        let (mut elements, mut integers) = (0usize, 0usize);
        for tensor in &tensors {
            if !seen.insert(tensor.name.as_str()) {
                return Err(LayoutError::Duplicate(tensor.name.clone()));
            }
            let size = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            // Both together are one file: 8 bytes each is the most that they need.
            let fits = |n: &usize| {
                let all = (elements + integers).checked_add(*n).and_then(|n| n.checked_mul(8));
                all.is_some_and(|bytes| bytes <= isize::MAX as usize)
            };
            let size = size.filter(fits).ok_or_else(|| LayoutError::Overflow(tensor.name.clone()))?;
            match tensor.dtype {
                Dtype::F32 => elements += size,
                Dtype::I64 => integers += size,
            }
        }
        Ok(Self { tensors, elements, integers })
    }

    /// The tensors of both types, sorted by name.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// The number of floats of all tensors.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The number of integers of all tensors.
    pub fn integers(&self) -> usize {
        self.integers
    }

    /// The number of bytes of all floats.
    pub fn bytes(&self) -> usize {
        self.elements * Dtype::F32.bytes()
    }

    /// The number of bytes of all elements of both types: what the safetensors file of the model has behind its
    /// header.
    pub fn file_bytes(&self) -> usize {
        self.integers * Dtype::I64.bytes() + self.bytes()
    }

    /// Each tensor of floats with the range of its elements in the flat vector of floats.
    pub fn ranges(&self) -> impl Iterator<Item = (&TensorSpec, Range<usize>)> {
        self.ranges_of(Dtype::F32)
    }

    /// Each tensor of integers with the range of its elements in the flat vector of integers.
    pub fn integer_ranges(&self) -> impl Iterator<Item = (&TensorSpec, Range<usize>)> {
        self.ranges_of(Dtype::I64)
    }

    fn ranges_of(&self, dtype: Dtype) -> impl Iterator<Item = (&TensorSpec, Range<usize>)> {
        self.tensors.iter().filter(move |tensor| tensor.dtype == dtype).scan(0usize, |start, tensor| {
            let range = *start..*start + tensor.elements();
            *start = range.end;
            Some((tensor, range))
        })
    }

    /// The name of the tensor that holds float `index`, and the index inside it.
    pub fn locate(&self, index: usize) -> Option<(&str, usize)> {
        self.ranges()
            .find(|(_, range)| range.contains(&index))
            .map(|(tensor, range)| (tensor.name.as_str(), index - range.start))
    }

    /// What differs from `other`, as a phrase for an error, or `None` where they are equal.
    pub fn difference(&self, other: &Layout) -> Option<String> {
        let find = |layout: &Layout, name: &str| layout.tensors.iter().find(|t| t.name == name).cloned();
        for ours in &self.tensors {
            match find(other, &ours.name) {
                None => return Some(format!("tensor '{}' is missing", ours.name)),
                Some(theirs) if theirs.shape != ours.shape => {
                    return Some(format!(
                        "tensor '{}' has shape {:?}, expected {:?}",
                        ours.name, theirs.shape, ours.shape
                    ));
                }
                Some(theirs) if theirs.dtype != ours.dtype => {
                    return Some(format!(
                        "tensor '{}' has type {:?}, expected {:?}",
                        ours.name, theirs.dtype, ours.dtype
                    ));
                }
                Some(_) => {}
            }
        }
        let extra = other.tensors.iter().find(|t| find(self, &t.name).is_none());
        extra.map(|t| format!("tensor '{}' is not expected", t.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(tensors: &[(&str, &[usize])]) -> Layout {
        Layout::new(tensors.iter().map(|(n, s)| TensorSpec::new(*n, *s)).collect()).unwrap()
    }

    #[test]
    fn is_sorted_and_flat() {
        let l = layout(&[("b", &[3]), ("a", &[2, 2]), ("c", &[])]);
        let ranges: Vec<_> = l.ranges().map(|(t, r)| (t.name.clone(), r)).collect();
        assert_eq!(ranges, [("a".into(), 0..4), ("b".into(), 4..7), ("c".into(), 7..8)]);
        assert_eq!((l.elements(), l.bytes()), (8, 32));
        assert_eq!(l.locate(6), Some(("b", 2)));
        assert_eq!(l.locate(8), None);
    }

    #[test]
    fn floats_and_integers_are_two_vectors() {
        let l = Layout::new(vec![
            TensorSpec::integers("n", []),
            TensorSpec::new("mean", [2]),
            TensorSpec::new("z", []),
            TensorSpec::integers("k", [3]),
        ])
        .unwrap();
        let flat = |ranges: Vec<(&TensorSpec, Range<usize>)>| -> Vec<(String, Range<usize>)> {
            ranges.into_iter().map(|(t, r)| (t.name.clone(), r)).collect()
        };
        assert_eq!(flat(l.ranges().collect()), [("mean".into(), 0..2), ("z".into(), 2..3)]);
        assert_eq!(flat(l.integer_ranges().collect()), [("k".into(), 0..3), ("n".into(), 3..4)]);
        let names: Vec<_> = l.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["k", "mean", "n", "z"]);
        assert_eq!((l.elements(), l.integers()), (3, 4));
        assert_eq!((l.bytes(), l.file_bytes()), (12, 44));
        assert_eq!((l.locate(2), l.locate(3)), (Some(("z", 0)), None));
    }

    #[test]
    fn both_types_together_must_fit() {
        let half = isize::MAX as usize / 16 + 1;
        let one = |other| Layout::new(vec![TensorSpec::new("a", [half]), other]);
        for other in [TensorSpec::new("b", [half]), TensorSpec::integers("b", [half])] {
            assert_eq!(one(other), Err(LayoutError::Overflow("b".into())));
        }
        assert_eq!(one(TensorSpec::integers("b", [half - 1])).unwrap().integers(), half - 1);
    }

    #[test]
    fn refuses_duplicates_and_overflow() {
        let twice = vec![TensorSpec::new("a", [1]), TensorSpec::new("a", [2])];
        assert_eq!(Layout::new(twice), Err(LayoutError::Duplicate("a".into())));
        let huge = vec![TensorSpec::new("a", [usize::MAX, 2])];
        assert_eq!(Layout::new(huge), Err(LayoutError::Overflow("a".into())));
        let huge = vec![TensorSpec::new("a", [usize::MAX / 4])];
        assert_eq!(Layout::new(huge), Err(LayoutError::Overflow("a".into())));
    }

    #[test]
    fn names_the_difference() {
        let l = layout(&[("a", &[2]), ("b", &[3])]);
        assert_eq!(l.difference(&l), None);
        let other = |tensors: &[(&str, &[usize])]| l.difference(&layout(tensors)).unwrap();
        assert_eq!(other(&[("a", &[2])]), "tensor 'b' is missing");
        assert_eq!(other(&[("a", &[2]), ("b", &[4])]), "tensor 'b' has shape [4], expected [3]");
        assert_eq!(other(&[("a", &[2]), ("b", &[3]), ("c", &[])]), "tensor 'c' is not expected");
        let integers = Layout::new(vec![TensorSpec::new("a", [2]), TensorSpec::integers("b", [3])]).unwrap();
        assert_eq!(l.difference(&integers).unwrap(), "tensor 'b' has type I64, expected F32");
        assert_eq!(integers.difference(&l).unwrap(), "tensor 'b' has type F32, expected I64");
    }
}
