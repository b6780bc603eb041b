use std::ops::Range;

use safetensors::tensor::{Dtype as FileDtype, Metadata, SafeTensors, TensorInfo};

use crate::{Digest, Dtype, Layout, LayoutError, TensorSpec};

/// The longest safetensors header that is read, in bytes. The format itself allows 100 MB, which a
/// hostile file would make us allocate and parse.
pub const SAFETENSORS_HEADER_MAX: u64 = 1 << 20;

/// The weights of a model (or an update, or a gradient): values in the order of a [`Layout`], and its integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    layout: Layout,
    values: Vec<f32>,
    integers: Vec<i64>,
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
    /// The integers do not fill the layout.
    #[error("{found} integers for a layout of {expected}")]
    Integers {
        /// Integers that were given.
        found: usize,
        /// Integers that the layout holds.
        expected: usize,
    },
    /// The bytes do not fill the layout.
    #[error("{found} bytes for a layout of {expected}")]
    Bytes {
        /// Bytes that were given.
        found: usize,
        /// Bytes of all elements of the layout.
        expected: usize,
    },
    /// The safetensors header is longer than [`SAFETENSORS_HEADER_MAX`].
    #[error("safetensors header of {0} bytes, at most {SAFETENSORS_HEADER_MAX} are read")]
    HeaderTooLong(u64),
    /// A tensor is of neither 32-bit floats nor 64-bit integers.
    #[error("tensor '{name}' has type {dtype}, only F32 and I64 are supported")]
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
    /// Values in the order of `layout`, which has no integers.
    ///
    /// # Errors
    /// The values do not fill the layout, or it has integers: see [`Params::with_integers`].
    pub fn new(layout: Layout, values: Vec<f32>) -> Result<Self, ParamsError> {
        Self::with_integers(layout, values, Vec::new())
    }

    /// Values and integers in the order of `layout`.
    ///
    /// # Errors
    /// They do not fill the layout.
    pub fn with_integers(layout: Layout, values: Vec<f32>, integers: Vec<i64>) -> Result<Self, ParamsError> {
        if values.len() != layout.elements() {
            return Err(ParamsError::Length { found: values.len(), expected: layout.elements() });
        }
        if integers.len() != layout.integers() {
            return Err(ParamsError::Integers { found: integers.len(), expected: layout.integers() });
        }
        Ok(Self { layout, values, integers })
    }

    /// All zeros.
    pub fn zeros(layout: Layout) -> Self {
        let values = vec![0.0; layout.elements()];
        let integers = vec![0; layout.integers()];
        Self { layout, values, integers }
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

    /// All integers, flat.
    pub fn integers(&self) -> &[i64] {
        &self.integers
    }

    /// All integers, flat, to be changed in place.
    pub fn integers_mut(&mut self) -> &mut [i64] {
        &mut self.integers
    }

    /// The values of one tensor of floats.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        self.layout.ranges().find(|(t, _)| t.name == name).map(|(_, range)| &self.values[range])
    }

    /// The elements of one tensor of integers.
    pub fn integer_tensor(&self, name: &str) -> Option<&[i64]> {
        self.layout.integer_ranges().find(|(t, _)| t.name == name).map(|(_, range)| &self.integers[range])
    }

    /// The first value that is NaN or infinite, as its tensor, index in it, and value.
    pub fn first_not_finite(&self) -> Option<(&str, usize, f32)> {
        let at = self.values.iter().position(|v| !v.is_finite())?;
        self.layout.locate(at).map(|(name, index)| (name, index, self.values[at]))
    }

    /// Reads a [safetensors](https://github.com/huggingface/safetensors) file of F32 and I64 tensors.
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
            specs.push(match view.dtype() {
                FileDtype::F32 => TensorSpec::new(name, view.shape()),
                FileDtype::I64 => TensorSpec::integers(name, view.shape()),
                other => return Err(ParamsError::Type { name, dtype: format!("{other:?}") }),
            });
        }
        let layout = Layout::new(specs)?;
        let mut values = Vec::with_capacity(layout.elements());
        let mut integers = Vec::with_capacity(layout.integers());
        for spec in layout.tensors() {
            let view = file.tensor(&spec.name).map_err(|e| ParamsError::Format(e.to_string()))?;
            match spec.dtype {
                Dtype::F32 => values.extend(read_f32(view.data())),
                Dtype::I64 => integers.extend(read_i64(view.data())),
            }
        }
        Self::with_integers(layout, values, integers)
    }

    /// Writes a safetensors file. Equal params give equal bytes: tensors are written by name, those of integers
    /// first, without metadata.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ParamsError> {
        let mut file = safetensors_header(&self.layout)?;
        file.reserve_exact(self.layout.file_bytes());
        self.write(&mut file);
        Ok(file)
    }

    /// The integers and behind them the values as little-endian bytes, each in the order of the layout: what a
    /// safetensors file has behind its header.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.layout.file_bytes());
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.integers.iter().flat_map(|v| v.to_le_bytes()));
        out.extend(self.values.iter().flat_map(|v| v.to_le_bytes()));
    }

    /// Reads what [`Params::to_bytes`] wrote.
    pub fn from_bytes(layout: Layout, bytes: &[u8]) -> Result<Self, ParamsError> {
        if bytes.len() != layout.file_bytes() {
            return Err(ParamsError::Bytes { found: bytes.len(), expected: layout.file_bytes() });
        }
        let (integers, values) = bytes.split_at(layout.file_bytes() - layout.bytes());
        let (integers, values) = (read_i64(integers).collect(), read_f32(values).collect());
        Ok(Self { layout, values, integers })
    }

    /// The digest of the safetensors file.
    pub fn digest(&self) -> Result<Digest, ParamsError> {
        Ok(Digest::of(&self.to_safetensors()?))
    }
}

/// The first bytes of the safetensors file of a model, up to its elements. These follow little-endian, the integers
/// as `i64` and then the values as `f32`, each in the order of the layout: a large model is written and read without
/// holding it in memory.
///
/// # Errors
/// The header is longer than [`SAFETENSORS_HEADER_MAX`].
pub fn safetensors_header(layout: &Layout) -> Result<Vec<u8>, ParamsError> {
    let fail = |e: &dyn std::fmt::Display| ParamsError::Format(e.to_string());
    // By falling alignment and then by name, as the library has it.
    let integers = layout.integer_ranges().map(|(spec, range)| info(spec, FileDtype::I64, 0, range));
    let values = layout.file_bytes() - layout.bytes();
    let floats = layout.ranges().map(|(spec, range)| info(spec, FileDtype::F32, values, range));
    let metadata = Metadata::new(None, integers.chain(floats).collect()).map_err(|e| fail(&e))?;
    let json = serde_json::to_vec(&metadata).map_err(|e| fail(&e))?;
    // The elements start at a multiple of 8 bytes.
    let length = json.len().next_multiple_of(8);
    if length as u64 > SAFETENSORS_HEADER_MAX {
        return Err(ParamsError::HeaderTooLong(length as u64));
    }
    let mut header = (length as u64).to_le_bytes().to_vec();
    header.extend(&json);
    header.resize(8 + length, b' ');
    Ok(header)
}

/// A tensor in a header. Those of its type begin `start` bytes behind it.
fn info(spec: &TensorSpec, dtype: FileDtype, start: usize, range: Range<usize>) -> (String, TensorInfo) {
    let bytes = spec.dtype.bytes();
    let data_offsets = (start + range.start * bytes, start + range.end * bytes);
    (spec.name.clone(), TensorInfo { dtype, shape: spec.shape.clone(), data_offsets })
}

/// The values of the safetensors file of a model of `layout`, as they stand in it: little-endian `f32`.
///
/// # Errors
/// The file is not the one that [`Params::to_safetensors`] writes for this layout: other tensors, another order,
/// cut short.
pub fn safetensors_values<'a>(layout: &Layout, file: &'a [u8]) -> Result<&'a [u8], ParamsError> {
    Ok(elements(layout, file)?.1)
}

/// The integers of the safetensors file of a model of `layout`, as they stand in it: little-endian `i64`.
///
/// # Errors
/// Those of [`safetensors_values`].
pub fn safetensors_integers<'a>(layout: &Layout, file: &'a [u8]) -> Result<&'a [u8], ParamsError> {
    Ok(elements(layout, file)?.0)
}

/// Integers and values of a file.
fn elements<'a>(layout: &Layout, file: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), ParamsError> {
    let header = safetensors_header(layout)?;
    match file.strip_prefix(header.as_slice()) {
        Some(all) if all.len() == layout.file_bytes() => {
            Ok(all.split_at(layout.file_bytes() - layout.bytes()))
        }
        Some(all) => Err(ParamsError::Bytes { found: all.len(), expected: layout.file_bytes() }),
        None => Err(ParamsError::Format("its tensors are not those of the model".to_owned())),
    }
}

fn read_f32(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

fn read_i64(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests;
