//! The history of one key: its generations, as a list of changes.
//!
//! A generation is one life of the key, from the put that creates it to its tombstone. The changes of all generations
//! stand in one list; a tombstone ends its generation, so the next change begins a new one. Compaction can cut the
//! oldest generation at its front, therefore the first change's create revision and version are kept beside the list.
//!
//! Histories are immutable once shared: a reader that holds an old copy is never affected, and appending to a long
//! history copies a short run, not the whole.

use std::sync::Arc;

use crate::{Revision, RowKey};

/// One put or delete of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) main: i64,
    pub(crate) sub: u32,
    pub(crate) tombstone: bool,
}

impl Change {
    pub(crate) fn revision(self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }

    pub(crate) fn row_key(self) -> RowKey {
        RowKey { revision: self.revision(), tombstone: self.tombstone }
    }
}

/// What the index knows of a live key at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// Main revision of the put that began the life.
    pub create_revision: i64,
    /// The last put's revision; its main part is the key's `mod_revision`.
    pub revision: Revision,
    /// Number of puts in this life up to then.
    pub version: i64,
}

/// A list this long becomes [`Slot::Long`].
const FEW_MAX: usize = 32;
/// A run grows to this length by single changes; full runs merge with equal ones.
const RUN_LEN: usize = 32;
/// Runs are not merged beyond this length, which bounds the copying that one change can cause.
const RUN_MAX: usize = 1 << 16;

/// A key's history. Never empty.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// A single put, by far the most common history: held in place.
    One { create: i64, version: i64, main: i64, sub: u32 },
    /// Up to [`FEW_MAX`] changes; `create` and `version` belong to the first of them.
    Few { create: i64, version: i64, changes: Arc<[Change]> },
    /// More.
    Long(Arc<Long>),
}

// The memory that a key costs is a promise; see the memory bench.
const _: () = assert!(size_of::<Slot>() == 40 && size_of::<Change>() == 16);

/// A long history as runs of falling length, like the digits of a binary counter.
///
/// Invariant: no run is empty, and changes rise through the runs.
#[derive(Clone, Debug)]
pub(super) struct Long {
    first_create: i64,
    first_version: i64,
    /// Of the newest change, if it is a put; kept so that a put need not look for the start of its generation.
    last_create: i64,
    last_version: i64,
    runs: Vec<Arc<[Change]>>,
}

/// What a compaction did to a history.
#[derive(Debug)]
pub(super) enum Compacted {
    /// Nothing was below the compact revision but what is kept.
    Unchanged,
    /// This is what is left.
    Cut(Slot),
    /// Nothing is left: the key leaves the index.
    Gone,
}

impl Slot {
    /// A history that begins with a put; `create` and `version` are those of the put.
    pub(super) fn put(create: i64, version: i64, at: Revision32) -> Self {
        Self::One { create, version, main: at.main, sub: at.sub }
    }

    /// A history of these changes, the first of which has `create` and `version` (both unused if it is a tombstone).
    pub(super) fn from_changes(create: i64, version: i64, changes: &[Change]) -> Self {
        match changes {
            [] => unreachable!("a history is never empty"),
            [Change { main, sub, tombstone: false }] => Self::One { create, version, main: *main, sub: *sub },
            few if few.len() <= FEW_MAX => Self::Few { create, version, changes: few.into() },
            many => {
                let (last_create, last_version) = life_at(create, version, many.len() - 1, |i| many[i]);
                Self::Long(Arc::new(Long {
                    first_create: create,
                    first_version: version,
                    last_create,
                    last_version,
                    runs: many.chunks(RUN_MAX).map(Arc::from).collect(),
                }))
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One { .. } => 1,
            Self::Few { changes, .. } => changes.len(),
            Self::Long(long) => long.len(),
        }
    }

    /// The `i`th change, oldest first.
    pub(super) fn change(&self, i: usize) -> Change {
        match self {
            Self::One { main, sub, .. } => {
                assert_eq!(i, 0, "a single change has one place");
                Change { main: *main, sub: *sub, tombstone: false }
            }
            Self::Few { changes, .. } => changes[i],
            Self::Long(long) => long.change(i),
        }
    }

    pub(super) fn last(&self) -> Change {
        match self {
            Self::One { main, sub, .. } => Change { main: *main, sub: *sub, tombstone: false },
            Self::Few { changes, .. } => changes[changes.len() - 1],
            Self::Long(long) => long.last(),
        }
    }

    /// The key lives at the newest revision.
    pub(super) fn is_live(&self) -> bool {
        !self.last().tombstone
    }

    /// Number of changes with a main revision of at most `main`.
    #[inline]
    pub(super) fn count_until(&self, main: i64) -> usize {
        match self {
            Self::One { main: only, .. } => usize::from(*only <= main),
            Self::Few { changes, .. } => {
                // The newest revision is what nearly everybody asks for.
                if changes[changes.len() - 1].main <= main {
                    changes.len()
                } else {
                    changes.partition_point(|c| c.main <= main)
                }
            }
            Self::Long(long) => long.count_until(main),
        }
    }

    /// The revision of the row that holds the key's value at main revision `main`; `None` when the key does not
    /// exist then.
    #[inline]
    pub(super) fn revision_at(&self, main: i64) -> Option<Revision> {
        let mut change = self.last();
        // The newest revision is what nearly everybody asks for; only the past takes a search.
        if change.main > main {
            change = self.change(self.count_until(main).checked_sub(1)?);
        }
        (!change.tombstone).then(|| change.revision())
    }

    /// As [`revision_at`](Self::revision_at), with create revision and version.
    pub(super) fn meta_at(&self, main: i64) -> Option<KeyMeta> {
        let revision = self.revision_at(main)?;
        let is_last = self.last().main <= main;
        let (create_revision, version) = match self {
            Self::One { create, version, .. } => (*create, *version),
            Self::Long(long) if is_last => (long.last_create, long.last_version),
            Self::Few { .. } | Self::Long(_) => self.life_at(self.count_until(main) - 1),
        };
        Some(KeyMeta { create_revision, revision, version })
    }

    /// Create revision and version of the put at `i`.
    fn life_at(&self, i: usize) -> (i64, i64) {
        match self {
            Self::One { create, version, .. } => (*create, *version),
            Self::Few { create, version, changes } => life_at(*create, *version, i, |i| changes[i]),
            Self::Long(long) => long.life_at(i),
        }
    }

    /// Adds a change that is newer than all others.
    pub(super) fn append(&mut self, change: Change) {
        let last = self.last();
        assert!(
            (change.main, change.sub) > (last.main, last.sub),
            "a change at {} cannot follow one at {}",
            change.revision(),
            last.revision()
        );
        *self = match self {
            Self::One { create, version, .. } => {
                Self::Few { create: *create, version: *version, changes: Arc::new([last, change]) }
            }
            Self::Few { create, version, changes } if changes.len() < FEW_MAX => {
                Self::Few { create: *create, version: *version, changes: with(changes, change) }
            }
            Self::Few { create, version, changes } => {
                Self::from_changes(*create, *version, &with(changes, change))
            }
            Self::Long(long) => {
                Arc::make_mut(long).append(change);
                return;
            }
        };
    }

    /// What is left after compacting at `main`; revisions kept that are at or below `main` are reported to `keep`.
    ///
    /// The rule: of the generations, the first whose last revision is at or above `main` (else the last generation)
    /// is where history begins; in it the newest revision at or below `main` stays, and everything after it.
    /// A generation that ended before `main` leaves nothing. Changes are compared with their sub revisions, so that
    /// a key deleted and created again by one transaction keeps its last row.
    pub(super) fn compact(&self, main: i64, mut keep: impl FnMut(Revision)) -> Compacted {
        let len = self.len();
        let from = self.history_begins(main);
        for i in from..len {
            let change = self.change(i);
            if change.main > main {
                break;
            }
            keep(change.revision());
        }
        if from == 0 {
            return Compacted::Unchanged;
        }
        if from == len {
            return Compacted::Gone;
        }
        let (create, version) = self.life_at(from);
        let rest: Vec<Change> = (from..len).map(|i| self.change(i)).collect();
        Compacted::Cut(Self::from_changes(create, version, &rest))
    }

    /// Reports the revisions at or below `main` that count for the hash at `main`: those that
    /// [`compact`](Self::compact) would keep, without a tombstone.
    pub(super) fn hash_keep(&self, main: i64, mut keep: impl FnMut(Revision)) {
        for i in self.history_begins(main)..self.len() {
            let change = self.change(i);
            if change.main > main {
                break;
            }
            if !change.tombstone {
                keep(change.revision());
            }
        }
    }

    /// Index of the first change that a compaction at `main` keeps; the length if it keeps none.
    fn history_begins(&self, main: i64) -> usize {
        // Changes at or below `main`, and those strictly below it.
        let until = self.count_until(main);
        if until == 0 {
            return 0;
        }
        let below = self.count_until(main - 1);
        // A generation ends in a tombstone; the first one that ends at or above `main` ends at the first tombstone
        // from `below` on, or is the open one. It therefore begins after the last tombstone before `below`.
        let floor =
            if below > 0 && self.change(below - 1).tombstone { below } else { below.saturating_sub(1) };
        if floor == until {
            return floor;
        }
        // In that generation the newest change at or below `main` stays: look for where the generation ends.
        let first_end = (below..until).find(|&i| self.change(i).tombstone).unwrap_or(until - 1);
        first_end.max(floor)
    }

    /// All changes, oldest first.
    #[cfg(test)]
    pub(super) fn changes(&self) -> Vec<Change> {
        (0..self.len()).map(|i| self.change(i)).collect()
    }
}

/// A revision whose sub part fits 32 bits, as the index holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revision32 {
    pub(super) main: i64,
    pub(super) sub: u32,
}

/// A copy with one more change at the end.
fn with(changes: &[Change], change: Change) -> Arc<[Change]> {
    changes.iter().copied().chain(std::iter::once(change)).collect()
}

/// Create revision and version of the put at `i`, found by going back to the start of its generation.
fn life_at(first_create: i64, first_version: i64, i: usize, change: impl Fn(usize) -> Change) -> (i64, i64) {
    let start = (0..i).rev().find(|&j| change(j).tombstone).map_or(0, |j| j + 1);
    let distance = (i - start) as i64;
    if start == 0 { (first_create, first_version + distance) } else { (change(start).main, 1 + distance) }
}

impl Long {
    fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    fn last(&self) -> Change {
        let run = self.runs.last().expect("a history is never empty");
        run[run.len() - 1]
    }

    fn change(&self, mut i: usize) -> Change {
        for run in &self.runs {
            if i < run.len() {
                return run[i];
            }
            i -= run.len();
        }
        unreachable!("place {i} beyond the end of a history");
    }

    fn count_until(&self, main: i64) -> usize {
        let mut count = self.len();
        for run in self.runs.iter().rev() {
            count -= run.len();
            if run[0].main <= main {
                return count + run.partition_point(|c| c.main <= main);
            }
        }
        0
    }

    fn life_at(&self, i: usize) -> (i64, i64) {
        if i + 1 == self.len() && self.ends_in_put() {
            return (self.last_create, self.last_version);
        }
        life_at(self.first_create, self.first_version, i, |i| self.change(i))
    }

    fn ends_in_put(&self) -> bool {
        !self.last().tombstone
    }

    fn append(&mut self, change: Change) {
        let after_tombstone = !self.ends_in_put();
        if !change.tombstone {
            (self.last_create, self.last_version) =
                if after_tombstone { (change.main, 1) } else { (self.last_create, self.last_version + 1) };
        }
        match self.runs.last_mut() {
            Some(run) if run.len() < RUN_LEN => *run = with(run, change),
            _ => self.runs.push(Arc::new([change])),
        }
        if self.runs.last().is_some_and(|run| run.len() == RUN_LEN) {
            self.merge();
        }
    }

    /// Merges the last two runs while the one before is not longer.
    fn merge(&mut self) {
        while let [.., a, b] = &self.runs[..]
            && a.len() <= b.len()
            && a.len() + b.len() <= RUN_MAX
        {
            let merged: Arc<[Change]> = a.iter().chain(b.iter()).copied().collect();
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
    }
}
