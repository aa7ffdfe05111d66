//! A counted, copy-on-write B+tree from byte strings to key histories.
//!
//! Nodes are shared: whoever holds the root `Arc` reads a tree that never changes under it. The writer changes a node
//! in place when nobody else holds it, and copies it (and the path to it) when somebody does. Every inner node knows
//! how many live keys each child holds, so counting a range visits two paths.
//!
//! What lives here: the shape of the tree. What may not: what revisions mean (see `slot`).

use std::ops::ControlFlow;
use std::sync::Arc;

use super::keys::{Keys, USUAL_LEN};
use super::slot::{Compacted, Slot};
use crate::Revision;

/// Most entries of a leaf and children of an inner node.
const WIDTH_MAX: usize = USUAL_LEN;
/// Nodes below this try to merge with a neighbour after a removal.
const WIDTH_SMALL: usize = 16;
/// A node is split earlier if its keys take more bytes than this: copying a node must stay cheap.
const BYTES_MAX: usize = 32 << 10;
/// Entries that the bulk builder puts into a node, leaving room for later inserts.
const WIDTH_BUILT: usize = 56;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Invariant: `keys` and `slots` have the same length.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    keys: Keys,
    slots: Vec<Slot>,
}

/// Invariant: all three lists have the same length of at least one; `live[i]` is the number of live keys under
/// `nodes[i]`; every key under `nodes[i]` is at or above `separators[i]` (the first child also takes keys below its
/// separator) and below `separators[i + 1]`.
#[derive(Clone, Debug)]
pub(super) struct Inner {
    separators: Keys,
    live: Vec<u64>,
    nodes: Vec<Arc<Node>>,
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Leaf::default())
    }
}

/// What an insertion did to a node.
struct Inserted {
    live_delta: i64,
    /// The upper part of a node that grew too wide, with its lowest key.
    split: Option<(Vec<u8>, Arc<Node>)>,
}

impl Inner {
    fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(i) => i,
            Err(i) => i.saturating_sub(1),
        }
    }

    /// As [`child_of`](Self::child_of), for a key that the child may get. A key below all separators goes to the first
    /// child and becomes its separator: else that child's halves could later be told apart by a separator below the
    /// first, and the separators would not rise any more.
    fn child_for_insert(&mut self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(i) => i,
            Err(0) => {
                self.separators.lower_first(key);
                0
            }
            Err(i) => i - 1,
        }
    }
}

impl Node {
    fn width(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.slots.len(),
            Self::Inner(inner) => inner.nodes.len(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.slots.is_empty(),
            Self::Inner(inner) => inner.nodes.len() == 1 && inner.nodes[0].is_empty(),
        }
    }

    /// Number of live keys below this node; in an inner node a sum over its children's counts.
    pub(super) fn live(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.slots.iter().filter(|slot| slot.is_live()).count() as u64,
            Self::Inner(inner) => inner.live.iter().sum(),
        }
    }

    /// Number of keys with a history, live or not; walks the whole tree.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.slots.len(),
            Self::Inner(inner) => inner.nodes.iter().map(|node| node.len()).sum(),
        }
    }

    /// The history of `key`.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<&Slot> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return leaf.keys.search(key).ok().map(|i| &leaf.slots[i]),
                Self::Inner(inner) => node = &inner.nodes[inner.child_of(key)],
            }
        }
    }

    /// Number of live keys below `key`.
    pub(super) fn live_below(&self, key: &[u8]) -> u64 {
        let (mut node, mut count) = (self, 0);
        loop {
            match node {
                Self::Leaf(leaf) => {
                    let at = leaf.keys.lower_bound(key);
                    return count + leaf.slots[..at].iter().filter(|slot| slot.is_live()).count() as u64;
                }
                Self::Inner(inner) => {
                    let child = inner.child_of(key);
                    count += inner.live[..child].iter().sum::<u64>();
                    node = &inner.nodes[child];
                }
            }
        }
    }

    /// Visits all keys at or above `start` and below `end` in ascending order until the visitor breaks.
    pub(super) fn walk(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut impl FnMut(&[u8], &Slot) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::Leaf(leaf) => {
                for i in leaf.keys.lower_bound(start)..leaf.slots.len() {
                    let key = leaf.keys.get(i);
                    if end.is_some_and(|end| key >= end) {
                        return ControlFlow::Break(());
                    }
                    visit(key, &leaf.slots[i])?;
                }
            }
            Self::Inner(inner) => {
                for i in inner.child_of(start)..inner.nodes.len() {
                    inner.nodes[i].walk(start, end, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// As [`walk`](Self::walk), from the highest key down.
    pub(super) fn walk_back(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut impl FnMut(&[u8], &Slot) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::Leaf(leaf) => {
                let upper = end.map_or(leaf.slots.len(), |end| leaf.keys.lower_bound(end));
                for i in (0..upper).rev() {
                    let key = leaf.keys.get(i);
                    if key < start {
                        return ControlFlow::Break(());
                    }
                    visit(key, &leaf.slots[i])?;
                }
            }
            Self::Inner(inner) => {
                let upper = end.map_or(inner.nodes.len() - 1, |end| inner.child_of(end));
                for i in (0..=upper).rev() {
                    inner.nodes[i].walk_back(start, end, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Changes the history of `key`, or gives it one: `change` gets the present history and returns the first one of a
/// new key (and `None` when it has changed the present one).
pub(super) fn upsert(
    root: &mut Arc<Node>,
    key: &[u8],
    change: impl FnOnce(Option<&mut Slot>) -> Option<Slot>,
) {
    let inserted = upsert_below(root, key, change);
    if let Some((separator, right)) = inserted.split {
        let left = std::mem::take(root);
        let mut separators = Keys::default();
        separators.push(&lowest_key(&left));
        separators.push(&separator);
        let live = vec![left.live(), right.live()];
        *root = Arc::new(Node::Inner(Inner { separators, live, nodes: vec![left, right] }));
    }
}

fn upsert_below(
    node: &mut Arc<Node>,
    key: &[u8],
    change: impl FnOnce(Option<&mut Slot>) -> Option<Slot>,
) -> Inserted {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => leaf.upsert(key, change),
        Node::Inner(inner) => {
            let child = inner.child_for_insert(key);
            let mut inserted = upsert_below(&mut inner.nodes[child], key, change);
            inner.live[child] = inner.live[child].wrapping_add_signed(inserted.live_delta);
            if let Some((separator, right)) = inserted.split.take() {
                let moved = right.live();
                inner.live[child] -= moved;
                inner.separators.insert(child + 1, &separator);
                inner.live.insert(child + 1, moved);
                inner.nodes.insert(child + 1, right);
                inserted.split = inner.split_if_wide(child + 1);
            }
            inserted
        }
    }
}

/// Where to cut a node that grew too wide at `inserted_at`: in the middle, or behind everything else when keys arrive
/// in ascending order, which leaves full nodes behind.
fn cut(width: usize, inserted_at: usize) -> usize {
    if inserted_at == width - 1 { width - 1 } else { width / 2 }
}

impl Leaf {
    fn upsert(&mut self, key: &[u8], change: impl FnOnce(Option<&mut Slot>) -> Option<Slot>) -> Inserted {
        match self.keys.search(key) {
            Ok(i) => {
                let slot = &mut self.slots[i];
                let was_live = slot.is_live();
                let fresh = change(Some(slot));
                assert!(fresh.is_none(), "a present key keeps its history");
                Inserted { live_delta: i64::from(slot.is_live()) - i64::from(was_live), split: None }
            }
            Err(i) => {
                let Some(slot) = change(None) else {
                    return Inserted { live_delta: 0, split: None };
                };
                let live_delta = i64::from(slot.is_live());
                self.keys.insert(i, key);
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(4);
                }
                self.slots.insert(i, slot);
                Inserted { live_delta, split: self.split_if_wide(i) }
            }
        }
    }

    fn split_if_wide(&mut self, inserted_at: usize) -> Option<(Vec<u8>, Arc<Node>)> {
        let width = self.slots.len();
        if width < 2 || (width <= WIDTH_MAX && self.keys.byte_len() <= BYTES_MAX) {
            return None;
        }
        let at = cut(width, inserted_at);
        let keys = self.keys.split_off(at);
        let slots = self.slots.drain(at..).collect();
        self.slots.shrink_to_fit();
        Some((keys.get(0).to_vec(), Arc::new(Node::Leaf(Self { keys, slots }))))
    }
}

impl Inner {
    fn split_if_wide(&mut self, inserted_at: usize) -> Option<(Vec<u8>, Arc<Node>)> {
        let width = self.nodes.len();
        if width < 4 || (width <= WIDTH_MAX && self.separators.byte_len() <= BYTES_MAX) {
            return None;
        }
        let at = cut(width, inserted_at);
        let separators = self.separators.split_off(at);
        let live = self.live.drain(at..).collect();
        let nodes = self.nodes.drain(at..).collect();
        self.live.shrink_to_fit();
        self.nodes.shrink_to_fit();
        Some((separators.get(0).to_vec(), Arc::new(Node::Inner(Self { separators, live, nodes }))))
    }
}

fn lowest_key(node: &Node) -> Vec<u8> {
    match node {
        Node::Leaf(leaf) if leaf.slots.is_empty() => Vec::new(),
        Node::Leaf(leaf) => leaf.keys.get(0).to_vec(),
        Node::Inner(inner) => lowest_key(&inner.nodes[0]),
    }
}

/// Compacts the keys from `cursor` to the end of their leaf and returns the lowest possible key of the next leaf, `None`
/// after the last.
/// Kept revisions at or below `main` go to `keep`, as [`Slot::compact`] says. The count of live keys never changes:
/// only dead keys leave.
pub(super) fn compact_leaf(
    root: &mut Arc<Node>,
    cursor: &[u8],
    main: i64,
    keep: &mut impl FnMut(Revision),
) -> Option<Vec<u8>> {
    let (leaf, next) = leaf_of(root, cursor);
    let edits: Vec<(usize, Compacted)> = leaf
        .slots
        .iter()
        .enumerate()
        .skip(leaf.keys.lower_bound(cursor))
        .map(|(i, slot)| (i, slot.compact(main, &mut *keep)))
        .filter(|(_, compacted)| !matches!(compacted, Compacted::Unchanged))
        .collect();
    if !edits.is_empty() {
        edit_leaf(root, cursor, edits);
        collapse(root);
    }
    next
}

/// The leaf that holds `key`, and the separator of the leaf after it.
fn leaf_of<'a>(root: &'a Node, key: &[u8]) -> (&'a Leaf, Option<Vec<u8>>) {
    let (mut node, mut next) = (root, None);
    loop {
        match node {
            Node::Leaf(leaf) => return (leaf, next.map(<[u8]>::to_vec)),
            Node::Inner(inner) => {
                let child = inner.child_of(key);
                if child + 1 < inner.nodes.len() {
                    next = Some(inner.separators.get(child + 1));
                }
                node = &inner.nodes[child];
            }
        }
    }
}

fn edit_leaf(node: &mut Arc<Node>, cursor: &[u8], edits: Vec<(usize, Compacted)>) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            for (i, edit) in edits.into_iter().rev() {
                match edit {
                    Compacted::Unchanged => {}
                    Compacted::Cut(slot) => leaf.slots[i] = slot,
                    Compacted::Gone => {
                        leaf.keys.remove(i);
                        leaf.slots.remove(i);
                    }
                }
            }
            leaf.keys.shrink();
            leaf.slots.shrink_to_fit();
        }
        Node::Inner(inner) => {
            let child = inner.child_of(cursor);
            edit_leaf(&mut inner.nodes[child], cursor, edits);
            inner.tidy(child);
        }
    }
}

impl Inner {
    /// Drops `child` if it is empty, or merges it with a neighbour if both are small.
    fn tidy(&mut self, child: usize) {
        // An only child stays, even empty, so that an inner node always has one: our parent drops us instead.
        if self.nodes.len() == 1 || self.nodes[child].width() >= WIDTH_SMALL {
            return;
        }
        if self.nodes[child].is_empty() {
            return self.remove(child);
        }
        let left = if child + 1 < self.nodes.len() { child } else { child - 1 };
        if self.nodes[left].width() + self.nodes[left + 1].width() > WIDTH_MAX - WIDTH_SMALL {
            return;
        }
        let right = self.nodes[left + 1].clone();
        match (Arc::make_mut(&mut self.nodes[left]), &*right) {
            (Node::Leaf(a), Node::Leaf(b)) => {
                a.keys.append(&b.keys);
                a.slots.reserve_exact(b.slots.len());
                a.slots.extend_from_slice(&b.slots);
            }
            (Node::Inner(a), Node::Inner(b)) => {
                a.separators.append(&b.separators);
                a.live.extend_from_slice(&b.live);
                a.nodes.extend_from_slice(&b.nodes);
            }
            _ => unreachable!("neighbours have the same height"),
        }
        self.live[left] += self.live[left + 1];
        self.remove(left + 1);
    }

    fn remove(&mut self, child: usize) {
        self.separators.remove(child);
        self.live.remove(child);
        self.nodes.remove(child);
    }
}

/// Takes inner nodes with a single child off the top.
fn collapse(root: &mut Arc<Node>) {
    while let Node::Inner(inner) = &**root
        && inner.nodes.len() == 1
    {
        let only = inner.nodes[0].clone();
        *root = only;
    }
}

/// Builds a tree from entries in ascending order, without searching.
#[derive(Debug, Default)]
pub(super) struct Builder {
    leaf: Leaf,
    done: Vec<(Vec<u8>, Arc<Node>)>,
}

impl Builder {
    pub(super) fn push(&mut self, key: &[u8], slot: Slot) {
        if self.leaf.slots.len() >= WIDTH_BUILT
            || (!self.leaf.slots.is_empty() && self.leaf.keys.byte_len() + key.len() > BYTES_MAX)
        {
            self.finish_leaf();
        }
        self.leaf.keys.push(key);
        self.leaf.slots.push(slot);
    }

    fn finish_leaf(&mut self) {
        let mut leaf = std::mem::take(&mut self.leaf);
        if leaf.slots.is_empty() {
            return;
        }
        leaf.keys.shrink();
        leaf.slots.shrink_to_fit();
        self.done.push((leaf.keys.get(0).to_vec(), Arc::new(Node::Leaf(leaf))));
    }

    /// Puts another builder's entries, which are all above ours, behind them.
    pub(super) fn append(&mut self, mut other: Self) {
        self.finish_leaf();
        other.finish_leaf();
        self.done.append(&mut other.done);
    }

    pub(super) fn finish(mut self) -> Arc<Node> {
        self.finish_leaf();
        let mut level = self.done;
        while level.len() > 1 {
            level = level.chunks(WIDTH_BUILT).map(inner_of).collect();
        }
        level.pop().map(|(_, node)| node).unwrap_or_default()
    }
}

fn inner_of(children: &[(Vec<u8>, Arc<Node>)]) -> (Vec<u8>, Arc<Node>) {
    let mut separators = Keys::default();
    for (key, _) in children {
        separators.push(key);
    }
    separators.shrink();
    let live = children.iter().map(|(_, node)| node.live()).collect();
    let nodes = children.iter().map(|(_, node)| node.clone()).collect();
    (children[0].0.clone(), Arc::new(Node::Inner(Inner { separators, live, nodes })))
}

#[cfg(test)]
impl Node {
    /// Panics when an invariant does not hold; returns the height.
    pub(super) fn check(&self) -> usize {
        match self {
            Self::Leaf(leaf) => {
                assert_eq!(leaf.keys.len(), leaf.slots.len());
                for i in 1..leaf.keys.len() {
                    assert!(leaf.keys.get(i - 1) < leaf.keys.get(i), "keys rise");
                }
                1
            }
            Self::Inner(inner) => {
                assert_eq!(inner.nodes.len(), inner.live.len());
                assert_eq!(inner.nodes.len(), inner.separators.len());
                let heights: Vec<_> = inner.nodes.iter().map(|node| node.check()).collect();
                assert!(heights.windows(2).all(|pair| pair[0] == pair[1]), "all leaves are equally deep");
                for (i, node) in inner.nodes.iter().enumerate() {
                    assert_eq!(inner.live[i], node.live(), "live keys under child {i}");
                    let _ = node.walk(b"", None, &mut |key, _| {
                        assert!(i == 0 || key >= inner.separators.get(i), "separator {i}");
                        assert!(
                            i + 1 == inner.nodes.len() || key < inner.separators.get(i + 1),
                            "separator {}",
                            i + 1
                        );
                        ControlFlow::Continue(())
                    });
                }
                heights[0] + 1
            }
        }
    }
}
