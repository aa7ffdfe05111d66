//! Commit: merge, split and write what has changed, then the meta page.
//!
//! Order: data pages, sync, meta page, sync. Until the meta page is written the file is, for every reader, what it
//! was: the new pages are on free pages of the last commit.

use std::sync::Arc;

use crate::db::Writer;
use crate::error::{Error, Result};
use crate::format::{BUCKET_FLAG, HEADER_SIZE, Meta, NO_FREELIST, bucket_header};
use crate::free_set::Run;
use crate::map::Map;
use crate::memory::{Memory, Span};
use crate::node::{Inode, NONE, NodeId};
use crate::output::{Output, encode};
use crate::tree::{Root, Tree};
use crate::write::WriteTx;

/// What the header of an inline bucket's image says of its place.
const INLINE: Run = Run { start: 0, len: 1 };

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
        let shared = Arc::clone(&self.shared);
        let buffer = std::mem::take(&mut writer.buffer);
        let mut out = Output::new(&shared, &self.memory.snapshot, &mut writer.freelist, buffer);
        let written = self.write(&mut out);
        if written.is_err() {
            out.give_back()?;
        }
        let (pages, map, buffer) = out.into_parts();
        writer.buffer = buffer;
        self.finish(writer, written?, pages, map);
        Ok(())
    }

    /// All that is done to the file.
    fn write(&mut self, out: &mut Output<'_>) -> Result<Meta> {
        let mut meta = self.memory.snapshot.meta;
        meta.txid += 1;
        meta.root = self.spill(0, out)?;
        meta.sequence = self.trees[0].sequence;
        meta.freelist = self.write_freelist(out)?;
        meta.high_water = out.high_water();
        out.finish()?;
        self.seal(&meta)?;
        Ok(meta)
    }

    /// Drops the stored freelist of the last commit and, where it is wanted, writes a new one; returns its page.
    fn write_freelist(&mut self, out: &mut Output<'_>) -> Result<u64> {
        let old = self.memory.snapshot.meta.freelist;
        if old != NO_FREELIST {
            let (header, _) = self.memory.snapshot.header(old)?;
            self.freed.push(Run { start: old, len: u64::from(header.overflow) + 1 });
        }
        let freed: u64 = self.freed.iter().map(|r| r.len).sum();
        // More than enough: the pages for the list are still counted as free here.
        let most = out.freelist.free.count() + out.freelist.pending_count() + freed;
        let place = self.shared.options.sync_freelist.then(|| {
            let len = (HEADER_SIZE as u64 + 8 * (most + 1)).div_ceil(out.page_size() as u64);
            out.allocate(len)
        });
        if self.trim {
            out.trim();
        }
        let Some(place) = place else { return Ok(NO_FREELIST) };
        let mut runs: Vec<Run> = out.freelist.free.runs().chain(out.freelist.pending_runs()).collect();
        runs.extend(&self.freed);
        runs.sort_unstable();
        out.stored_freelist(place, &runs)?;
        Ok(place.start)
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
        tree.rebalance(&mut self.memory, &mut self.freed)?;
        match tree.root {
            Root::Page(root) if !tree.dirty || tree.root_node == NONE => Ok(root),
            _ => {
                tree.open_root(&mut self.memory)?;
                spill_root(tree, &mut self.memory, &mut self.freed, out)
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
            tree.rebalance(&mut self.memory, &mut self.freed)?;
            if !matches!(tree.root, Root::Page(_)) || tree.root_node != NONE {
                tree.open_root(&mut self.memory)?;
            }
            if tree.root_node != NONE && tree.inlineable(self.memory.snapshot.page_size()) {
                let node = tree.node(tree.root_node);
                self.freed.extend(node.old);
                let mut value = bucket_header(0, tree.sequence).to_vec();
                encode(&mut value, &self.memory, true, &node.inodes, INLINE);
                return Ok(Some(value));
            }
        }
        let root = self.spill(index, out)?;
        let tree = &self.trees[index];
        Ok(tree.dirty.then(|| bucket_header(root, tree.sequence).to_vec()))
    }

    /// Makes the pages durable, and then the meta page that names them.
    fn seal(&self, meta: &Meta) -> Result<()> {
        let shared = &self.shared;
        #[cfg(feature = "mutants")]
        let pages_first = !crate::mutant::active(crate::mutant::Mutant::MetaBeforePages);
        #[cfg(not(feature = "mutants"))]
        let pages_first = true;
        if pages_first {
            self.sync()?;
        }
        let slot = meta.txid % 2;
        if let Err(e) = shared.file.write_all_at(&meta.encode(slot), slot * u64::from(meta.page_size)) {
            shared.poison();
            return Err(shared.io("write the meta page of", e));
        }
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::MetaNotSynced) {
            return Ok(());
        }
        self.sync()
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
    fn finish(&self, writer: &mut Writer, meta: Meta, pages: Vec<u64>, map: Arc<Map>) {
        let oldest = self.shared.readers().first().copied();
        writer.freelist.commit(meta.txid, &self.freed, pages, oldest);
        writer.older_mark = self.memory.snapshot.meta.high_water;
        writer.cut |= meta.high_water < writer.older_mark;
        let freelist = &writer.freelist;
        self.shared.publish(meta, map, freelist.free.count(), freelist.pending_count());
    }
}

/// Writes the opened nodes of a tree and returns its root page.
fn spill_root(
    tree: &mut Tree,
    memory: &mut Memory,
    freed: &mut Vec<Run>,
    out: &mut Output<'_>,
) -> Result<u64> {
    let mut level = Vec::new();
    spill_node(tree, tree.root_node, memory, freed, out, &mut level)?;
    while level.len() > 1 {
        let mut above = Vec::new();
        write_parts(tree, false, &level, memory, out, &mut above)?;
        level = above;
    }
    Ok(level[0].value.position)
}

/// Writes a node and the opened ones below it; adds the branch elements that point to the pages written to `above`.
fn spill_node(
    tree: &mut Tree,
    id: NodeId,
    memory: &mut Memory,
    freed: &mut Vec<Run>,
    out: &mut Output<'_>,
    above: &mut Vec<Inode>,
) -> Result<()> {
    let node = &mut tree.nodes[id as usize];
    freed.extend(node.old.take());
    let is_leaf = node.is_leaf;
    let mut inodes = std::mem::take(&mut node.inodes);
    if !is_leaf {
        let mut written = memory.spare.take(is_leaf, inodes.len() + 1);
        let mut unopened = 0;
        for (i, inode) in inodes.iter().enumerate().filter(|(_, inode)| inode.child != NONE) {
            written.extend_from_slice(&inodes[unopened..i]);
            spill_node(tree, inode.child, memory, freed, out, &mut written)?;
            unopened = i + 1;
        }
        written.extend_from_slice(&inodes[unopened..]);
        memory.spare.give(is_leaf, std::mem::replace(&mut inodes, written));
    }
    if !is_leaf && inodes.is_empty() {
        return Err(Error::corrupt(0, "a branch has lost all its children"));
    }
    write_parts(tree, is_leaf, &inodes, memory, out, above)?;
    memory.spare.give(is_leaf, inodes);
    Ok(())
}

/// Writes the elements of a node, in as many pages as they need.
fn write_parts(
    tree: &Tree,
    is_leaf: bool,
    inodes: &[Inode],
    memory: &Memory,
    out: &mut Output<'_>,
    above: &mut Vec<Inode>,
) -> Result<()> {
    let mut rest = inodes;
    for len in tree.split(inodes, out.page_size()) {
        let (part, after) = rest.split_at(len);
        let key = part.first().map_or(Span::default(), |inode| inode.key);
        above.push(Inode::branch(key, out.node(memory, is_leaf, part)?));
        rest = after;
    }
    Ok(())
}
