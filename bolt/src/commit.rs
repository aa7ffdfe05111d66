//! Commit: merge, split and write what has changed, then the meta page.
//!
//! Order: data pages, sync, meta page, sync. Until the meta page is written the file is, for every reader, what it
//! was: the new pages are on free pages of the last commit.

use std::io::IoSlice;
use std::sync::Arc;

use crate::db::Writer;
use crate::error::{Error, Result};
use crate::format::{
    BUCKET_FLAG, ELEMENT_SIZE, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, HEADER_SIZE, Header, Meta, NO_FREELIST,
    bucket_header,
};
use crate::free_set::{FreeSet, Run};
use crate::map::Map;
use crate::memory::{KEPT, Memory, Span};
use crate::node::{Inode, NONE, NodeId};
use crate::open;
use crate::tree::{Root, Tree};
use crate::write::WriteTx;

/// Most bytes written by one call. Into a large write the kernel puts the largest blocks of memory that it has for its
/// cache, and where memory is not at hand those are the slowest to get: loading a file took up to twice the time.
const MAX_WRITE: usize = 256 << 10;

/// Hands out pages for one commit: the lowest free ones, then new ones at the end of the file.
#[derive(Debug)]
struct Allocator<'w> {
    free: &'w mut FreeSet,
    /// Free pages taken, to be given back if the commit fails.
    taken: Vec<Run>,
    high_water: u64,
}

impl Allocator<'_> {
    fn allocate(&mut self, len: u64) -> u64 {
        if let Some(run) = self.free.take(len) {
            self.taken.push(run);
            return run.start;
        }
        let start = self.high_water;
        self.high_water += len;
        start
    }

    /// Lowers the high-water mark over the free pages below it.
    fn trim(&mut self) {
        if let Some(run) = self.free.take_tail(self.high_water) {
            self.taken.push(run);
            self.high_water = run.start;
        }
    }
}

/// Pages built for one commit.
#[derive(Debug)]
struct Output<'w> {
    allocator: Allocator<'w>,
    page_size: usize,
    bytes: Vec<u8>,
    /// Runs of pages in `bytes`, with where each begins.
    pages: Vec<(Run, usize)>,
}

impl Output<'_> {
    /// Writes a node as a page and returns the page's id.
    fn write(&mut self, memory: &Memory, is_leaf: bool, inodes: &[Inode]) -> u64 {
        let size = HEADER_SIZE + inodes.iter().map(Inode::size).sum::<usize>();
        let pages = size.div_ceil(self.page_size);
        let id = self.allocator.allocate(pages as u64);
        let begin = self.bytes.len();
        self.pages.push((Run { start: id, len: pages as u64 }, begin));
        encode(&mut self.bytes, memory, is_leaf, inodes, id, pages as u32 - 1);
        self.bytes.resize(begin + pages * self.page_size, 0);
        id
    }
}

/// Appends a stored freelist at `place`: the ids of all pages in `runs`, which ascend.
fn encode_freelist(out: &mut Vec<u8>, place: Run, runs: &[Run], page_size: u32) {
    let begin = out.len();
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
    out.resize(begin + place.len as usize * page_size as usize, 0);
}

/// Appends a page image: header, elements, keys and values.
fn encode(out: &mut Vec<u8>, memory: &Memory, is_leaf: bool, inodes: &[Inode], id: u64, overflow: u32) {
    let flags = if is_leaf { FLAG_LEAF } else { FLAG_BRANCH };
    let count = u16::try_from(inodes.len()).expect("a split page has fewer than 65535 elements");
    out.extend_from_slice(&Header { id, flags, count, overflow }.encode());
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
    for inode in inodes {
        out.extend_from_slice(memory.bytes(inode.key));
        out.extend_from_slice(memory.bytes(inode.value));
    }
}

/// What the rest of a commit needs to know of the pages written.
struct Built {
    meta: Meta,
    pages: Vec<(Run, usize)>,
    taken: Vec<Run>,
}

impl WriteTx {
    /// Writes the changes durably and makes them visible to transactions that begin afterwards.
    ///
    /// # Errors
    /// [`Error::Io`]: before the meta page nothing has changed and later transactions may succeed (a full disk); a
    /// failed sync or meta write poisons the database. [`Error::Corrupt`], [`Error::Poisoned`].
    pub fn commit(mut self) -> Result<()> {
        self.commit_keeping()
    }

    /// The same, but the next write transaction waits until this one is dropped.
    pub(crate) fn commit_keeping(&mut self) -> Result<()> {
        let mut writer = self.writer.take().expect("a transaction has the writer until it ends");
        let result = self.commit_with(&mut writer);
        self.writer = Some(writer);
        result
    }

    fn commit_with(&mut self, writer: &mut Writer) -> Result<()> {
        let mut out = std::mem::take(&mut writer.out);
        let built = self.build(writer, &mut out);
        let result = built.and_then(|built| {
            let written = self.write(&built, &out);
            match &written {
                Ok(map) => self.finish(writer, &built, map.clone())?,
                Err(_) => give_back(&mut writer.freelist.free, &built.taken)?,
            }
            written.map(|_| ())
        });
        out.clear();
        out.shrink_to(KEPT);
        writer.out = out;
        result
    }

    /// Builds all pages; on an error the free pages are as before.
    fn build(&mut self, writer: &mut Writer, bytes: &mut Vec<u8>) -> Result<Built> {
        let mut meta = self.memory.snapshot.meta;
        meta.txid += 1;
        let allocator =
            Allocator { free: &mut writer.freelist.free, taken: Vec::new(), high_water: meta.high_water };
        let page_size = self.memory.snapshot.page_size();
        let mut output = Output { allocator, page_size, bytes: std::mem::take(bytes), pages: Vec::new() };
        let root = self.spill(0, &mut output);
        *bytes = std::mem::take(&mut output.bytes);
        let Output { allocator, pages, .. } = output;
        let Allocator { taken, high_water, .. } = allocator;
        let mut built = Built { meta, pages, taken };
        let root = match root {
            Ok(root) => root,
            Err(e) => {
                give_back(&mut writer.freelist.free, &built.taken)?;
                return Err(e);
            }
        };
        built.meta.high_water = high_water;
        built.meta.root = root;
        built.meta.sequence = self.trees[0].sequence;
        if let Err(e) = self.build_freelist(writer, bytes, &mut built) {
            give_back(&mut writer.freelist.free, &built.taken)?;
            return Err(e);
        }
        Ok(built)
    }

    /// Drops the stored freelist of the last commit and, where it is wanted, writes a new one.
    fn build_freelist(&mut self, writer: &mut Writer, bytes: &mut Vec<u8>, built: &mut Built) -> Result<()> {
        let old = self.memory.snapshot.meta.freelist;
        if old != NO_FREELIST {
            let (header, _) = self.memory.snapshot.header(old)?;
            self.freed.push(Run { start: old, len: u64::from(header.overflow) + 1 });
        }
        built.meta.freelist = NO_FREELIST;
        let freelist = &mut writer.freelist;
        let freed: u64 = self.freed.iter().map(|r| r.len).sum();
        // More than enough: the pages for the list are still counted as free here.
        let most = freelist.free.count() + freelist.pending_count() + freed;
        let mut allocator = Allocator {
            free: &mut freelist.free,
            taken: std::mem::take(&mut built.taken),
            high_water: built.meta.high_water,
        };
        let place = self.shared.options.sync_freelist.then(|| {
            let len = (HEADER_SIZE as u64 + 8 * (most + 1)).div_ceil(u64::from(built.meta.page_size));
            Run { start: allocator.allocate(len), len }
        });
        if self.trim {
            allocator.trim();
        }
        built.meta.high_water = allocator.high_water;
        built.taken = allocator.taken;
        let Some(place) = place else { return Ok(()) };
        built.meta.freelist = place.start;
        built.pages.push((place, bytes.len()));
        let mut runs: Vec<Run> = freelist.free.runs().chain(freelist.pending_runs()).collect();
        runs.extend(&self.freed);
        runs.sort_unstable();
        encode_freelist(bytes, place, &runs, built.meta.page_size);
        Ok(())
    }

    /// Writes one bucket's changed nodes, after those of the buckets in it; returns its root page.
    fn spill(&mut self, index: usize, out: &mut Output<'_>) -> Result<u64> {
        let children: Vec<(Vec<u8>, usize)> =
            self.trees[index].children.iter().map(|(name, &child)| (name.clone(), child)).collect();
        for (name, child) in children {
            if let Some(value) = self.spill_child(child, out)? {
                self.trees[index].put(&mut self.memory, &name, &value, BUCKET_FLAG)?;
            }
        }
        let tree = &mut self.trees[index];
        tree.rebalance(&self.memory, &mut self.freed)?;
        match tree.root {
            Root::Page(root) if !tree.dirty || tree.root_node == NONE => Ok(root),
            _ => {
                tree.open_root(&self.memory)?;
                spill_root(tree, &self.memory, &mut self.freed, out)
            }
        }
    }

    /// The value that a changed nested bucket has in its parent; `None` if it has not changed.
    fn spill_child(&mut self, index: usize, out: &mut Output<'_>) -> Result<Option<Vec<u8>>> {
        // What its own children write into it can make it change, and inline buckets have no children.
        if !self.trees[index].dirty && self.trees[index].children.is_empty() {
            return Ok(None);
        }
        if self.trees[index].children.is_empty() {
            let tree = &mut self.trees[index];
            tree.rebalance(&self.memory, &mut self.freed)?;
            if !matches!(tree.root, Root::Page(_)) || tree.root_node != NONE {
                tree.open_root(&self.memory)?;
            }
            if tree.root_node != NONE && tree.inlineable(self.memory.snapshot.page_size()) {
                let node = tree.node(tree.root_node);
                self.freed.extend(node.old);
                let mut value = bucket_header(0, tree.sequence).to_vec();
                encode(&mut value, &self.memory, true, &node.inodes, 0, 0);
                return Ok(Some(value));
            }
        }
        let root = self.spill(index, out)?;
        let tree = &self.trees[index];
        Ok(tree.dirty.then(|| bucket_header(root, tree.sequence).to_vec()))
    }

    /// Grows the file, writes the pages, syncs, writes the meta page, syncs. Returns the map for the new state.
    fn write(&self, built: &Built, bytes: &[u8]) -> Result<Arc<Map>> {
        let shared = &self.shared;
        let file = &shared.file;
        let (meta, page_size) = (built.meta, u64::from(built.meta.page_size));
        let mut map = self.memory.snapshot.map().clone();
        if meta.high_water > self.memory.snapshot.meta.high_water {
            let needed = (meta.high_water + 1) * page_size;
            if needed > map.len() as u64 {
                let len = usize::try_from(open::map_size(needed)).expect("64-bit sizes");
                map = Arc::new(map.longer(&**file, len).map_err(|e| shared.io("map", e))?);
            }
            if file.len().map_err(|e| shared.io("get the length of", e))? < needed {
                file.set_len(open::file_size(needed)).map_err(|e| shared.io("grow", e))?;
            }
        }
        self.write_pages(built, bytes, &map)?;
        #[cfg(feature = "mutants")]
        let pages_first = !crate::mutant::active(crate::mutant::Mutant::MetaBeforePages);
        #[cfg(not(feature = "mutants"))]
        let pages_first = true;
        if pages_first {
            self.sync()?;
        }
        let slot = meta.txid % 2;
        if let Err(e) = file.write_all_at(&meta.encode(slot), slot * page_size) {
            shared.poison();
            return Err(shared.io("write the meta page of", e));
        }
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::MetaNotSynced) {
            return Ok(map);
        }
        self.sync()?;
        Ok(map)
    }

    /// Writes the pages in the order of the file, neighbours in one call.
    fn write_pages(&self, built: &Built, bytes: &[u8], map: &Map) -> Result<()> {
        let page_size = u64::from(built.meta.page_size);
        let mut pages = built.pages.clone();
        pages.sort_unstable_by_key(|(run, _)| run.start);
        let write = |slices: &[IoSlice<'_>], offset: u64| -> Result<()> {
            if !slices.is_empty() {
                self.shared.file.write_vectored_at(slices, offset).map_err(|e| self.shared.io("write", e))?;
                map.written(slices, offset);
            }
            Ok(())
        };
        let (mut slices, mut start, mut end) = (Vec::new(), 0, 0);
        for (run, begin) in pages {
            let mut offset = run.start * page_size;
            for part in bytes[begin..begin + (run.len * page_size) as usize].chunks(MAX_WRITE) {
                if offset != end || end - start + part.len() as u64 > MAX_WRITE as u64 {
                    write(&slices, start)?;
                    slices.clear();
                    start = offset;
                }
                slices.push(IoSlice::new(part));
                offset += part.len() as u64;
                end = offset;
            }
        }
        write(&slices, start)
    }

    fn sync(&self) -> Result<()> {
        if self.shared.options.no_sync {
            return Ok(());
        }
        self.shared.file.sync_data().map_err(|e| {
            self.shared.poison();
            self.shared.io("sync", e)
        })
    }

    /// Accounts for the pages and shows the commit to new transactions.
    fn finish(&mut self, writer: &mut Writer, built: &Built, map: Arc<Map>) -> Result<()> {
        let written = built.pages.iter().map(|(run, _)| run.start);
        let oldest = self.shared.readers().first().copied();
        writer.freelist.commit(built.meta.txid, &self.freed, written, oldest);
        writer.older_mark = self.memory.snapshot.meta.high_water;
        writer.cut |= built.meta.high_water < writer.older_mark;
        let freelist = &writer.freelist;
        self.shared.publish(built.meta, map, freelist.free.count(), freelist.pending_count());
        Ok(())
    }
}

/// Takes back what a failed commit had allocated.
fn give_back(free: &mut FreeSet, taken: &[Run]) -> Result<()> {
    taken.iter().try_for_each(|&run| free.insert(run))
}

/// Writes the opened nodes of a tree and returns its root page.
fn spill_root(tree: &mut Tree, memory: &Memory, freed: &mut Vec<Run>, out: &mut Output<'_>) -> Result<u64> {
    let mut level = spill_node(tree, tree.root_node, memory, freed, out)?;
    while level.len() > 1 {
        level = write_parts(tree, false, &level, memory, out);
    }
    Ok(level[0].value.position)
}

/// Writes a node and the opened ones below it; returns the branch elements that point to the pages written.
fn spill_node(
    tree: &mut Tree,
    id: NodeId,
    memory: &Memory,
    freed: &mut Vec<Run>,
    out: &mut Output<'_>,
) -> Result<Vec<Inode>> {
    let node = &mut tree.nodes[id as usize];
    freed.extend(node.old.take());
    let is_leaf = node.is_leaf;
    let mut inodes = std::mem::take(&mut node.inodes);
    if !is_leaf {
        let mut written = Vec::with_capacity(inodes.len());
        for inode in inodes {
            if inode.child == NONE {
                written.push(inode);
            } else {
                written.extend(spill_node(tree, inode.child, memory, freed, out)?);
            }
        }
        inodes = written;
    }
    if !is_leaf && inodes.is_empty() {
        return Err(Error::corrupt(0, "a branch has lost all its children"));
    }
    Ok(write_parts(tree, is_leaf, &inodes, memory, out))
}

fn write_parts(
    tree: &Tree,
    is_leaf: bool,
    inodes: &[Inode],
    memory: &Memory,
    out: &mut Output<'_>,
) -> Vec<Inode> {
    let mut rest = inodes;
    let mut written = Vec::new();
    for len in tree.split(inodes, out.page_size) {
        let (part, after) = rest.split_at(len);
        let key = part.first().map_or(Span::default(), |inode| inode.key);
        written.push(Inode::branch(key, out.write(memory, is_leaf, part)));
        rest = after;
    }
    written
}
