/// Labelled rows to learn from or to test on: `rows x width` features, row-major, and one class
/// index per row.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    features: &'a [f32],
    labels: &'a [u32],
    width: usize,
}

impl<'a> Examples<'a> {
    /// `None` unless `features` holds `labels.len()` rows of `width` values, with `width > 0`.
    pub fn new(features: &'a [f32], labels: &'a [u32], width: usize) -> Option<Self> {
        let fits = width > 0 && labels.len().checked_mul(width) == Some(features.len());
        fits.then_some(Self { features, labels, width })
    }

    /// All features, row-major.
    pub fn features(&self) -> &'a [f32] {
        self.features
    }

    /// The class index of each row.
    pub fn labels(&self) -> &'a [u32] {
        self.labels
    }

    /// Features per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The features of row `index`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.features[index * self.width..(index + 1) * self.width]
    }
}
