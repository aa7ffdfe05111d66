//! Which pages are free, and which become free when older readers have ended.
//!
//! Free pages are runs of neighbours, indexed by place and (runs of two and more) by size, so that allocating or
//! freeing costs O(log runs) and nothing in a commit grows with the number of free pages.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// Neighbouring pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// Set of free pages.
///
/// Invariants: runs do not touch each other; `by_size` holds exactly the runs of two and more pages; `count` is the
/// sum of the lengths.
#[derive(Clone, Debug, Default)]
pub(crate) struct FreeRuns {
    by_start: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    count: u64,
}

impl FreeRuns {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.by_start.iter().map(|(&start, &len)| Run { start, len })
    }

    /// Adds a run and joins it with its neighbours; a page that is free already is an error.
    pub(crate) fn insert(&mut self, run: Run) -> Result<()> {
        let Run { mut start, mut len } = run;
        let before = self.by_start.range(..=start).next_back().map(|(&s, &l)| (s, l));
        let after = self.by_start.range(start + 1..).next().map(|(&s, &l)| (s, l));
        if before.is_some_and(|(s, l)| s + l > start) || after.is_some_and(|(s, _)| start + len > s) {
            return Err(Error::corrupt(start, "freed twice"));
        }
        self.count += len;
        if let Some((s, l)) = before.filter(|(s, l)| s + l == start) {
            self.unlink(s, l);
            (start, len) = (s, l + len);
        }
        if let Some((s, l)) = after.filter(|(s, _)| start + len == *s) {
            self.unlink(s, l);
            len += l;
        }
        self.link(start, len);
        Ok(())
    }

    /// Takes the lowest run whole, whatever its length.
    pub(crate) fn take_lowest(&mut self) -> Option<Run> {
        let (&start, &len) = self.by_start.iter().next()?;
        self.unlink(start, len);
        self.count -= len;
        Some(Run { start, len })
    }

    /// Takes `len` neighbouring pages (two or more) from the smallest run that has them, the lowest of equals.
    pub(crate) fn take_run(&mut self, len: u64) -> Option<Run> {
        let &(size, start) = self.by_size.range((len, 0)..).next()?;
        self.unlink(start, size);
        if size > len {
            self.link(start + len, size - len);
        }
        self.count -= len;
        Some(Run { start, len })
    }

    fn link(&mut self, start: u64, len: u64) {
        self.by_start.insert(start, len);
        if len > 1 {
            self.by_size.insert((len, start));
        }
    }

    fn unlink(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        if len > 1 {
            self.by_size.remove(&(len, start));
        }
    }
}

/// Pages that a commit freed, with the transaction that had written them.
#[derive(Clone, Copy, Debug)]
struct Pending {
    run: Run,
    written_by: u64,
}

/// Free pages, and pages waiting for readers to end.
#[derive(Debug, Default)]
pub(crate) struct Freelist {
    pub(crate) free: FreeRuns,
    /// By freeing transaction. A page freed by T and written by W is visible to readers of W..T.
    pending: BTreeMap<u64, Vec<Pending>>,
    pending_count: u64,
    /// Which transaction wrote a page (by first page id), as far as a reader was open when it was written; others
    /// count as written by 0. Bounded by what is written while one reader stays open.
    written_by: BTreeMap<u64, u64>,
}

impl Freelist {
    pub(crate) fn new(free: FreeRuns) -> Self {
        Self { free, ..Self::default() }
    }

    pub(crate) fn pending_count(&self) -> u64 {
        self.pending_count
    }

    pub(crate) fn pending_runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.pending.values().flatten().map(|p| p.run)
    }

    /// Notes what transaction `txid` freed and wrote, when it has committed.
    pub(crate) fn commit(
        &mut self,
        txid: u64,
        freed: &[Run],
        written: impl Iterator<Item = u64>,
        readers: bool,
    ) {
        let mut list = Vec::with_capacity(freed.len());
        for &run in freed {
            let written_by = self.written_by.remove(&run.start).unwrap_or(0);
            list.push(Pending { run, written_by });
            self.pending_count += run.len;
        }
        if !list.is_empty() {
            self.pending.insert(txid, list);
        }
        if readers {
            self.written_by.extend(written.map(|page| (page, txid)));
        } else {
            self.written_by.clear();
        }
    }

    /// Makes every pending page free that none of `readers` (transaction ids, ascending) can see.
    pub(crate) fn release(&mut self, readers: &[u64]) -> Result<()> {
        let mut runs = Vec::new();
        self.pending.retain(|&freed_by, list| {
            list.retain(|p| {
                let first_inside = readers.partition_point(|&r| r < p.written_by);
                let visible = readers.get(first_inside).is_some_and(|&r| r < freed_by);
                if !visible {
                    runs.push(p.run);
                }
                visible
            });
            !list.is_empty()
        });
        runs.sort_unstable();
        for run in runs {
            self.pending_count -= run.len;
            self.free.insert(run)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet as Set;

    fn pages(runs: &FreeRuns) -> Set<u64> {
        runs.runs().flat_map(|r| r.start..r.start + r.len).collect()
    }

    #[test]
    fn a_page_freed_twice_is_refused() {
        let mut free = FreeRuns::default();
        free.insert(Run { start: 10, len: 3 }).unwrap();
        for run in [Run { start: 12, len: 1 }, Run { start: 9, len: 2 }, Run { start: 5, len: 20 }] {
            assert!(free.insert(run).is_err(), "{run:?}");
        }
        assert_eq!(free.count(), 3);
    }

    #[test]
    fn pages_between_two_readers_become_free() {
        let mut list = Freelist::default();
        list.commit(5, &[], [100].into_iter(), true);
        list.commit(6, &[Run { start: 100, len: 1 }, Run { start: 50, len: 1 }], [].into_iter(), true);
        list.release(&[4, 6]).unwrap();
        // Page 100 lived in transaction 5 only; page 50 is older than reader 4 and still seen by it.
        assert_eq!(pages(&list.free), Set::from([100]));
        list.release(&[6]).unwrap();
        assert_eq!(pages(&list.free), Set::from([50, 100]));
        assert_eq!(list.pending_count(), 0);
    }

    proptest! {
        #[test]
        fn the_set_behaves_like_a_set(ops in prop::collection::vec((0_u8..4, 2_u64..200, 1_u64..6), 1..200)) {
            let mut free = FreeRuns::default();
            let mut model = Set::new();
            for (op, start, len) in ops {
                let taken = match op {
                    0 | 1 => {
                        let new = start..start + len;
                        let fits = new.clone().all(|p| !model.contains(&p));
                        prop_assert_eq!(free.insert(Run { start, len }).is_ok(), fits);
                        if fits { model.extend(new); }
                        None
                    }
                    2 => free.take_lowest(),
                    _ => free.take_run(len + 1),
                };
                if let Some(run) = taken {
                    for page in run.start..run.start + run.len {
                        prop_assert!(model.remove(&page));
                    }
                }
                prop_assert_eq!(&pages(&free), &model);
                prop_assert_eq!(free.count(), model.len() as u64);
                let all: Vec<Run> = free.runs().collect();
                prop_assert!(all.windows(2).all(|w| w[0].start + w[0].len < w[1].start));
                let sized: Set<(u64, u64)> = all.iter().filter(|r| r.len > 1).map(|r| (r.len, r.start)).collect();
                prop_assert_eq!(&free.by_size, &sized);
            }
        }
    }
}
