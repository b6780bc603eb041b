/// Names of the points at which [`Options::crash`] is called, in the order in which a journal meets them.
pub const CRASH_POINTS: [&str; 7] = [
    "segment-created",
    "journal-append-torn",
    "journal-unsynced",
    "journal-synced",
    "snapshot-written",
    "snapshot-renamed",
    "segment-retired",
];

/// Limits of a journal, and the hook of crash tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes after which a new segment begins; a frame that is longer has a segment of its own.
    pub segment_bytes: u64,
    /// The longest payload that is accepted, in bytes. Longer ones that are there already are still read.
    pub frame_bytes_max: u32,
    /// The last frame that the owner knows of: a journal that ends before it is not opened.
    pub least: u64,
    /// Called at each of [`CRASH_POINTS`] with its name; the default does nothing.
    pub crash: fn(&'static str),
    /// Writes in two halves, with the point `journal-append-torn` between them; off by default.
    pub torn: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, frame_bytes_max: 32 << 20, least: 0, crash: |_| {}, torn: false }
    }
}
