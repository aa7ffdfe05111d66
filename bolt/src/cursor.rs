//! Reading a bucket: lookup, cursor and range iterator over pages and opened nodes alike.

use std::ops::{Bound, RangeBounds};

use crate::error::{Error, Result};
use crate::finder::Finder;
use crate::format::{BUCKET_FLAG, ELEMENT_SIZE};
use crate::free_set::Run;
use crate::memory::{Memory, Span};
use crate::node::{NONE, Node, child_index};
use crate::page::Page;
use crate::search::{Bounds, Keys};
use crate::tree::{MAX_DEPTH, Root, Tree, bucket_root, incompatible, root_page, too_deep};

/// A page, or a node that this transaction has opened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Page(Page<'a>),
    Node(&'a Node, &'a Tree),
}

/// A bucket seen read-only. Keys and values borrow from the transaction.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    memory: &'a Memory,
    trees: &'a [Tree],
    root: Root,
    tree: Option<&'a Tree>,
    sequence: u64,
}

/// An entry of a bucket: the value, or `None` where the key names a nested bucket.
pub type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

/// A leaf element with its flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) flags: u32,
    pub(crate) key: &'a [u8],
    pub(crate) value: Span,
}

/// The leaf where a key stands or would stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf<'a> {
    source: Source<'a>,
    /// First index whose key is not below the key.
    index: usize,
    /// Whether that is the key.
    exact: bool,
}

impl<'a> Bucket<'a> {
    /// A bucket that no write transaction has opened.
    pub(crate) fn stored(memory: &'a Memory, root: Root, sequence: u64) -> Self {
        Self { memory, trees: &[], root, tree: None, sequence }
    }

    pub(crate) fn opened(memory: &'a Memory, trees: &'a [Tree], tree: &'a Tree) -> Self {
        Self { memory, trees, root: tree.root, tree: Some(tree), sequence: tree.sequence }
    }

    /// The value of a key; `None` if there is none or it names a bucket.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn get(&self, key: &[u8]) -> Result<Option<&'a [u8]>> {
        self.leaf_of(key)?.map_or(Ok(None), |leaf| self.value_at(leaf))
    }

    /// For many lookups of keys that often stand near each other.
    #[must_use]
    pub fn finder(&self) -> Finder<'a> {
        Finder::new(*self)
    }

    /// The nested bucket of that name.
    ///
    /// # Errors
    /// [`Error::IncompatibleValue`] if the name is that of a value, [`Error::Corrupt`].
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'a>>> {
        if let Some(&index) = self.tree.and_then(|t| t.children.get(name)) {
            return Ok(Some(Bucket::opened(self.memory, self.trees, &self.trees[index])));
        }
        let Some(element) = self.find(name)? else { return Ok(None) };
        if element.flags & BUCKET_FLAG == 0 {
            return Err(incompatible(name, element.flags));
        }
        let (root, sequence) = bucket_root(self.memory.bytes(element.value))?;
        let root = if root == 0 { Root::Inline(element.value) } else { Root::Page(root) };
        Ok(Some(Bucket { memory: self.memory, trees: self.trees, root, tree: None, sequence }))
    }

    pub(crate) fn root(&self) -> Root {
        self.root
    }

    /// Its sequence number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Page of its root; 0 for one stored inside its parent or not stored yet.
    #[must_use]
    pub fn root_page(&self) -> u64 {
        if let Root::Page(id) = self.root { id } else { 0 }
    }

    /// A cursor that stands nowhere yet.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'a> {
        Cursor { bucket: *self, stack: Vec::new() }
    }

    /// All entries in key order.
    #[must_use]
    pub fn iter(&self) -> Range<'a> {
        self.range::<&[u8], _>(..)
    }

    /// The entries with keys in `range`, in key order.
    #[must_use]
    pub fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(&self, range: R) -> Range<'a> {
        let owned = |bound: Bound<&K>| bound.map(|k| k.as_ref().to_vec());
        Range {
            cursor: self.cursor(),
            start: Some(owned(range.start_bound())),
            end: owned(range.end_bound()),
            done: false,
        }
    }

    /// Flags and value of a key, whatever it is.
    pub(crate) fn element(&self, key: &[u8]) -> Result<Option<(u32, Span)>> {
        Ok(self.find(key)?.map(|e| (e.flags, e.value)))
    }

    /// Where a walk begins; `None` in a bucket that was created empty.
    pub(crate) fn source(&self) -> Result<Option<Source<'a>>> {
        match self.tree {
            Some(tree) if tree.root_node != NONE => Ok(Some(Source::Node(tree.node(tree.root_node), tree))),
            _ => Ok(root_page(self.memory, self.root)?.map(Source::Page)),
        }
    }

    /// The element of that key.
    fn find(&self, key: &[u8]) -> Result<Option<Element<'a>>> {
        self.leaf_of(key)?.map_or(Ok(None), |leaf| self.element_at(leaf))
    }

    /// Where a key stands or would stand; `None` in a bucket that was created empty.
    pub(crate) fn leaf_of(&self, key: &[u8]) -> Result<Option<Leaf<'a>>> {
        let Some(mut source) = self.source()? else { return Ok(None) };
        let mut bounds = None;
        for _ in 0..MAX_DEPTH {
            let found = match source {
                Source::Page(page) => page.search_evenly(key, bounds)?,
                Source::Node(node, _) => node.keys(self.memory).search_evenly(key, bounds)?,
            };
            if source.is_leaf() {
                return Ok(Some(Leaf { source, index: found.0, exact: found.1 }));
            }
            let index = child_index(found);
            bounds = source.bounds_of_child(self.memory, index)?;
            source = source.child(self.memory, index)?;
        }
        Err(too_deep(&self.root))
    }

    /// Where a key stands in a leaf that another key was looked for in; `None` if it may be in another leaf.
    #[inline]
    pub(crate) fn near(&self, leaf: Leaf<'a>, key: &[u8]) -> Result<Option<Leaf<'a>>> {
        let (memory, source) = (self.memory, leaf.source);
        let len = source.len();
        let next = leaf.index + 1;
        if next < len && source.key(memory, next)? == key {
            return Ok(Some(Leaf { source, index: next, exact: true }));
        }
        if len == 0 || key < source.key(memory, 0)? || key > source.key(memory, len - 1)? {
            return Ok(None);
        }
        let (index, exact) = source.search(memory, key)?;
        Ok(Some(Leaf { source, index, exact }))
    }

    fn element_at(&self, leaf: Leaf<'a>) -> Result<Option<Element<'a>>> {
        if leaf.exact { leaf.source.element(self.memory, leaf.index).map(Some) } else { Ok(None) }
    }

    /// The value that was looked for.
    #[inline]
    pub(crate) fn value_at(&self, leaf: Leaf<'a>) -> Result<Option<&'a [u8]>> {
        let value = self.element_at(leaf)?.filter(|element| element.flags & BUCKET_FLAG == 0);
        Ok(value.map(|element| self.memory.bytes(element.value)))
    }
}

impl<'a> Source<'a> {
    pub(crate) fn is_leaf(&self) -> bool {
        match self {
            Self::Page(page) => page.is_leaf(),
            Self::Node(node, _) => node.is_leaf,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Page(page) => page.len(),
            Self::Node(node, _) => node.inodes.len(),
        }
    }

    pub(crate) fn search(&self, memory: &Memory, key: &[u8]) -> Result<(usize, bool)> {
        match self {
            Self::Page(page) => page.search(key),
            Self::Node(node, _) => node.keys(memory).search(key),
        }
    }

    pub(crate) fn child(&self, memory: &'a Memory, index: usize) -> Result<Self> {
        match self {
            Self::Page(page) => Self::below(memory, page.child(index)),
            Self::Node(node, tree) => {
                let inode = node.inodes[index];
                if inode.child == NONE {
                    Self::below(memory, inode.value.position)
                } else {
                    Ok(Self::Node(tree.node(inode.child), tree))
                }
            }
        }
    }

    fn bounds_of_child(&self, memory: &'a Memory, index: usize) -> Result<Option<Bounds>> {
        match self {
            Self::Page(page) => page.bounds_of_child(index),
            Self::Node(node, _) => node.keys(memory).bounds_of_child(index),
        }
    }

    fn below(memory: &'a Memory, id: u64) -> Result<Self> {
        let page = memory.snapshot.page(id)?;
        if page.len() == 0 {
            return Err(page.fault("leaf page below a branch is empty"));
        }
        Ok(Self::Page(page))
    }

    pub(crate) fn key(&self, memory: &'a Memory, index: usize) -> Result<&'a [u8]> {
        match self {
            Self::Page(page) => page.key(index),
            Self::Node(node, _) => Ok(memory.bytes(node.inodes[index].key)),
        }
    }

    pub(crate) fn element(&self, memory: &'a Memory, index: usize) -> Result<Element<'a>> {
        match self {
            Self::Page(page) => {
                let e = page.leaf(index)?;
                Ok(Element { flags: e.flags, key: e.key, value: Span::in_page(page, e.value) })
            }
            Self::Node(node, _) => {
                let inode = &node.inodes[index];
                Ok(Element { flags: inode.flags, key: memory.bytes(inode.key), value: inode.value })
            }
        }
    }

    /// Whether leaf element `index` is a bucket.
    pub(crate) fn is_bucket(&self, index: usize) -> bool {
        match self {
            Self::Page(page) => page.is_bucket(index),
            Self::Node(node, _) => node.inodes[index].flags & BUCKET_FLAG != 0,
        }
    }

    /// Bytes that element `index` of a leaf takes in a page.
    pub(crate) fn element_size(&self, index: usize) -> Result<usize> {
        match self {
            Self::Page(page) => page.leaf(index).map(|e| ELEMENT_SIZE + e.key.len() + e.value.len()),
            Self::Node(node, _) => Ok(node.inodes[index].size()),
        }
    }

    /// Its pages, unless it has been opened: then they are being replaced.
    pub(crate) fn run(&self) -> Option<Run> {
        match self {
            Self::Page(page) => Some(Run { start: page.id(), len: page.pages() }),
            Self::Node(..) => None,
        }
    }

    /// Page id for error messages; 0 for an opened node.
    fn id(&self) -> u64 {
        match self {
            Self::Page(page) => page.id(),
            Self::Node(..) => 0,
        }
    }
}

/// A position in a bucket. Before the first move it stands nowhere: `next` goes to the first entry, `prev` to the
/// last. Having run over an end it stands nowhere again.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bucket: Bucket<'a>,
    /// From the root to the leaf, with the index taken at each.
    stack: Vec<(Source<'a>, usize)>,
}

impl<'a> Cursor<'a> {
    /// Moves to the first entry.
    ///
    /// # Errors
    /// [`Error::Corrupt`], as all moves.
    pub fn first(&mut self) -> Result<Option<Entry<'a>>> {
        self.stack.clear();
        let Some(root) = self.bucket.source()? else { return Ok(None) };
        self.descend(root, false)?;
        if self.at_leaf_end() { self.step(false) } else { self.entry() }
    }

    /// Moves to the last entry.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn last(&mut self) -> Result<Option<Entry<'a>>> {
        self.stack.clear();
        let Some(root) = self.bucket.source()? else { return Ok(None) };
        self.descend(root, true)?;
        if self.at_leaf_end() { self.step(true) } else { self.entry() }
    }

    /// Moves to the first entry whose key is not below `key`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Entry<'a>>> {
        self.stack.clear();
        let Some(mut at) = self.bucket.source()? else { return Ok(None) };
        while self.stack.len() < MAX_DEPTH {
            let found = at.search(self.bucket.memory, key)?;
            if at.is_leaf() {
                self.stack.push((at, found.0));
                return if self.at_leaf_end() { self.step(false) } else { self.entry() };
            }
            let index = child_index(found);
            self.stack.push((at, index));
            at = at.child(self.bucket.memory, index)?;
        }
        Err(too_deep(&self.bucket.root))
    }

    /// Moves to the next entry.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    // Not an iterator: it can turn round, and it fails. `Bucket::iter` is the iterator.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Entry<'a>>> {
        if let Some(entry) = self.next_in_page() {
            return entry.map(Some);
        }
        self.next_slowly()
    }

    /// The path of long scans: the next entry of the same page, if there is one.
    #[inline]
    fn next_in_page(&mut self) -> Option<Result<Entry<'a>>> {
        let Some((Source::Page(page), index)) = self.stack.last_mut() else { return None };
        if *index + 1 >= page.len() {
            return None;
        }
        *index += 1;
        Some(page_entry(page, *index))
    }

    #[inline(never)]
    fn next_slowly(&mut self) -> Result<Option<Entry<'a>>> {
        let Some((leaf, index)) = self.stack.last_mut() else { return self.first() };
        *index += 1;
        if *index < leaf.len() { self.entry() } else { self.step(false) }
    }

    /// Moves to the entry before.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn prev(&mut self) -> Result<Option<Entry<'a>>> {
        let Some((_, index)) = self.stack.last_mut() else { return self.last() };
        if *index > 0 {
            *index -= 1;
            return self.entry();
        }
        self.step(true)
    }

    /// The nested bucket the cursor stands on.
    ///
    /// # Errors
    /// [`Error::IncompatibleValue`] where it stands on a value, [`Error::Corrupt`].
    pub fn bucket(&self) -> Result<Option<Bucket<'a>>> {
        match self.entry()? {
            Some((key, _)) => self.bucket.bucket(key),
            None => Ok(None),
        }
    }

    /// The entry it stands on.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn entry(&self) -> Result<Option<Entry<'a>>> {
        let Some((leaf, index)) = self.stack.last() else { return Ok(None) };
        if let Source::Page(page) = leaf {
            return page_entry(page, *index).map(Some);
        }
        let e = leaf.element(self.bucket.memory, *index)?;
        let value = (e.flags & BUCKET_FLAG == 0).then(|| self.bucket.memory.bytes(e.value));
        Ok(Some((e.key, value)))
    }

    fn at_leaf_end(&self) -> bool {
        self.stack.last().is_some_and(|(leaf, index)| *index >= leaf.len())
    }

    /// Goes down from `at` along the first or last children.
    fn descend(&mut self, mut at: Source<'a>, last: bool) -> Result<()> {
        while self.stack.len() < MAX_DEPTH {
            let index = if last { at.len().saturating_sub(1) } else { 0 };
            self.stack.push((at, index));
            if at.is_leaf() {
                return Ok(());
            }
            at = at.child(self.bucket.memory, index)?;
        }
        Err(too_deep(&self.bucket.root))
    }

    /// Leaves the leaf for its neighbour, over leaves that this transaction has emptied.
    ///
    /// Each leaf must begin beyond the one before: so a walk over a damaged file cannot visit a page twice.
    fn step(&mut self, back: bool) -> Result<Option<Entry<'a>>> {
        let memory = self.bucket.memory;
        let before = match self.stack.last() {
            Some((leaf, _)) if leaf.len() > 0 => Some(leaf.key(memory, 0)?),
            _ => None,
        };
        loop {
            self.stack.pop();
            let Some((branch, index)) = self.stack.last_mut() else { return Ok(None) };
            let more = if back { *index > 0 } else { *index + 1 < branch.len() };
            if !more {
                continue;
            }
            *index = if back { *index - 1 } else { *index + 1 };
            let child = branch.child(memory, *index)?;
            if let Source::Page(page) = branch
                && !back
                && *index + 1 < page.len()
            {
                // A scan will want the page after this one: fetched while this one is read.
                memory.snapshot.prefetch(page.child(*index + 1));
            }
            self.descend(child, back)?;
            let (leaf, _) = self.stack.last().expect("descend has pushed a leaf");
            if leaf.len() == 0 {
                continue;
            }
            let first = leaf.key(memory, 0)?;
            let rises = before.is_none_or(|b| if back { first < b } else { first > b });
            if !rises {
                return Err(Error::corrupt(leaf.id(), "leaf pages are not in key order (a cycle?)"));
            }
            return self.entry();
        }
    }
}

#[inline]
fn page_entry<'a>(page: &Page<'a>, index: usize) -> Result<Entry<'a>> {
    let element = page.leaf(index)?;
    Ok((element.key, (element.flags & BUCKET_FLAG == 0).then_some(element.value)))
}

/// Iterator over a bucket's entries; after an error it ends.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    cursor: Cursor<'a>,
    start: Option<Bound<Vec<u8>>>,
    end: Bound<Vec<u8>>,
    done: bool,
}

impl<'a> Range<'a> {
    /// Moves the cursor over an end of a page, or to where the range begins.
    #[inline(never)]
    fn advance(&mut self) -> Result<Option<Entry<'a>>> {
        match self.start.take() {
            None => self.cursor.next(),
            Some(Bound::Unbounded) => self.cursor.first(),
            Some(Bound::Included(key)) => self.cursor.seek(&key),
            Some(Bound::Excluded(key)) => match self.cursor.seek(&key)? {
                Some((found, _)) if found == key => self.cursor.next(),
                other => Ok(other),
            },
        }
    }

    #[inline]
    fn is_inside(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= end.as_slice(),
            Bound::Excluded(end) => key < end.as_slice(),
        }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Result<Entry<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = if self.start.is_none() { self.cursor.next_in_page() } else { None };
        match next.or_else(|| self.advance().transpose()) {
            Some(Ok(entry)) if self.is_inside(entry.0) => Some(Ok(entry)),
            Some(Err(e)) => {
                self.done = true;
                Some(Err(e))
            }
            Some(Ok(_)) | None => {
                self.done = true;
                None
            }
        }
    }
}
