//! Which pages are free, and which become free when older readers have ended.
//!
//! A page is looked at when it is freed, and again only when the reader it waits for has ended: beginning a
//! transaction costs what has changed, not what is pending.

use std::collections::{BTreeMap, VecDeque};

use crate::error::Result;
use crate::free_set::{FreeSet, Run};

/// Pages that a commit freed. Readers of the commits from `written_by` up to the one before `freed_by` see them.
#[derive(Clone, Copy, Debug)]
struct Pending {
    run: Run,
    written_by: u64,
    freed_by: u64,
}

impl Pending {
    /// The oldest of `readers` (transaction ids, ascending) that sees the pages. Readers that begin later do not.
    fn holder(&self, readers: &[u64]) -> Option<u64> {
        let first_inside = readers.partition_point(|&r| r < self.written_by);
        readers.get(first_inside).copied().filter(|&r| r < self.freed_by)
    }
}

/// Free pages, and pages waiting for readers to end.
#[derive(Debug, Default)]
pub(crate) struct Freelist {
    pub(crate) free: FreeSet,
    /// Freed by commits since the last [`Self::release`].
    fresh: Vec<Pending>,
    /// Pages waiting for readers, by one reader that sees them.
    held: BTreeMap<u64, Vec<Pending>>,
    pending_count: u64,
    /// Which transaction wrote a page (by first page id), if it is younger than the oldest reader; all others count
    /// as written by 0. Bounded by what is written while one reader stays open.
    written_by: BTreeMap<u64, u64>,
    /// The same by transaction, oldest first, to forget what the oldest reader has made irrelevant.
    written: VecDeque<(u64, Vec<u64>)>,
}

impl Freelist {
    pub(crate) fn new(free: FreeSet) -> Self {
        Self { free, ..Self::default() }
    }

    pub(crate) fn pending_count(&self) -> u64 {
        self.pending_count
    }

    pub(crate) fn pending_runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.held.values().flatten().chain(&self.fresh).map(|p| p.run)
    }

    /// Notes what transaction `txid` freed and wrote, when it has committed; `oldest` is the oldest reader then.
    pub(crate) fn commit(&mut self, txid: u64, freed: &[Run], written: Vec<u64>, oldest: Option<u64>) {
        self.fresh.reserve(freed.len());
        for &run in freed {
            let written_by = self.written_by.remove(&run.start).unwrap_or(0);
            self.fresh.push(Pending { run, written_by, freed_by: txid });
            self.pending_count += run.len;
        }
        let Some(oldest) = oldest else {
            self.written_by.clear();
            self.written.clear();
            return;
        };
        self.written_by.extend(written.iter().map(|&page| (page, txid)));
        self.written.push_back((txid, written));
        while self.written.front().is_some_and(|(writer, _)| *writer <= oldest) {
            let Some((writer, pages)) = self.written.pop_front() else { break };
            for page in pages {
                if self.written_by.get(&page) == Some(&writer) {
                    self.written_by.remove(&page);
                }
            }
        }
    }

    /// Makes every pending page free that none of `readers` (transaction ids, ascending) can see.
    pub(crate) fn release(&mut self, readers: &[u64]) -> Result<()> {
        let mut look_at = std::mem::take(&mut self.fresh);
        let ended: Vec<u64> =
            self.held.keys().copied().filter(|r| readers.binary_search(r).is_err()).collect();
        for reader in ended {
            look_at.extend(self.held.remove(&reader).unwrap_or_default());
        }
        for pending in look_at {
            match pending.holder(readers) {
                Some(reader) => self.held.entry(reader).or_default().push(pending),
                None => {
                    self.pending_count -= pending.run.len;
                    self.free.insert(pending.run)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pages(free: &FreeSet) -> BTreeSet<u64> {
        free.runs().flat_map(|r| r.start..r.end()).collect()
    }

    #[test]
    fn pages_between_two_readers_become_free() {
        let mut list = Freelist::default();
        list.commit(5, &[], vec![100], Some(4));
        list.commit(6, &[Run { start: 100, len: 1 }, Run { start: 50, len: 1 }], vec![], Some(4));
        list.release(&[4, 6]).unwrap();
        // Page 100 lived in transaction 5 only; page 50 is older than reader 4 and still seen by it.
        assert_eq!(pages(&list.free), BTreeSet::from([100]));
        list.release(&[6]).unwrap();
        assert_eq!(pages(&list.free), BTreeSet::from([50, 100]));
        assert_eq!(list.pending_count(), 0);
    }

    #[test]
    fn what_the_oldest_reader_sees_is_not_remembered_by_writer() {
        let mut list = Freelist::default();
        for txid in 5..100 {
            list.commit(txid, &[], vec![txid * 10], Some(txid - 3));
        }
        assert!(list.written_by.len() <= 3 && list.written.len() <= 3);
    }

    proptest! {
        /// One page a transaction: freed by the transaction that a random choice names, readers coming and going. A
        /// page is free exactly when no reader sees it.
        #[test]
        #[cfg_attr(miri, ignore = "safe code; takes hours")]
        fn pages_are_free_when_nobody_sees_them(steps in prop::collection::vec((0_u8..4, any::<u16>()), 1..80)) {
            let mut list = Freelist::default();
            let (mut txid, mut readers) = (1_u64, Vec::<u64>::new());
            // Live pages with their writers, and dead ones with writer and freer; page 1000 + t is written by t.
            let (mut live, mut dead) = (Vec::new(), Vec::new());
            for (op, choice) in steps {
                match op {
                    0 => { readers.push(txid); readers.sort_unstable(); }
                    1 if !readers.is_empty() => { readers.remove(usize::from(choice) % readers.len()); }
                    _ => {
                        let mut ids = readers.clone();
                        ids.dedup();
                        list.release(&ids).unwrap();
                        let sees = |w: u64, f: u64| ids.iter().any(|&r| r >= w && r < f);
                        let free = pages(&list.free);
                        for &(page, w, f) in &dead {
                            // Pages written while no reader was open count as old: they may be kept, never given.
                            prop_assert!(!(free.contains(&page) && sees(w, f)), "page {page} of {w}..{f}");
                        }
                        prop_assert!(!ids.is_empty() || list.pending_count() == 0);
                        txid += 1;
                        let mut freed = Vec::new();
                        if !live.is_empty() {
                            let (page, w) = live.swap_remove(usize::from(choice) % live.len());
                            dead.push((page, w, txid));
                            freed.push(Run { start: page, len: 1 });
                        }
                        live.push((1000 + txid, txid));
                        list.commit(txid, &freed, vec![1000 + txid], ids.first().copied());
                    }
                }
            }
        }
    }
}
