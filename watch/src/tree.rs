//! A treap of ranges, each node augmented with the furthest end below it: an interval tree over byte strings.
//!
//! Priorities come from a counter through a fixed mixing function, so the shape depends on the operations alone, and
//! no order of insertion that a client can choose makes it deep without knowing all insertions of everybody.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::KeyRange;
use crate::index::Members;

/// No node.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    range: Arc<KeyRange>,
    members: Members,
    priority: u32,
    left: u32,
    right: u32,
    /// The node of this subtree whose range reaches furthest.
    furthest: u32,
}

/// The tree.
///
/// Invariants: in-order the ranges ascend; a node's priority is not below its children's; `furthest` is right for
/// every node that hangs in the tree.
#[derive(Debug)]
pub(crate) struct IntervalTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    inserted: u64,
}

impl Default for IntervalTree {
    fn default() -> Self {
        IntervalTree { nodes: Vec::new(), free: Vec::new(), root: NIL, inserted: 0 }
    }
}

impl IntervalTree {
    /// The members of `range`, if it is in the tree.
    pub(crate) fn members_mut(&mut self, range: &KeyRange) -> Option<&mut Members> {
        let at = self.find(range);
        (at != NIL).then(|| &mut self.nodes[at as usize].members)
    }

    /// The members of `range`, which is added if it is new.
    pub(crate) fn members_or_insert(&mut self, range: &Arc<KeyRange>) -> &mut Members {
        let mut at = self.find(range);
        if at == NIL {
            at = self.allocate(range);
            let (below, above) = self.split(self.root, range);
            let left = self.merge(below, at);
            self.root = self.merge(left, above);
        }
        &mut self.nodes[at as usize].members
    }

    /// Removes `range` and its members, if it is in the tree.
    pub(crate) fn remove(&mut self, range: &KeyRange) {
        if self.find(range) != NIL {
            self.root = self.remove_below(self.root, range);
        }
    }

    /// Calls `found` with the members of every range that holds `key`, in the order of the ranges.
    pub(crate) fn for_each_match(&self, key: &[u8], found: &mut impl FnMut(&Members)) {
        self.visit(self.root, key, &mut |node| {
            found(&node.members);
            true
        });
    }

    /// Whether any range holds `key`.
    pub(crate) fn matches(&self, key: &[u8]) -> bool {
        !self.visit(self.root, key, &mut |_| false)
    }

    /// Visits the matching nodes below `at` until `found` says to stop; returns whether it never did.
    fn visit(&self, at: u32, key: &[u8], found: &mut impl FnMut(&Node) -> bool) -> bool {
        if at == NIL {
            return true;
        }
        let node = &self.nodes[at as usize];
        if !self.nodes[node.furthest as usize].range.ends_after(key) {
            return true;
        }
        if !self.visit(node.left, key, found) {
            return false;
        }
        if node.range.begin() > key {
            return true;
        }
        if node.range.ends_after(key) && !found(node) {
            return false;
        }
        self.visit(node.right, key, found)
    }

    fn find(&self, range: &KeyRange) -> u32 {
        let mut at = self.root;
        while at != NIL {
            let node = &self.nodes[at as usize];
            at = match range.cmp(&node.range) {
                Ordering::Less => node.left,
                Ordering::Equal => return at,
                Ordering::Greater => node.right,
            };
        }
        NIL
    }

    fn allocate(&mut self, range: &Arc<KeyRange>) -> u32 {
        self.inserted += 1;
        let priority = mix(self.inserted);
        let node = Node {
            range: range.clone(),
            members: Members::new(),
            priority,
            left: NIL,
            right: NIL,
            furthest: 0,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 ranges fit in memory")
            }
        };
        self.nodes[at as usize].furthest = at;
        at
    }

    /// Cuts the subtree into what is below `range` and what is not.
    fn split(&mut self, at: u32, range: &KeyRange) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        if *self.nodes[at as usize].range < *range {
            let (below, above) = self.split(self.nodes[at as usize].right, range);
            self.nodes[at as usize].right = below;
            self.refresh(at);
            (at, above)
        } else {
            let (below, above) = self.split(self.nodes[at as usize].left, range);
            self.nodes[at as usize].left = above;
            self.refresh(at);
            (below, at)
        }
    }

    /// Joins two subtrees, everything in `below` being less than everything in `above`.
    fn merge(&mut self, below: u32, above: u32) -> u32 {
        if below == NIL {
            return above;
        }
        if above == NIL {
            return below;
        }
        if self.nodes[below as usize].priority >= self.nodes[above as usize].priority {
            let right = self.merge(self.nodes[below as usize].right, above);
            self.nodes[below as usize].right = right;
            self.refresh(below);
            below
        } else {
            let left = self.merge(below, self.nodes[above as usize].left);
            self.nodes[above as usize].left = left;
            self.refresh(above);
            above
        }
    }

    /// Removes `range`, which is known to be below `at`; returns the subtree's new top.
    fn remove_below(&mut self, at: u32, range: &KeyRange) -> u32 {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        match range.cmp(&self.nodes[at as usize].range) {
            Ordering::Equal => {
                self.nodes[at as usize].members = Members::new();
                self.free.push(at);
                return self.merge(left, right);
            }
            Ordering::Less => self.nodes[at as usize].left = self.remove_below(left, range),
            Ordering::Greater => self.nodes[at as usize].right = self.remove_below(right, range),
        }
        self.refresh(at);
        at
    }

    fn refresh(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut furthest = at;
        for child in [node.left, node.right] {
            if child != NIL {
                let candidate = self.nodes[child as usize].furthest;
                if self.nodes[candidate as usize].range.outreaches(&self.nodes[furthest as usize].range) {
                    furthest = candidate;
                }
            }
        }
        self.nodes[at as usize].furthest = furthest;
    }
}

/// The finalizer of splitmix64: neighbouring counts give unrelated priorities.
fn mix(count: u64) -> u32 {
    let mut z = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 32) as u32
}
