//! The map of the file as snapshots see it: the disk's, or a buffer under Miri, which maps no files.
//!
//! No slices are made here: which bytes are at rest is known to [`crate::snapshot`].

pub(crate) use kind::Map;

#[cfg(not(miri))]
mod kind {
    use std::io::{self, IoSlice};

    use stanchion_disk::File;

    #[derive(Debug)]
    pub(crate) struct Map(stanchion_disk::Map);

    impl Map {
        /// Maps the first `len` bytes; the file may still be shorter.
        pub(crate) fn new(file: &dyn File, len: usize) -> io::Result<Self> {
            file.map(len).map(Self)
        }

        /// A longer map of the same file.
        pub(crate) fn longer(&self, file: &dyn File, len: usize) -> io::Result<Self> {
            Self::new(file, len)
        }

        /// Valid for reads of [`Self::len`] bytes as far as the file reaches.
        #[inline]
        pub(crate) fn as_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }

        #[inline]
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }

        /// Told of every write to the file's pages: the kernel shows them in the map without help.
        #[inline]
        pub(crate) fn written(&self, _slices: &[IoSlice<'_>], _offset: u64) {}
    }
}

#[cfg(miri)]
mod kind {
    use std::io::{self, IoSlice};
    use std::sync::Arc;

    use stanchion_disk::File;

    /// All maps of one open file share a buffer of this many bytes, as they share the kernel's pages.
    const BUFFER: usize = 4 << 20;

    /// Commits write to the buffer as they write to the file: a write to bytes that a reader has borrowed, or that is
    /// not ordered with its reads, is undefined behaviour which Miri reports.
    #[derive(Debug)]
    pub(crate) struct Map {
        buffer: Arc<Buffer>,
        len: usize,
    }

    #[derive(Debug)]
    struct Buffer(*mut [u8]);

    // SAFETY: only the database's single writer writes to it, and only to pages that nobody reads (what snapshots
    // promise of the file; that they keep it is what Miri is to find out).
    #[allow(unsafe_code)]
    unsafe impl Send for Buffer {}
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe impl Sync for Buffer {}

    impl Drop for Buffer {
        #[allow(unsafe_code)]
        fn drop(&mut self) {
            // SAFETY: the pointer came from a box in `Map::new`, and this is its only owner.
            drop(unsafe { Box::from_raw(self.0) });
        }
    }

    impl Map {
        pub(crate) fn new(file: &dyn File, len: usize) -> io::Result<Self> {
            let mut bytes = vec![0; BUFFER].into_boxed_slice();
            let file_len = usize::try_from(file.len()?).map_err(io::Error::other)?;
            let present = bytes.get_mut(..file_len).ok_or_else(too_long)?;
            file.read_exact_at(present, 0)?;
            Self { buffer: Arc::new(Buffer(Box::into_raw(bytes))), len: 0 }.with_len(len)
        }

        pub(crate) fn longer(&self, _file: &dyn File, len: usize) -> io::Result<Self> {
            Self { buffer: Arc::clone(&self.buffer), len: 0 }.with_len(len)
        }

        fn with_len(self, len: usize) -> io::Result<Self> {
            if len <= BUFFER { Ok(Self { len, ..self }) } else { Err(too_long()) }
        }

        pub(crate) fn as_ptr(&self) -> *const u8 {
            self.buffer.0.cast()
        }

        pub(crate) fn len(&self) -> usize {
            self.len
        }

        #[allow(unsafe_code)]
        pub(crate) fn written(&self, slices: &[IoSlice<'_>], offset: u64) {
            let mut at = offset as usize;
            for slice in slices {
                assert!(at + slice.len() <= BUFFER, "a file of at most {BUFFER} bytes");
                // SAFETY: the range lies in the buffer. Nobody reads it: see above.
                unsafe {
                    self.buffer.0.cast::<u8>().add(at).copy_from_nonoverlapping(slice.as_ptr(), slice.len())
                };
                at += slice.len();
            }
        }
    }

    fn too_long() -> io::Error {
        io::Error::other(format!("under Miri a map has at most {BUFFER} bytes"))
    }
}
