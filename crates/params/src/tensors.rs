use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

use crate::{Digest, Layout, LayoutError, TensorSpec};

/// The longest safetensors header that is read, in bytes. The format itself allows 100 MB, which a
/// hostile file would make us allocate and parse.
pub const SAFETENSORS_HEADER_MAX: u64 = 1 << 20;

/// The weights of a model (or an update, or a gradient): values in the order of a [`Layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    layout: Layout,
    values: Vec<f32>,
}

/// Why bytes or values are not the [`Params`] of a model.
#[derive(Debug, thiserror::Error)]
pub enum ParamsError {
    /// The values do not fill the layout.
    #[error("{found} values for a layout of {expected}")]
    Length {
        /// Values that were given.
        found: usize,
        /// Values that the layout holds.
        expected: usize,
    },
    /// The safetensors header is longer than [`SAFETENSORS_HEADER_MAX`].
    #[error("safetensors header of {0} bytes, at most {SAFETENSORS_HEADER_MAX} are read")]
    HeaderTooLong(u64),
    /// A tensor is not of 32-bit floats.
    #[error("tensor '{name}' has type {dtype}, only F32 is supported")]
    Type {
        /// The tensor.
        name: String,
        /// Its type in the file.
        dtype: String,
    },
    /// The file breaks the safetensors format.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// The tensors do not make a layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Params {
    /// Values in the order of `layout`.
    pub fn new(layout: Layout, values: Vec<f32>) -> Result<Self, ParamsError> {
        if values.len() != layout.elements() {
            return Err(ParamsError::Length { found: values.len(), expected: layout.elements() });
        }
        Ok(Self { layout, values })
    }

    /// All zeros.
    pub fn zeros(layout: Layout) -> Self {
        let values = vec![0.0; layout.elements()];
        Self { layout, values }
    }

    /// Names and shapes.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All values, flat.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, flat, to be changed in place.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The flat values alone.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The values of one tensor.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        self.layout.ranges().find(|(t, _)| t.name == name).map(|(_, range)| &self.values[range])
    }

    /// The first value that is NaN or infinite, as its tensor, index in it, and value.
    pub fn first_not_finite(&self) -> Option<(&str, usize, f32)> {
        let at = self.values.iter().position(|v| !v.is_finite())?;
        self.layout.locate(at).map(|(name, index)| (name, index, self.values[at]))
    }

    /// Reads a [safetensors](https://github.com/huggingface/safetensors) file of F32 tensors.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, ParamsError> {
        if let Some(head) = bytes.first_chunk::<8>() {
            let header = u64::from_le_bytes(*head);
            if header > SAFETENSORS_HEADER_MAX {
                return Err(ParamsError::HeaderTooLong(header));
            }
        }
        let file = SafeTensors::deserialize(bytes).map_err(|e| ParamsError::Format(e.to_string()))?;
        let mut specs = Vec::with_capacity(file.len());
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(ParamsError::Type { name, dtype: format!("{:?}", view.dtype()) });
            }
            specs.push(TensorSpec::new(name, view.shape()));
        }
        let layout = Layout::new(specs)?;
        let mut values = Vec::with_capacity(layout.elements());
        for spec in layout.tensors() {
            let view = file.tensor(&spec.name).map_err(|e| ParamsError::Format(e.to_string()))?;
            values.extend(read_f32(view.data()));
        }
        Self::new(layout, values)
    }

    /// Writes a safetensors file. Equal params give equal bytes: tensors are written by name,
    /// without metadata.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ParamsError> {
        let mut file = safetensors_header(&self.layout)?;
        file.reserve_exact(self.layout.bytes());
        file.extend(self.values.iter().flat_map(|v| v.to_le_bytes()));
        Ok(file)
    }

    /// The values as little-endian bytes, in the order of the layout: how updates travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Reads what [`Params::to_bytes`] wrote.
    pub fn from_bytes(layout: Layout, bytes: &[u8]) -> Result<Self, ParamsError> {
        if bytes.len() != layout.bytes() {
            return Err(ParamsError::Length { found: bytes.len() / 4, expected: layout.elements() });
        }
        let values = read_f32(bytes).collect();
        Ok(Self { layout, values })
    }

    /// The digest of the safetensors file.
    pub fn digest(&self) -> Result<Digest, ParamsError> {
        Ok(Digest::of(&self.to_safetensors()?))
    }
}

/// The first bytes of the safetensors file of a model, up to its values. These follow as little-endian `f32`, in the
/// order of the layout: a large model is written and read without holding it in memory.
///
/// # Errors
/// The header is longer than [`SAFETENSORS_HEADER_MAX`].
pub fn safetensors_header(layout: &Layout) -> Result<Vec<u8>, ParamsError> {
    let fail = |e: &dyn std::fmt::Display| ParamsError::Format(e.to_string());
    let tensors = layout.ranges().map(|(spec, range)| {
        let data_offsets = (range.start * 4, range.end * 4);
        (spec.name.clone(), TensorInfo { dtype: Dtype::F32, shape: spec.shape.clone(), data_offsets })
    });
    let metadata = Metadata::new(None, tensors.collect()).map_err(|e| fail(&e))?;
    let json = serde_json::to_vec(&metadata).map_err(|e| fail(&e))?;
    // The values start at a multiple of 8 bytes.
    let length = json.len().next_multiple_of(8);
    if length as u64 > SAFETENSORS_HEADER_MAX {
        return Err(ParamsError::HeaderTooLong(length as u64));
    }
    let mut header = (length as u64).to_le_bytes().to_vec();
    header.extend(&json);
    header.resize(8 + length, b' ');
    Ok(header)
}

/// The values of the safetensors file of a model of `layout`, as they stand in it: little-endian `f32`.
///
/// # Errors
/// The file is not the one that [`Params::to_safetensors`] writes for this layout: other tensors, another order,
/// cut short.
pub fn safetensors_values<'a>(layout: &Layout, file: &'a [u8]) -> Result<&'a [u8], ParamsError> {
    let header = safetensors_header(layout)?;
    let expected = header.len() + layout.bytes();
    match file.strip_prefix(header.as_slice()) {
        Some(values) if values.len() == layout.bytes() => Ok(values),
        Some(_) => Err(ParamsError::Length {
            found: (file.len() - header.len()) / 4,
            expected: (expected - header.len()) / 4,
        }),
        None => Err(ParamsError::Format("its tensors are not those of the model".to_owned())),
    }
}

fn read_f32(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::tensor::{TensorView, serialize};

    use super::*;

    #[test]
    fn the_file_is_the_one_that_the_library_writes() {
        for tensors in [
            vec![],
            vec![TensorSpec::new("w", [2, 2]), TensorSpec::new("b", [1])],
            vec![
                TensorSpec::new("a.\"quoted\"", [0]),
                TensorSpec::new("scalar", []),
                TensorSpec::new("ä", [3]),
            ],
        ] {
            let layout = Layout::new(tensors).unwrap();
            let values: Vec<f32> = (0..layout.elements()).map(|i| i as f32 - 0.5).collect();
            let params = Params::new(layout.clone(), values).unwrap();
            let bytes = params.to_bytes();
            let views = layout.ranges().map(|(spec, range)| {
                let data = &bytes[range.start * 4..range.end * 4];
                (spec.name.clone(), TensorView::new(Dtype::F32, spec.shape.clone(), data).unwrap())
            });
            let file = serialize(views, None).unwrap();
            assert_eq!(params.to_safetensors().unwrap(), file);
            assert_eq!(safetensors_values(&layout, &file).unwrap(), bytes);
            assert!(safetensors_values(&layout, &[&file[..], &[0; 4]].concat()).is_err());
        }
        let other = Layout::new(vec![TensorSpec::new("v", [2, 2]), TensorSpec::new("b", [1])]).unwrap();
        assert!(safetensors_values(&other, &two().to_safetensors().unwrap()).is_err());
    }

    fn two() -> Params {
        let layout = Layout::new(vec![TensorSpec::new("w", [2, 2]), TensorSpec::new("b", [1])]).unwrap();
        Params::new(layout, vec![9.0, 1.0, 2.0, 3.0, 4.0]).unwrap()
    }

    #[test]
    fn reads_what_it_writes() {
        let p = two();
        let file = p.to_safetensors().unwrap();
        assert_eq!(Params::from_safetensors(&file).unwrap(), p);
        assert_eq!(file, p.to_safetensors().unwrap());
        assert_eq!(Params::from_bytes(p.layout().clone(), &p.to_bytes()).unwrap(), p);
        assert_eq!(p.tensor("w"), Some(&[1.0, 2.0, 3.0, 4.0][..]));
        assert_eq!(p.tensor("x"), None);
    }

    #[test]
    fn names_the_value_that_is_not_finite() {
        let mut p = two();
        assert_eq!(p.first_not_finite(), None);
        p.values_mut()[3] = f32::INFINITY;
        assert_eq!(p.first_not_finite(), Some(("w", 2, f32::INFINITY)));
    }

    #[test]
    fn refuses_a_giant_header_before_parsing() {
        let mut file = u64::MAX.to_le_bytes().to_vec();
        file.extend([b' '; 64]);
        assert!(matches!(Params::from_safetensors(&file), Err(ParamsError::HeaderTooLong(u64::MAX))));
    }

    #[test]
    fn refuses_other_types() {
        let data = [0u8; 8];
        let view = TensorView::new(Dtype::F64, vec![1], &data).unwrap();
        let file = serialize([("x", view)], None).unwrap();
        let error = Params::from_safetensors(&file).unwrap_err();
        assert_eq!(error.to_string(), "tensor 'x' has type F64, only F32 is supported");
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Params::from_safetensors(&bytes);
        }

        #[test]
        fn one_changed_byte_never_panics(at in 0usize..200, byte in any::<u8>()) {
            let mut file = two().to_safetensors().unwrap();
            let at = at % file.len();
            file[at] = byte;
            let _ = Params::from_safetensors(&file);
        }
    }
}
