//! Which watchers want a key: points in a hash table, ranges in an interval tree.
//!
//! It maps ranges to small numbers and knows nothing of watchers. Everything that comes out is in an order that
//! depends on what went in alone.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use crate::KeyRange;
use crate::tree::IntervalTree;

/// The values of one range, ascending. Four fit without an allocation.
pub(crate) type Members = SmallVec<[u32; 4]>;

/// Ranges and who wants them.
///
/// Insert, remove and find cost O(log n + matches); a value is inserted at most once per range.
#[derive(Debug, Default)]
pub struct RangeIndex {
    points: Points,
    ranges: IntervalTree,
    len: usize,
}

impl RangeIndex {
    /// An index of nothing.
    pub fn new() -> RangeIndex {
        RangeIndex::default()
    }

    /// Adds `value` under `range`; returns whether it was not there before.
    pub fn insert(&mut self, range: &Arc<KeyRange>, value: u32) -> bool {
        let members = match range.is_point() {
            true => self.points.members_or_insert(range),
            false => self.ranges.members_or_insert(range),
        };
        let Err(at) = members.binary_search(&value) else { return false };
        members.insert(at, value);
        self.len += 1;
        true
    }

    /// Removes `value` from under `range`; returns whether it was there.
    pub fn remove(&mut self, range: &KeyRange, value: u32) -> bool {
        let members = match range.is_point() {
            true => self.points.members_mut(range.begin()),
            false => self.ranges.members_mut(range),
        };
        let Some(members) = members else { return false };
        let Ok(at) = members.binary_search(&value) else { return false };
        members.remove(at);
        if members.is_empty() {
            match range.is_point() {
                true => self.points.remove(range.begin()),
                false => self.ranges.remove(range),
            }
        }
        self.len -= 1;
        true
    }

    /// Calls `found` with every value whose range holds `key`, once for each range that it stands under.
    pub fn for_each_match(&self, key: &[u8], mut found: impl FnMut(u32)) {
        if let Some(members) = self.points.members(key) {
            members.iter().copied().for_each(&mut found);
        }
        self.ranges.for_each_match(key, &mut |members| members.iter().copied().for_each(&mut found));
    }

    /// Whether any range holds `key`.
    pub fn matches(&self, key: &[u8]) -> bool {
        self.points.members(key).is_some() || self.ranges.matches(key)
    }

    /// How many values stand in the index.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Single keys: a hash table of slots, so that its spare room costs five bytes a bucket and not a whole entry.
///
/// Invariant: the table names exactly the slots that hold something.
#[derive(Debug, Default)]
struct Points {
    /// Looked up only, never iterated, so that its random seed shows nowhere.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Option<(Arc<KeyRange>, Members)>>,
    free: Vec<u32>,
}

impl Points {
    fn members(&self, key: &[u8]) -> Option<&Members> {
        let slot = self.table.find(self.hasher.hash_one(key), |&slot| self.key(slot) == key)?;
        self.slots[*slot as usize].as_ref().map(|(_, members)| members)
    }

    fn members_mut(&mut self, key: &[u8]) -> Option<&mut Members> {
        let slot = *self.table.find(self.hasher.hash_one(key), |&slot| self.key(slot) == key)?;
        self.slots[slot as usize].as_mut().map(|(_, members)| members)
    }

    fn members_or_insert(&mut self, range: &Arc<KeyRange>) -> &mut Members {
        let hash = self.hasher.hash_one(range.begin());
        let found = self.table.find(hash, |&slot| self.key(slot) == range.begin()).copied();
        let slot = found.unwrap_or_else(|| self.insert(hash, range));
        &mut self.slots[slot as usize].as_mut().expect("the table names slots in use").1
    }

    fn insert(&mut self, hash: u64, range: &Arc<KeyRange>) -> u32 {
        let entry = Some((range.clone(), Members::new()));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 keys fit in memory")
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table.insert_unique(hash, slot, |&slot| hasher.hash_one(key_of(slots, slot)));
        slot
    }

    fn remove(&mut self, key: &[u8]) {
        let slots = &self.slots;
        if let Ok(entry) =
            self.table.find_entry(self.hasher.hash_one(key), |&slot| key_of(slots, slot) == key)
        {
            let (slot, _) = entry.remove();
            self.slots[slot as usize] = None;
            self.free.push(slot);
        }
    }

    fn key(&self, slot: u32) -> &[u8] {
        key_of(&self.slots, slot)
    }
}

fn key_of(slots: &[Option<(Arc<KeyRange>, Members)>], slot: u32) -> &[u8] {
    slots[slot as usize].as_ref().expect("the table names slots in use").0.begin()
}
