//! The key index: which keys exist at which revision, and under which revision their rows are stored.
//!
//! [`KeyIndex`] is a value: cloning it takes two reference counts and gives an index that never changes, whatever is
//! written to the original. That is how a reader of a large range and a writer keep out of each other's way.
//!
//! What lives here: histories of keys in memory. What may not: stored bytes, locks, files.

mod keys;
mod recent;
mod slot;
mod tree;

use std::ops::ControlFlow;
use std::sync::Arc;

use self::recent::Recent;
pub(crate) use self::slot::Change;
pub use self::slot::KeyMeta;
use self::slot::{Revision32, Slot};
use self::tree::Node;
use crate::{Revision, RowKey};

/// An interval of keys, in bytewise order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The lowest key.
    pub start: &'a [u8],
    /// Where it ends.
    pub end: RangeEnd<'a>,
}

/// Where a [`KeyRange`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeEnd<'a> {
    /// After the start key: the range is that one key.
    Single,
    /// Before this key.
    Before(&'a [u8]),
    /// Nowhere: all keys from the start key on.
    Unbounded,
}

impl<'a> KeyRange<'a> {
    /// All keys.
    pub const ALL: KeyRange<'static> = KeyRange { start: b"", end: RangeEnd::Unbounded };

    /// One key.
    #[must_use]
    pub const fn single(key: &'a [u8]) -> Self {
        Self { start: key, end: RangeEnd::Single }
    }

    /// The range that a request's `key` and `range_end` mean: an empty end is the single key, the byte 0 is all keys
    /// from `key` on.
    #[must_use]
    pub fn from_request(key: &'a [u8], range_end: &'a [u8]) -> Self {
        let end = match range_end {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            end => RangeEnd::Before(end),
        };
        Self { start: key, end }
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => self.start <= key && key < end,
            RangeEnd::Unbounded => self.start <= key,
        }
    }
}

/// Keys and their histories; see the module's page. Cloning is cheap and gives an image that does not change.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyIndex {
    root: Arc<Node>,
    recent: Arc<Recent>,
}

impl KeyIndex {
    /// The row revision of `key` at the main revision `main`.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], main: i64) -> Option<Revision> {
        self.root.get(key)?.revision_at(main)
    }

    /// As [`get`](Self::get), with create revision and version.
    pub(crate) fn meta(&self, key: &[u8], main: i64) -> Option<KeyMeta> {
        self.root.get(key)?.meta_at(main)
    }

    /// The stored rows of `key` with main revisions from `from` to `to`, oldest first.
    pub(crate) fn changes(&self, key: &[u8], from: i64, to: i64) -> impl Iterator<Item = RowKey> {
        let slot = self.root.get(key);
        let until = slot.map_or(0, |slot| slot.count_until(to));
        let before = slot.map_or(0, |slot| slot.count_until(from - 1));
        (before..until).filter_map(move |i| slot.map(|slot| slot.change(i).row_key()))
    }

    /// Records a change, which must be newer than every other change of its key. A tombstone of a key that does not
    /// live is refused.
    pub(crate) fn apply(&mut self, key: &[u8], change: Change) {
        let mut lived = false;
        tree::upsert(&mut self.root, key, |slot| match slot {
            Some(slot) => {
                lived = slot.is_live();
                assert!(lived || !change.tombstone, "a tombstone at {} ends no life", change.revision());
                slot.append(change);
                None
            }
            None => {
                assert!(!change.tombstone, "a tombstone at {} ends no life", change.revision());
                Some(Slot::put(change.main, 1, Revision32 { main: change.main, sub: change.sub }))
            }
        });
        if lived == change.tombstone {
            Arc::make_mut(&mut self.recent).push(key, change.main, !change.tombstone);
        }
    }

    /// Visits the keys of `range` that exist at `main`, ascending (or descending), until the visitor breaks.
    pub(crate) fn walk(
        &self,
        range: KeyRange<'_>,
        main: i64,
        descending: bool,
        mut visit: impl FnMut(&[u8], Revision) -> ControlFlow<()>,
    ) {
        self.walk_slots(range, descending, |key, slot| match slot.revision_at(main) {
            Some(revision) => visit(key, revision),
            None => ControlFlow::Continue(()),
        });
    }

    /// As [`walk`](Self::walk), with create revisions and versions.
    pub(crate) fn walk_meta(
        &self,
        range: KeyRange<'_>,
        main: i64,
        descending: bool,
        mut visit: impl FnMut(&[u8], KeyMeta) -> ControlFlow<()>,
    ) {
        self.walk_slots(range, descending, |key, slot| match slot.meta_at(main) {
            Some(meta) => visit(key, meta),
            None => ControlFlow::Continue(()),
        });
    }

    fn walk_slots(
        &self,
        range: KeyRange<'_>,
        descending: bool,
        mut visit: impl FnMut(&[u8], &Slot) -> ControlFlow<()>,
    ) {
        let end = match range.end {
            RangeEnd::Single => {
                if let Some(slot) = self.root.get(range.start) {
                    let _ = visit(range.start, slot);
                }
                return;
            }
            RangeEnd::Before(end) if end <= range.start => return,
            RangeEnd::Before(end) => Some(end),
            RangeEnd::Unbounded => None,
        };
        let _ = if descending {
            self.root.walk_back(range.start, end, &mut visit)
        } else {
            self.root.walk(range.start, end, &mut visit)
        };
    }

    /// Number of live keys in `range` now, in O(log n).
    pub(crate) fn count_live(&self, range: KeyRange<'_>) -> u64 {
        match range.end {
            RangeEnd::Single => u64::from(self.root.get(range.start).is_some_and(Slot::is_live)),
            RangeEnd::Before(end) if end <= range.start => 0,
            RangeEnd::Before(end) => self.root.live_below(end) - self.root.live_below(range.start),
            RangeEnd::Unbounded => self.root.live() - self.root.live_below(range.start),
        }
    }

    /// Number of keys in `range` that exist at `main`: O(log n + keys born or dead since) while the record of recent
    /// births and deaths reaches back to `main`, else a walk over the range.
    pub(crate) fn count_at(&self, range: KeyRange<'_>, main: i64) -> u64 {
        if range.end != RangeEnd::Single
            && let Some(grown) = self.recent.grown_since(range, main)
        {
            return self
                .count_live(range)
                .checked_add_signed(-grown)
                .expect("no range has fewer than no keys");
        }
        let mut count = 0;
        self.walk(range, main, false, |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
        count
    }

    /// Number of keys with a history, walking the index.
    pub(crate) fn len(&self) -> usize {
        self.root.len()
    }

    /// Compacts some keys from `cursor` on, reports kept revisions at or below `main`, and returns the cursor to go on
    /// from, or `None` when all keys are done.
    pub(crate) fn compact_some(
        &mut self,
        cursor: &[u8],
        main: i64,
        mut keep: impl FnMut(Revision),
    ) -> Option<Vec<u8>> {
        tree::compact_leaf(&mut self.root, cursor, main, &mut keep)
    }

    /// Reports the revisions that belong into the hash at `main`, in key order.
    pub(crate) fn hash_keep(&self, main: i64, mut keep: impl FnMut(Revision)) {
        self.walk_slots(KeyRange::ALL, false, |_, slot| {
            slot.hash_keep(main, &mut keep);
            ControlFlow::Continue(())
        });
    }
}

/// Builds a [`KeyIndex`] from keys in ascending order.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder(tree::Builder);

impl IndexBuilder {
    /// Adds a key with its changes; `create` and `version` are those of the first change.
    pub(crate) fn push(&mut self, key: &[u8], create: i64, version: i64, changes: &[Change]) {
        self.0.push(key, Slot::from_changes(create, version, changes));
    }

    /// Puts another builder's keys, all of them above ours, behind them.
    pub(crate) fn append(&mut self, other: Self) {
        self.0.append(other.0);
    }

    /// The index of a store that stands at `main`.
    pub(crate) fn finish(self, main: i64) -> KeyIndex {
        KeyIndex { root: self.0.finish(), recent: Arc::new(Recent::after(main)) }
    }
}

#[cfg(test)]
mod tests;
