//! Large pieces of memory: [`Pages`] for bytes on their way in, [`map`] for files on their way out.
//!
//! Both begin at a page, and neither costs memory before it is touched.

use std::{fmt, fs::File, io};

use memmap2::{Mmap, MmapMut};

/// Bytes of our own, zero at first. Memory is taken page by page as they are written, and given back when they
/// are dropped.
pub struct Pages(MmapMut);

impl Pages {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// The address space, or what this process may have of it, is used up.
    pub fn new(len: usize) -> io::Result<Self> {
        // A mapping of nothing is refused by the system.
        let pages = MmapMut::map_anon(len.max(1))?;
        // Fewer and larger faults, where the system has large pages; where not, nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Ok(Self(pages))
    }

    /// How many bytes there are; at least 1.
    pub fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Pages {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} bytes)", self.0.len())
    }
}

/// The bytes of a file, read through the page cache when they are touched: however many look at it, it is in memory
/// once, and the system may drop it.
pub struct Mapped(Mmap);

/// Maps a whole file that nobody writes to any more.
///
/// A file that is made shorter while it is mapped ends the process with a signal when the missing part is read, as
/// does a disk that cannot read it. So it is for files that are written once, under another name, and then only
/// read or removed; a removed file stays readable here.
///
/// # Errors
/// Those of the operating system.
pub fn map(file: &File) -> io::Result<Mapped> {
    // SAFETY: the caller promises that the file does not change. Bytes that change all the same are read as some
    // bytes or other; nothing here or in the callers relies on reading the same ones twice.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(file)? };
    Ok(Mapped(map))
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pages_are_zero_aligned_and_ours() {
        let mut pages = Pages::new(10_000).unwrap();
        assert_eq!((pages.capacity(), pages.as_ref().as_ptr() as usize % 4096), (10_000, 0));
        assert!(pages.as_ref().iter().all(|byte| *byte == 0));
        pages.as_mut()[9_999] = 7;
        assert_eq!(pages.as_ref()[9_999], 7);
        assert_eq!(Pages::new(0).unwrap().capacity(), 1);
        assert!(Pages::new(usize::MAX).is_err());
    }

    #[test]
    fn a_mapped_file_outlives_its_name() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"weights").unwrap();
        let mapped = map(file.as_file()).unwrap();
        file.close().unwrap();
        assert_eq!(mapped.as_ref(), b"weights");
        let empty = tempfile::tempfile().unwrap();
        assert_eq!(map(&empty).unwrap().as_ref(), b"");
    }
}
