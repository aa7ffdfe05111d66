//! The pages of one commit: which they are, what they look like, and writing them while others are still being built.
//!
//! Only free pages are written to, so that nobody sees anything of this before a meta page names it. When that happens
//! is decided in [`crate::commit`].

use std::io::IoSlice;
use std::sync::Arc;

use crate::db::Shared;
use crate::error::Result;
use crate::format::{ELEMENT_SIZE, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, HEADER_SIZE, Header};
use crate::free_set::Run;
use crate::freelist::Freelist;
use crate::map::Map;
use crate::memory::{KEPT, Memory, Span};
use crate::node::Inode;
use crate::open;
use crate::snapshot::Snapshot;

/// Bytes of pages that are collected before they are written, and most bytes written by one call: few enough to be in the
/// processor's cache still when they are written. And into a large write the kernel puts the largest blocks of memory that
/// it has for its cache; where memory is not at hand those are the slowest to get.
const MAX_WRITE: usize = 256 << 10;

/// Pages built for one commit.
#[derive(Debug)]
pub(crate) struct Output<'w> {
    shared: &'w Shared,
    pub(crate) freelist: &'w mut Freelist,
    page_size: usize,
    /// Free pages taken, to be given back if the commit fails.
    taken: Vec<Run>,
    high_water: u64,
    /// The mark of the commit before: file and map reach as far.
    old_high_water: u64,
    map: Arc<Map>,
    /// Pages that are not written yet.
    buffer: Vec<u8>,
    /// Runs of pages in `buffer`, with where each begins.
    pages: Vec<(Run, usize)>,
    /// First page of each run of this commit.
    starts: Vec<u64>,
}

impl<'w> Output<'w> {
    /// For the commit that follows `snapshot`; `buffer` is empty, and comes back from [`Self::into_parts`].
    pub(crate) fn new(
        shared: &'w Shared,
        snapshot: &Snapshot,
        freelist: &'w mut Freelist,
        buffer: Vec<u8>,
    ) -> Self {
        Self {
            shared,
            freelist,
            page_size: snapshot.page_size(),
            taken: Vec::new(),
            high_water: snapshot.meta.high_water,
            old_high_water: snapshot.meta.high_water,
            map: Arc::clone(snapshot.map()),
            buffer,
            pages: Vec::new(),
            starts: Vec::new(),
        }
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Takes neighbouring pages: the lowest free ones, or new ones at the end of the file.
    pub(crate) fn allocate(&mut self, len: u64) -> Run {
        if let Some(run) = self.freelist.free.take(len) {
            self.taken.push(run);
            return run;
        }
        let start = self.high_water;
        self.high_water += len;
        Run { start, len }
    }

    /// Lowers the high-water mark over the free pages below it.
    pub(crate) fn trim(&mut self) {
        if let Some(run) = self.freelist.free.take_tail(self.high_water) {
            self.taken.push(run);
            self.high_water = run.start;
        }
    }

    /// Writes elements as a page and returns the page's id.
    pub(crate) fn node(&mut self, memory: &Memory, is_leaf: bool, inodes: &[Inode]) -> Result<u64> {
        let size = HEADER_SIZE + inodes.iter().map(Inode::size).sum::<usize>();
        let place = self.allocate(size.div_ceil(self.page_size) as u64);
        let begin = self.buffer.len();
        encode(&mut self.buffer, memory, is_leaf, inodes, place);
        self.end_page(place, begin)?;
        Ok(place.start)
    }

    /// Writes a stored freelist at `place`: the ids of all pages in `runs`, which ascend.
    pub(crate) fn stored_freelist(&mut self, place: Run, runs: &[Run]) -> Result<()> {
        let begin = self.buffer.len();
        encode_freelist(&mut self.buffer, place, runs);
        self.end_page(place, begin)
    }

    /// Pads what was put into the buffer to whole pages.
    fn end_page(&mut self, place: Run, begin: usize) -> Result<()> {
        self.buffer.resize(begin + place.len as usize * self.page_size, 0);
        self.pages.push((place, begin));
        self.starts.push(place.start);
        if self.buffer.len() >= MAX_WRITE { self.flush() } else { Ok(()) }
    }

    /// Writes the pages in the buffer in the order of the file, neighbours in one call.
    fn flush(&mut self) -> Result<()> {
        self.pages.sort_unstable_by_key(|(run, _)| run.start);
        let (mut slices, mut start, mut end) = (Vec::new(), 0, 0);
        for &(run, begin) in &self.pages {
            let mut offset = run.start * self.page_size as u64;
            let bytes = &self.buffer[begin..begin + run.len as usize * self.page_size];
            for part in bytes.chunks(MAX_WRITE) {
                if offset != end || end - start + part.len() as u64 > MAX_WRITE as u64 {
                    self.write(&slices, start)?;
                    slices.clear();
                    start = offset;
                }
                slices.push(IoSlice::new(part));
                offset += part.len() as u64;
                end = offset;
            }
        }
        self.write(&slices, start)?;
        self.pages.clear();
        self.buffer.clear();
        Ok(())
    }

    fn write(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<()> {
        if !slices.is_empty() {
            self.shared.file.write_vectored_at(slices, offset).map_err(|e| self.shared.io("write", e))?;
            self.map.written(slices, offset);
        }
        Ok(())
    }

    /// Writes what is left in the buffer, and makes file and map reach the mark with room to grow.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        if self.high_water <= self.old_high_water {
            return Ok(());
        }
        let (shared, file) = (self.shared, &self.shared.file);
        let needed = (self.high_water + 1) * self.page_size as u64;
        if needed > self.map.len() as u64 {
            let len = usize::try_from(open::map_size(needed)).expect("64-bit sizes");
            self.map = Arc::new(self.map.longer(&**file, len).map_err(|e| shared.io("map", e))?);
        }
        if file.len().map_err(|e| shared.io("get the length of", e))? < needed {
            file.set_len(open::file_size(needed)).map_err(|e| shared.io("grow", e))?;
        }
        Ok(())
    }

    /// After a failure: the free pages are again what they were.
    pub(crate) fn give_back(&mut self) -> Result<()> {
        self.taken.drain(..).try_for_each(|run| self.freelist.free.insert(run))
    }

    /// The first pages of the runs that were written, the map that reaches them, and the buffer, empty.
    pub(crate) fn into_parts(self) -> (Vec<u64>, Arc<Map>, Vec<u8>) {
        let mut buffer = self.buffer;
        buffer.clear();
        buffer.shrink_to(KEPT);
        (self.starts, self.map, buffer)
    }
}

/// Appends a stored freelist.
fn encode_freelist(out: &mut Vec<u8>, place: Run, runs: &[Run]) {
    let count: u64 = runs.iter().map(|r| r.len).sum();
    let short = u16::try_from(count).ok().filter(|&c| c < u16::MAX);
    let header = Header {
        id: place.start,
        flags: FLAG_FREELIST,
        count: short.unwrap_or(u16::MAX),
        overflow: place.len as u32 - 1,
    };
    out.extend_from_slice(&header.encode());
    if short.is_none() {
        out.extend_from_slice(&count.to_le_bytes());
    }
    for id in runs.iter().flat_map(|r| r.start..r.end()) {
        out.extend_from_slice(&id.to_le_bytes());
    }
}

/// Appends the image of a page at `place`: header, elements, keys and values.
pub(crate) fn encode(out: &mut Vec<u8>, memory: &Memory, is_leaf: bool, inodes: &[Inode], place: Run) {
    let flags = if is_leaf { FLAG_LEAF } else { FLAG_BRANCH };
    let count = u16::try_from(inodes.len()).expect("a split page has fewer than 65535 elements");
    out.extend_from_slice(&Header { id: place.start, flags, count, overflow: place.len as u32 - 1 }.encode());
    let mut data = inodes.len() * ELEMENT_SIZE;
    for (i, inode) in inodes.iter().enumerate() {
        let position = ((data - i * ELEMENT_SIZE) as u32).to_le_bytes();
        let key_len = inode.key.len.to_le_bytes();
        let mut element = [0; ELEMENT_SIZE];
        if is_leaf {
            element[..4].copy_from_slice(&inode.flags.to_le_bytes());
            element[4..8].copy_from_slice(&position);
            element[8..12].copy_from_slice(&key_len);
            element[12..].copy_from_slice(&inode.value.len.to_le_bytes());
        } else {
            element[..4].copy_from_slice(&position);
            element[4..8].copy_from_slice(&key_len);
            element[8..].copy_from_slice(&inode.value.position.to_le_bytes());
        }
        out.extend_from_slice(&element);
        data += inode.size() - ELEMENT_SIZE;
    }
    // What lies together is copied in one piece: most of a page is as it was.
    let mut piece = Span::default();
    for span in inodes.iter().flat_map(|inode| [inode.key, inode.value]).filter(|span| span.len > 0) {
        match piece.len.checked_add(span.len) {
            Some(len) if piece.position + u64::from(piece.len) == span.position => piece.len = len,
            _ => {
                out.extend_from_slice(memory.bytes(piece));
                piece = span;
            }
        }
    }
    out.extend_from_slice(memory.bytes(piece));
}
