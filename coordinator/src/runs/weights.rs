use bytes::Bytes;
use params::{Digest, Layout, Params, ParamsError, safetensors_integers, safetensors_values};

/// The weights of a version as their file has them: in memory for a small model, in the page cache for a large one.
/// Workers are sent the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) digest: Digest,
    /// The safetensors file.
    pub(crate) file: Bytes,
    /// Its values, little-endian `f32`.
    values: Bytes,
    /// Its integers, little-endian `i64`.
    integers: Bytes,
}

impl Weights {
    /// The file of a model of `layout`, whose digest was verified.
    pub(crate) fn new(layout: &Layout, digest: Digest, file: Bytes) -> Result<Self, ParamsError> {
        let values = file.slice_ref(safetensors_values(layout, &file)?);
        let integers = file.slice_ref(safetensors_integers(layout, &file)?);
        Ok(Self { digest, file, values, integers })
    }

    /// Copies the values from index `start` on.
    pub(crate) fn read(&self, start: usize, out: &mut [f32]) {
        update::Encoding::F32.decode(&self.values, self.values.len() / 4, start, out);
    }

    /// Copies all integers: a counter or so for each layer.
    pub(crate) fn integers(&self) -> Vec<i64> {
        self.integers.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    }

    /// All of them in memory.
    pub(crate) fn params(&self, layout: &Layout) -> Result<Params, ParamsError> {
        let mut values = vec![0.0; layout.elements()];
        self.read(0, &mut values);
        Params::with_integers(layout.clone(), values, self.integers())
    }
}
