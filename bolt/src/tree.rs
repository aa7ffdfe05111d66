//! One bucket's B+tree inside a write transaction: the pages opened for change, and what is done to them.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::format::{BUCKET_FLAG, HEADER_SIZE, u64_at};
use crate::free_set::Run;
use crate::memory::{Memory, Span};
use crate::node::{Inode, NONE, Node, NodeId, Spare, child_index};
use crate::page::Page;
use crate::search::Keys;

/// Deepest tree that is followed; a real one with two keys a page would need 2^64 leaves to be deeper.
pub(crate) const MAX_DEPTH: usize = 64;
/// How full a split leaves a page, unless the bucket says otherwise.
pub(crate) const DEFAULT_FILL_PERCENT: f64 = 0.5;
/// A node keeps at least this many elements when it is split.
const MIN_KEYS_PER_PAGE: usize = 2;
/// The element count of a page is 16 bits wide; only pages of 2 MiB and more come near it.
const MAX_KEYS_PER_PAGE: usize = 0xFFFE;

/// Where a bucket's tree begins, as its parent stores it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root {
    Page(u64),
    /// The bucket's value: header and leaf image.
    Inline(Span),
    /// Created in this transaction.
    New,
}

/// Where a key is, in opened nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// The branch above the leaf, if there is one, and the leaf's index in it.
    pub(crate) above: Option<(NodeId, usize)>,
    leaf: NodeId,
    /// First index in the leaf whose key is not below the one that was looked for, and whether it is equal.
    found: (usize, bool),
}

/// A bucket opened in a write transaction.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) name: Vec<u8>,
    pub(crate) root: Root,
    pub(crate) sequence: u64,
    /// The opened root, [`NONE`] before it is needed.
    pub(crate) root_node: NodeId,
    pub(crate) nodes: Vec<Node>,
    /// Opened buckets in this one: indices into the transaction's list of trees.
    pub(crate) children: BTreeMap<Vec<u8>, usize>,
    /// It differs from what the parent stores.
    pub(crate) dirty: bool,
    /// Some node is: the tree may have to be rebalanced.
    unbalanced: bool,
    pub(crate) fill_percent: f64,
    /// The rightmost leaf, when it is known: rising keys go straight to its end.
    rightmost: NodeId,
}

impl Tree {
    pub(crate) fn new(name: Vec<u8>, root: Root, sequence: u64) -> Self {
        Self {
            name,
            root,
            sequence,
            root_node: NONE,
            nodes: Vec::new(),
            children: BTreeMap::new(),
            dirty: matches!(root, Root::New),
            unbalanced: false,
            fill_percent: DEFAULT_FILL_PERCENT,
            rightmost: NONE,
        }
    }

    /// Opens the bucket stored in `value`.
    pub(crate) fn stored(name: Vec<u8>, value: Span, memory: &Memory) -> Result<Self> {
        let bytes = memory.bytes(value);
        let (root, sequence) = bucket_root(bytes)?;
        let root = if root == 0 { Root::Inline(value) } else { Root::Page(root) };
        Ok(Self::new(name, root, sequence))
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    /// Opens the root page.
    pub(crate) fn open_root(&mut self, memory: &mut Memory) -> Result<NodeId> {
        if self.root_node == NONE {
            let node = match self.root {
                Root::Page(id) => Node::open(&memory.snapshot.page(id)?, &mut memory.spare)?,
                Root::Inline(value) => {
                    Node { old: None, ..Node::open(&memory.inline_page(value)?, &mut Spare::default())? }
                }
                Root::New => Node::empty_leaf(),
            };
            self.root_node = self.add(node);
        }
        Ok(self.root_node)
    }

    /// Opens child `index` of a branch.
    pub(crate) fn open_child(&mut self, parent: NodeId, index: usize, memory: &mut Memory) -> Result<NodeId> {
        let inode = self.node(parent).inodes[index];
        if inode.child != NONE {
            return Ok(inode.child);
        }
        let page = memory.snapshot.page(inode.value.position)?;
        let node = Node::open(&page, &mut memory.spare)?;
        if node.inodes.is_empty() {
            return Err(page.fault("leaf page below a branch is empty"));
        }
        let id = self.add(node);
        self.node_mut(parent).inodes[index].child = id;
        Ok(id)
    }

    /// Opens the path to the leaf that holds or would hold `key`.
    pub(crate) fn open_path(&mut self, memory: &mut Memory, key: &[u8]) -> Result<Path> {
        let mut leaf = self.open_root(memory)?;
        let (mut above, mut bounds, mut rightmost) = (None, None, true);
        for _ in 0..MAX_DEPTH {
            let node = self.node(leaf);
            let keys = node.keys(memory);
            let found = keys.search_evenly(key, bounds)?;
            if node.is_leaf {
                if rightmost {
                    self.rightmost = leaf;
                }
                return Ok(Path { above, leaf, found });
            }
            let index = child_index(found);
            bounds = keys.bounds_of_child(index)?;
            rightmost &= index + 1 == node.inodes.len();
            above = Some((leaf, index));
            leaf = self.open_child(leaf, index, memory)?;
        }
        Err(too_deep(&self.root))
    }

    /// Puts an element whose key and value are in memory already.
    pub(crate) fn put(&mut self, memory: &mut Memory, key: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let leaf = self.rightmost;
        let appends =
            leaf != NONE && self.node(leaf).inodes.last().is_some_and(|last| memory.bytes(last.key) < key);
        if appends {
            let inode = store(memory, key, value, flags);
            self.node_mut(leaf).inodes.push(inode);
            self.dirty = true;
            return Ok(());
        }
        let Path { leaf, found: (index, exact), .. } = self.open_path(memory, key)?;
        if !exact {
            let inode = store(memory, key, value, flags);
            self.node_mut(leaf).inodes.insert(index, inode);
            self.dirty = true;
            return Ok(());
        }
        let found = self.node(leaf).inodes[index].flags;
        if (found ^ flags) & BUCKET_FLAG != 0 {
            return Err(incompatible(key, found));
        }
        let value = Span { position: memory.arena.push(&[value]), len: value.len() as u32 };
        self.node_mut(leaf).inodes[index].value = value;
        self.dirty = true;
        Ok(())
    }

    /// Removes a key of the given kind (bucket or not); whether it was there.
    pub(crate) fn remove(&mut self, memory: &mut Memory, key: &[u8], flags: u32) -> Result<bool> {
        let Path { leaf, found: (index, exact), .. } = self.open_path(memory, key)?;
        if !exact {
            return Ok(false);
        }
        let found = self.node(leaf).inodes[index].flags;
        if (found ^ flags) & BUCKET_FLAG != 0 {
            return Err(incompatible(key, found));
        }
        let node = self.node_mut(leaf);
        node.inodes.remove(index);
        node.unbalanced = true;
        (self.dirty, self.unbalanced) = (true, true);
        Ok(true)
    }

    /// Merges what deletions have left too small, from the leaves up. Pages that vanish go to `freed`.
    pub(crate) fn rebalance(&mut self, memory: &mut Memory, freed: &mut Vec<Run>) -> Result<()> {
        self.rightmost = NONE;
        if self.root_node == NONE || !self.unbalanced {
            return Ok(());
        }
        self.rebalance_below(self.root_node, memory, freed)?;
        // A root with one child is replaced by it; one without any becomes an empty leaf.
        while !self.node(self.root_node).is_leaf && self.node(self.root_node).unbalanced {
            match self.node(self.root_node).inodes.len() {
                0 => self.node_mut(self.root_node).is_leaf = true,
                1 => {
                    let child = self.open_child(self.root_node, 0, memory)?;
                    freed.extend(self.node(self.root_node).old);
                    self.root_node = child;
                    // The child may itself be a branch that was left with one child.
                    self.node_mut(child).unbalanced = true;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn rebalance_below(&mut self, at: NodeId, memory: &mut Memory, freed: &mut Vec<Run>) -> Result<()> {
        if self.node(at).is_leaf {
            return Ok(());
        }
        let opened: Vec<NodeId> =
            self.node(at).inodes.iter().map(|i| i.child).filter(|&c| c != NONE).collect();
        for child in opened {
            self.rebalance_below(child, memory, freed)?;
        }
        let mut index = 0;
        while index < self.node(at).inodes.len() {
            let child = self.node(at).inodes[index].child;
            if child == NONE || !self.underfilled(child, memory) {
                index += 1;
                continue;
            }
            if self.node(child).inodes.is_empty() {
                freed.extend(self.node(child).old);
                let parent = self.node_mut(at);
                parent.inodes.remove(index);
                parent.unbalanced = true;
                continue;
            }
            if self.node(at).inodes.len() == 1 {
                break;
            }
            let left = index.saturating_sub(1);
            self.merge(at, left, memory, freed)?;
            index = left;
            if !self.underfilled(self.node(at).inodes[left].child, memory) {
                index += 1;
            }
        }
        Ok(())
    }

    /// Appends child `left + 1` to child `left`.
    pub(crate) fn merge(
        &mut self,
        at: NodeId,
        left: usize,
        memory: &mut Memory,
        freed: &mut Vec<Run>,
    ) -> Result<()> {
        let target = self.open_child(at, left, memory)?;
        let source = self.open_child(at, left + 1, memory)?;
        let moved = std::mem::take(&mut self.node_mut(source).inodes);
        if self.node(target).is_leaf != self.node(source).is_leaf {
            let page = self.node(source).old.map_or(0, |run| run.start);
            return Err(Error::corrupt(page, "siblings are a leaf and a branch"));
        }
        freed.extend(self.node(source).old);
        let node = self.node_mut(target);
        node.inodes.extend(moved);
        node.unbalanced = true;
        self.unbalanced = true;
        let parent = self.node_mut(at);
        parent.inodes.remove(left + 1);
        parent.unbalanced = true;
        Ok(())
    }

    /// Under a quarter of a page, or with too few keys, after a deletion.
    fn underfilled(&self, id: NodeId, memory: &Memory) -> bool {
        let node = self.node(id);
        let min_keys = if node.is_leaf { 1 } else { MIN_KEYS_PER_PAGE };
        node.unbalanced && (node.inodes.len() < min_keys || node.size() <= memory.snapshot.page_size() / 4)
    }

    /// Whether it can be stored inside its parent's leaf, and the leaf's node then.
    pub(crate) fn inlineable(&self, page_size: usize) -> bool {
        let node = self.node(self.root_node);
        node.is_leaf && node.size() <= page_size / 4 && node.inodes.iter().all(|i| i.flags & BUCKET_FLAG == 0)
    }

    /// Lengths of the parts a node is split into.
    pub(crate) fn split(&self, inodes: &[Inode], page_size: usize) -> Vec<usize> {
        split(inodes.len(), |i| inodes[i].size(), page_size, self.fill_percent)
    }
}

/// Lengths of the parts into which so many elements are split, each filled up to `fill` of a page; a page that has
/// room for all of them is not split.
pub(crate) fn split(len: usize, size: impl Fn(usize) -> usize, page_size: usize, fill: f64) -> Vec<usize> {
    let threshold = (page_size as f64 * fill.clamp(0.1, 1.0)) as usize;
    let mut left = HEADER_SIZE + (0..len).map(&size).sum::<usize>();
    let mut parts = Vec::new();
    let mut start = 0;
    // A page that is exactly full stays whole: moving it must not make it two.
    while len - start > 2 * MIN_KEYS_PER_PAGE && (left > page_size || len - start > MAX_KEYS_PER_PAGE) {
        let mut part = HEADER_SIZE;
        let mut end = start;
        while end < len - MIN_KEYS_PER_PAGE {
            let full = part + size(end) > threshold || end - start == MAX_KEYS_PER_PAGE;
            if end - start >= MIN_KEYS_PER_PAGE && full {
                break;
            }
            part += size(end);
            end += 1;
        }
        parts.push(end - start);
        left -= part - HEADER_SIZE;
        start = end;
    }
    parts.push(len - start);
    parts
}

/// Copies key and value into the arena.
fn store(memory: &mut Memory, key: &[u8], value: &[u8], flags: u32) -> Inode {
    let position = memory.arena.push(&[key, value]);
    let key_span = Span { position, len: key.len() as u32 };
    let value = Span { position: position + key.len() as u64, len: value.len() as u32 };
    Inode::leaf(key_span, value, flags)
}

/// Root page (0: inline) and sequence of a stored bucket.
pub(crate) fn bucket_root(value: &[u8]) -> Result<(u64, u64)> {
    if value.len() < HEADER_SIZE {
        return Err(Error::corrupt(0, format!("bucket value of {} bytes has no header", value.len())));
    }
    Ok((u64_at(value, 0), u64_at(value, 8)))
}

pub(crate) fn incompatible(name: &[u8], found: u32) -> Error {
    let is_bucket = found & BUCKET_FLAG != 0;
    let (found, expected) = if is_bucket { ("a bucket", "a value") } else { ("a value", "a bucket") };
    Error::IncompatibleValue { name: name.to_vec(), found, expected }
}

pub(crate) fn too_deep(root: &Root) -> Error {
    let page = if let Root::Page(id) = root { *id } else { 0 };
    Error::corrupt(page, format!("the tree is deeper than {MAX_DEPTH} pages (a cycle?)"))
}

/// The page or opened node at which a walk begins.
pub(crate) fn root_page(memory: &Memory, root: Root) -> Result<Option<Page<'_>>> {
    match root {
        Root::Page(id) => memory.snapshot.page(id).map(Some),
        Root::Inline(value) => memory.inline_page(value).map(Some),
        Root::New => Ok(None),
    }
}
