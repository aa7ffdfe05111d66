//! A page opened for change: sorted elements whose keys and values are [`Span`]s.

use crate::error::Result;
use crate::format::{ELEMENT_SIZE, HEADER_SIZE};
use crate::free_set::Run;
use crate::memory::{Memory, Span};
use crate::page::Page;
use crate::search::Keys;

/// Index of a node in its tree; [`NONE`] where there is none.
pub(crate) type NodeId = u32;
pub(crate) const NONE: NodeId = u32::MAX;

/// An element of a node, leaf or branch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode {
    pub(crate) key: Span,
    /// Leaf: the value. Branch: `position` is the child's page id.
    pub(crate) value: Span,
    /// Leaf element flags.
    pub(crate) flags: u32,
    /// Branch: the child's node, if it has been opened.
    pub(crate) child: NodeId,
}

impl Inode {
    pub(crate) fn leaf(key: Span, value: Span, flags: u32) -> Self {
        Self { key, value, flags, child: NONE }
    }

    pub(crate) fn branch(key: Span, page: u64) -> Self {
        Self { key, value: Span { position: page, len: 0 }, flags: 0, child: NONE }
    }

    /// Bytes it takes in a page.
    pub(crate) fn size(&self) -> usize {
        ELEMENT_SIZE + self.key.len as usize + self.value.len as usize
    }
}

/// An opened page.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) is_leaf: bool,
    /// The page it was read from; replaced (and freed) when the transaction commits.
    pub(crate) old: Option<Run>,
    /// Something was deleted: it may have to be merged with a sibling.
    pub(crate) unbalanced: bool,
    pub(crate) inodes: Vec<Inode>,
}

impl Node {
    pub(crate) fn empty_leaf() -> Self {
        Self { is_leaf: true, old: None, unbalanced: false, inodes: Vec::new() }
    }

    /// Opens a page. An inline image has no page of its own (`id` 0).
    pub(crate) fn open(page: &Page<'_>) -> Result<Self> {
        let mut inodes = Vec::with_capacity(page.len() + 1);
        for i in 0..page.len() {
            inodes.push(if page.is_leaf() {
                let e = page.leaf(i)?;
                Inode::leaf(Span::in_page(page, e.key), Span::in_page(page, e.value), e.flags)
            } else {
                Inode::branch(Span::in_page(page, page.key(i)?), page.child(i))
            });
        }
        let old = (page.id() != 0).then(|| Run { start: page.id(), len: page.pages() });
        Ok(Self { is_leaf: page.is_leaf(), old, unbalanced: false, inodes })
    }

    /// Bytes it takes as a page.
    pub(crate) fn size(&self) -> usize {
        HEADER_SIZE + self.inodes.iter().map(Inode::size).sum::<usize>()
    }

    pub(crate) fn keys<'a>(&'a self, memory: &'a Memory) -> NodeKeys<'a> {
        NodeKeys { inodes: &self.inodes, memory }
    }
}

/// The keys of a node.
#[derive(Clone, Copy)]
pub(crate) struct NodeKeys<'a> {
    inodes: &'a [Inode],
    memory: &'a Memory,
}

impl<'a> Keys<'a> for NodeKeys<'a> {
    #[inline]
    fn count(self) -> usize {
        self.inodes.len()
    }

    #[inline]
    fn key_at(self, i: usize) -> Result<&'a [u8]> {
        Ok(self.memory.bytes(self.inodes[i].key))
    }
}

/// Index of the child that may hold the key, from a search among a branch's keys.
pub(crate) fn child_index((index, exact): (usize, bool)) -> usize {
    if exact { index } else { index.saturating_sub(1) }
}
