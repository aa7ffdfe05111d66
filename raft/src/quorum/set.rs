//! A small sorted set of node IDs. Iteration is in ID order, which makes every output repeatable.

use smallvec::SmallVec;

/// Node IDs, each once, ascending (a configuration's servers: paper, 6). Up to seven need no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdSet(SmallVec<[u64; 7]>);

impl IdSet {
    /// True when `id` is in it (a server of the configuration: paper, 6).
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// Adds `id`; false if it was there.
    pub fn insert(&mut self, id: u64) -> bool {
        let Err(at) = self.0.binary_search(&id) else { return false };
        self.0.insert(at, id);
        true
    }

    /// Removes `id`; false if it was not there.
    pub fn remove(&mut self, id: u64) -> bool {
        let Ok(at) = self.0.binary_search(&id) else { return false };
        self.0.remove(at);
        true
    }

    /// Number of IDs (the n of which a quorum is a majority: paper, 5.1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The IDs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    /// The IDs, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl FromIterator<u64> for IdSet {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        let mut v: SmallVec<[u64; 7]> = ids.into_iter().collect();
        v.sort_unstable();
        v.dedup();
        Self(v)
    }
}
