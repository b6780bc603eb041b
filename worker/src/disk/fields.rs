use std::io::{self, Read};

use params::{Digest, Hasher};

/// Reads numbers and names, and hashes what it reads.
pub(super) struct Fields<R> {
    from: R,
    hasher: Hasher,
}

impl<R: Read> Fields<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, hasher: Hasher::new() }
    }

    /// The next bytes.
    pub(super) fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut field = [0; N];
        self.fill(&mut field)?;
        Ok(field)
    }

    /// As many bytes as `field` has.
    pub(super) fn fill(&mut self, field: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(field)?;
        self.hasher.update(field);
        Ok(())
    }

    /// A length of one byte, and as many bytes of text.
    pub(super) fn text(&mut self) -> io::Result<String> {
        let [len] = self.take()?;
        let mut text = vec![0; usize::from(len)];
        self.fill(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Of all that was read.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.digest()
    }
}
