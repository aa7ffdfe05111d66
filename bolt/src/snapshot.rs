//! What one committed transaction looks like: its meta page and the map its pages are read from.
//!
//! This is the only module with `unsafe` (but for what stands in for the map under Miri): it turns the raw map into
//! slices. Everything above works with checked slices and [`Page`]s.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{HEADER_SIZE, Header, Meta};
use crate::map::Map;
use crate::page::Page;

/// What [`Snapshot::prefetch`] fetches, in cache lines, and their bytes.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const PREFETCHED_LINES: usize = 8;
#[cfg(all(target_arch = "x86_64", not(miri)))]
const CACHE_LINE: usize = 64;

/// A committed state: immutable, shared by the transactions that read it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) meta: Meta,
    map: Arc<Map>,
    /// Free pages and pages that become free when older readers end, as this commit left them.
    pub(crate) free_pages: u64,
    pub(crate) pending_pages: u64,
}

impl Snapshot {
    /// `map` must cover the pages below the high-water mark, and the file must reach that far.
    pub(crate) fn new(meta: Meta, map: Arc<Map>, free_pages: u64, pending_pages: u64) -> Self {
        assert!(
            meta.high_water.checked_mul(u64::from(meta.page_size)).is_some_and(|n| n <= map.len() as u64),
            "a map of {} bytes for {} pages of {} bytes",
            map.len(),
            meta.high_water,
            meta.page_size
        );
        Self { meta, map, free_pages, pending_pages }
    }

    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    pub(crate) fn page_size(&self) -> usize {
        self.meta.page_size as usize
    }

    /// The bytes at a file offset. Whoever asks has learned the offset from a page reachable in this snapshot.
    ///
    /// # Panics
    /// If the range is outside the pages 2..high-water: callers pass ranges that were checked when the page was read.
    #[allow(unsafe_code)]
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let start = offset as usize;
        let end = start.checked_add(len).expect("range fits the address space");
        assert!(
            start >= 2 * self.page_size() && end <= self.meta.high_water as usize * self.page_size(),
            "bytes {start}..{end} are outside the pages of the snapshot"
        );
        // SAFETY: `new` made sure that the map covers the high-water mark and the file reaches as far (it is only
        // truncated below the marks of all registered readers), so the range is mapped and backed. The bytes are at
        // rest: only this process's single writer writes to the file (the file lock keeps other processes out), it
        // writes only to pages on its free list and to the two meta pages, which the assertion excludes. A page
        // reachable from this snapshot's root is on that list only after every transaction that was registered
        // with this snapshot (or an older one) has ended, and the slice cannot outlive `self`, which the
        // transaction holds. That no page was both reachable and free at the open is verified by a scan then.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(start), len) }
    }

    /// Asks the processor to fetch the first lines of a page: headers, elements, and where its own prefetching takes over.
    /// A hint: any id will do.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[allow(unsafe_code)]
    pub(crate) fn prefetch(&self, id: u64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let start = (id as usize).wrapping_mul(self.page_size());
        for line in 0..PREFETCHED_LINES {
            let address = self.map.as_ptr().wrapping_add(start.wrapping_add(line * CACHE_LINE));
            // SAFETY: prefetching an address neither reads it as a value nor faults, wherever it points.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
        }
    }

    /// Does nothing where there is no such instruction.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    pub(crate) fn prefetch(&self, _id: u64) {}

    /// The page with this id and its overflow pages, with the header checked against the snapshot's bounds.
    pub(crate) fn page(&self, id: u64) -> Result<Page<'_>> {
        let (header, size) = self.header(id)?;
        let base = id * self.page_size() as u64;
        Page::new(self.bytes(base, size), base, header)
    }

    /// The header of a page of any type, and its size in bytes with overflow; id and extent are checked.
    pub(crate) fn header(&self, id: u64) -> Result<(Header, usize)> {
        let high_water = self.meta.high_water;
        if id < 2 || id >= high_water {
            return Err(Error::corrupt(id, format!("page id outside 2..{high_water}")));
        }
        let base = id * self.page_size() as u64;
        let header = Header::decode(self.bytes(base, HEADER_SIZE));
        if header.id != id {
            return Err(Error::corrupt(id, format!("header carries page id {}", header.id)));
        }
        let pages = u64::from(header.overflow) + 1;
        if pages > high_water - id {
            return Err(Error::corrupt(id, format!("{pages} pages reach beyond the mark {high_water}")));
        }
        Ok((header, pages as usize * self.page_size()))
    }
}
