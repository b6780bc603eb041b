use std::collections::BTreeSet;

/// The most tensors that a model may have.
pub const TENSOR_COUNT_MAX: usize = 65_536;

/// A named tensor of 32-bit floats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The key in the PyTorch `state_dict`, for instance `fc1.weight`.
    pub name: String,
    /// The extent of each dimension, outermost first (row-major).
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor of this name and shape.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into() }
    }

    /// The number of elements; a 0-d tensor has one.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of a model in the order of their names: what is flat in memory and on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    elements: usize,
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
        let mut elements = 0usize;
        for tensor in &tensors {
            if !seen.insert(tensor.name.as_str()) {
                return Err(LayoutError::Duplicate(tensor.name.clone()));
            }
            let size = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            elements = size
                .and_then(|n| elements.checked_add(n))
                .filter(|n| n.checked_mul(8).is_some_and(|bytes| bytes <= isize::MAX as usize))
                .ok_or_else(|| LayoutError::Overflow(tensor.name.clone()))?;
        }
        Ok(Self { tensors, elements })
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// The number of elements of all tensors.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The number of bytes of all elements as `f32`.
    pub fn bytes(&self) -> usize {
        self.elements * size_of::<f32>()
    }

    /// Each tensor with the range of its elements in the flat vector.
    pub fn ranges(&self) -> impl Iterator<Item = (&TensorSpec, std::ops::Range<usize>)> {
        self.tensors.iter().scan(0usize, |start, tensor| {
            let range = *start..*start + tensor.elements();
            *start = range.end;
            Some((tensor, range))
        })
    }

    /// The name of the tensor that holds element `index`, and the index inside it.
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
    }
}
