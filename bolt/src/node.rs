//! A page opened for change: sorted elements whose keys and values are [`Span`]s.

use crate::error::Result;
use crate::format::{ELEMENT_SIZE, HEADER_SIZE};
use crate::free_set::Run;
use crate::memory::{KEPT, Memory, Span};
use crate::page::Page;
use crate::search::Keys;

/// Index of a node in its tree; [`NONE`] where there is none.
pub(crate) type NodeId = u32;
pub(crate) const NONE: NodeId = u32::MAX;
/// Longest list of elements that is kept for other nodes: a page of 4 KiB has fewer.
const KEPT_ROOM: usize = 256;

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

    /// Opens a page, its elements in a list of `spare`. An inline image has no page of its own (`id` 0).
    pub(crate) fn open(page: &Page<'_>, spare: &mut Spare) -> Result<Self> {
        let mut inodes = spare.take(page.is_leaf(), page.len() + 1);
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

/// Lists of elements that earlier nodes have left: a transaction of many small changes opens as many nodes as it makes
/// changes, and the memory allocator would get and give back a list for each of them.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    leaves: Vec<Vec<Inode>>,
    branches: Vec<Vec<Inode>>,
    /// Elements that the lists have room for.
    room: usize,
}

impl Spare {
    /// An empty list with room for so many elements.
    pub(crate) fn take(&mut self, is_leaf: bool, len: usize) -> Vec<Inode> {
        let Some(mut list) = self.lists(is_leaf).pop() else { return Vec::with_capacity(len) };
        self.room -= list.capacity();
        list.reserve(len);
        list
    }

    /// Keeps a list, unless it is long (bulk loads make such) or many are kept already.
    pub(crate) fn give(&mut self, is_leaf: bool, mut list: Vec<Inode>) {
        let room = self.room + list.capacity();
        if list.capacity() <= KEPT_ROOM && room * size_of::<Inode>() <= KEPT {
            list.clear();
            self.room = room;
            self.lists(is_leaf).push(list);
        }
    }

    fn lists(&mut self, is_leaf: bool) -> &mut Vec<Vec<Inode>> {
        if is_leaf { &mut self.leaves } else { &mut self.branches }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_lists_come_back_empty_and_are_bounded() {
        let inode = Inode::branch(Span::default(), 7);
        let mut spare = Spare::default();
        spare.give(true, vec![inode; 5]);
        spare.give(false, vec![inode; KEPT_ROOM + 1]);
        assert_eq!((spare.leaves.len(), spare.branches.len(), spare.room), (1, 0, 5));
        let list = spare.take(true, 9);
        assert!(list.is_empty() && list.capacity() >= 9 && spare.room == 0);
        for _ in 0..2 * KEPT / size_of::<Inode>() / KEPT_ROOM {
            spare.give(false, Vec::with_capacity(KEPT_ROOM));
        }
        assert!(spare.room * size_of::<Inode>() <= KEPT, "{} elements", spare.room);
        assert!(spare.room * size_of::<Inode>() > KEPT / 2, "{} elements", spare.room);
    }
}
