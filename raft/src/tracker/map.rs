//! Progress by node ID, in ID order.

use super::Progress;

/// A sorted table of progress (`nextIndex[]` and `matchIndex[]` of the paper's figure 2). Lookups in large tables are
/// binary searches, iteration is in ID order.
#[derive(Clone, Debug, Default)]
pub struct ProgressMap(Vec<(u64, Progress)>);

/// Up to so many peers are searched one after the other: the processor foresees where that ends, while the steps of a
/// binary search wait for each other.
const FEW: usize = 8;

impl ProgressMap {
    #[inline]
    fn position(&self, id: u64) -> Result<usize, usize> {
        if self.0.len() > FEW {
            return self.0.binary_search_by_key(&id, |(peer, _)| *peer);
        }
        let at = self.0.iter().position(|(peer, _)| *peer >= id).unwrap_or(self.0.len());
        if self.0.get(at).is_some_and(|(peer, _)| *peer == id) { Ok(at) } else { Err(at) }
    }

    /// Progress of `id` (`nextIndex[]` and `matchIndex[]`: paper, figure 2).
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Progress> {
        self.position(id).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Progress> {
        self.position(id).ok().map(|at| &mut self.0[at].1)
    }

    /// True when `id` is tracked (members: paper, 6).
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.position(id).is_ok()
    }

    pub(crate) fn insert(&mut self, id: u64, progress: Progress) {
        match self.position(id) {
            Ok(at) => self.0[at].1 = progress,
            Err(at) => self.0.insert(at, (id, progress)),
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        if let Ok(at) = self.position(id) {
            self.0.remove(at);
        }
    }

    /// Number of peers, this node included (`nextIndex` and `matchIndex` of each: paper, figure 2).
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nobody is tracked: there is no configuration yet (paper, 6).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// ID and progress in ID order (paper, figure 2).
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Progress)> {
        self.0.iter().map(|(id, p)| (*id, p))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Progress)> {
        self.0.iter_mut().map(|(id, p)| (*id, p))
    }

    /// Where `id` stands in ID order, until one is inserted or removed.
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        self.position(id).ok()
    }

    /// The `at`-th peer in ID order; visiting by position leaves the table free for changes in between.
    pub(crate) fn id_at(&self, at: usize) -> Option<u64> {
        self.0.get(at).map(|(id, _)| *id)
    }

    pub(crate) fn get_at(&self, at: usize) -> Option<(u64, &Progress)> {
        self.0.get(at).map(|(id, pr)| (*id, pr))
    }

    pub(crate) fn get_at_mut(&mut self, at: usize) -> Option<&mut Progress> {
        self.0.get_mut(at).map(|(_, pr)| pr)
    }
}
