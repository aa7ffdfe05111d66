//! The rules that indexes and terms of a log's entries keep.

/// How far an entry's term may lie above all that is known. Every election raises it by one: a leap of 2³² means that
/// something else was read as an entry (the CRC covers a record's payload, but not its type).
pub(crate) const TERM_LEAP_MAX: u64 = 1 << 32;

/// Why an entry does not fit where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Entries between the end of the log and this one are missing.
    #[error("entry {index} leaves a gap: the log ends before {next}")]
    Gap {
        /// Index of the entry.
        index: u64,
        /// The highest index that would fit.
        next: u64,
    },
    /// The entry's term is lower than that of the entry before it.
    #[error("entry {index} has term {term}, but the entry before it has term {before}")]
    TermBack {
        /// Index of the entry.
        index: u64,
        /// Its term.
        term: u64,
        /// Term of the entry with the index before.
        before: u64,
    },
    /// The entry's term is so far above all known ones that it cannot be a term.
    #[error("entry {index} has term {term}, more than 2^32 above {known}")]
    TermLeap {
        /// Index of the entry.
        index: u64,
        /// Its term.
        term: u64,
        /// The highest term known until then.
        known: u64,
    },
    /// The entry lies at or below an index that a snapshot covers.
    #[error("entry {index} is covered by the snapshot at {base}")]
    Covered {
        /// Index of the entry.
        index: u64,
        /// Index of the snapshot.
        base: u64,
    },
}

/// Where the log ends and which term each index has: `base < index < next`.
///
/// Terms are kept as runs, one per term and not one per entry.
#[derive(Debug)]
pub(crate) struct Order {
    /// Everything up to here is covered by a snapshot.
    base: u64,
    /// The index that follows the last entry; `next > base`.
    next: u64,
    /// First index and term of each run. Invariant: strictly rising in index; not empty; the first one is at `base`.
    runs: Vec<(u64, u64)>,
    /// The highest term of hard state or entries.
    known_term: u64,
}

impl Order {
    /// A log that continues after a snapshot (0, 0 for none).
    pub(crate) fn after(index: u64, term: u64) -> Self {
        Self { base: index, next: index.saturating_add(1), runs: vec![(index, term)], known_term: term }
    }

    /// Index that the next entry has when nothing is overwritten.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Learns the term of a hard state.
    pub(crate) fn observe_term(&mut self, term: u64) {
        self.known_term = self.known_term.max(term);
    }

    /// Takes in an entry; one with an index below `next` drops all entries from there on.
    #[inline]
    pub(crate) fn admit(&mut self, index: u64, term: u64) -> Result<(), OrderError> {
        if index > self.next {
            return Err(OrderError::Gap { index, next: self.next });
        }
        if index <= self.base {
            return Err(OrderError::Covered { index, base: self.base });
        }
        // The run before `index` always exists: the first run starts at `base`.
        let kept = self.runs.partition_point(|&(first, _)| first < index);
        let before = self.runs[kept - 1].1;
        if term < before {
            return Err(OrderError::TermBack { index, term, before });
        }
        if term > self.known_term.saturating_add(TERM_LEAP_MAX) {
            return Err(OrderError::TermLeap { index, term, known: self.known_term });
        }
        self.runs.truncate(kept);
        if term > before {
            self.runs.push((index, term));
        }
        self.next = index.saturating_add(1);
        self.known_term = self.known_term.max(term);
        Ok(())
    }

    /// A snapshot was marked. A log that has its last entry, of this term, goes on; any other was replaced by it and
    /// starts anew behind it.
    pub(crate) fn install(&mut self, index: u64, term: u64) {
        if index >= self.base && self.term_at(index) != Some(term) {
            let known_term = self.known_term.max(term);
            *self = Self { known_term, ..Self::after(index, term) };
        }
    }

    /// An entry of this term was written at or below the base: everything that stood behind it is void.
    pub(crate) fn rewind_below_base(&mut self, term: u64) {
        self.runs.clear();
        self.runs.push((self.base, term));
        self.next = self.base.saturating_add(1);
        self.known_term = self.known_term.max(term);
    }

    /// Forgets the terms before `index`, which is the first entry that may still be overwritten.
    pub(crate) fn forget_before(&mut self, index: u64) {
        let base = index.saturating_sub(1);
        if base <= self.base || base >= self.next {
            return;
        }
        let kept = self.runs.partition_point(|&(first, _)| first <= base);
        self.runs.drain(..kept - 1);
        self.runs[0].0 = base;
        self.base = base;
    }

    /// The term of the entry at `index`, or of the snapshot at the base.
    fn term_at(&self, index: u64) -> Option<u64> {
        if index < self.base || index >= self.next {
            return None;
        }
        let run = self.runs.partition_point(|&(first, _)| first <= index);
        Some(self.runs[run - 1].1)
    }
}

impl Clone for Order {
    fn clone(&self) -> Self {
        Self { base: self.base, next: self.next, runs: self.runs.clone(), known_term: self.known_term }
    }

    /// Without an allocation where the runs fit.
    fn clone_from(&mut self, source: &Self) {
        self.base = source.base;
        self.next = source.next;
        self.runs.clone_from(&source.runs);
        self.known_term = source.known_term;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_and_odd_terms_are_refused() {
        let mut order = Order::after(5, 2);
        assert_eq!(order.admit(7, 2), Err(OrderError::Gap { index: 7, next: 6 }));
        assert_eq!(order.admit(6, 1), Err(OrderError::TermBack { index: 6, term: 1, before: 2 }));
        assert_eq!(
            order.admit(6, 3 + TERM_LEAP_MAX),
            Err(OrderError::TermLeap { index: 6, term: 3 + TERM_LEAP_MAX, known: 2 })
        );
        assert_eq!(order.admit(5, 2), Err(OrderError::Covered { index: 5, base: 5 }));
        assert_eq!(order.next(), 6, "a refused entry changes nothing");
        order.admit(6, 2).unwrap();
        order.admit(7, 4).unwrap();
        order.admit(7, 3).unwrap();
        assert_eq!(order.next(), 8);
    }

    #[test]
    fn a_snapshot_ahead_starts_the_log_anew() {
        let mut order = Order::after(0, 0);
        order.admit(1, 1).unwrap();
        order.install(74, 3);
        assert_eq!(order.admit(76, 3), Err(OrderError::Gap { index: 76, next: 75 }));
        order.admit(75, 3).unwrap();
        order.install(70, 3);
        assert_eq!(order.next(), 76, "a snapshot behind the end keeps the log");
        order.admit(76, 4).unwrap();
        order.install(76, 4);
        order.install(75, 3);
        assert_eq!(order.next(), 77, "so does one of an entry that it has");
        order.install(76, 5);
        assert_eq!(order.next(), 77, "but one of another term replaces it");
        assert!(order.admit(77, 4).is_err());
    }

    #[test]
    fn what_is_not_before_the_released_entry_may_be_overwritten() {
        let mut order = Order::after(0, 0);
        for index in 1..=10 {
            order.admit(index, 1).unwrap();
        }
        order.forget_before(8);
        assert_eq!(order.admit(7, 2), Err(OrderError::Covered { index: 7, base: 7 }));
        order.admit(8, 2).unwrap();
    }

    proptest! {
        /// Against a plain vector of terms.
        #[test]
        fn agrees_with_a_plain_log(ops in proptest::collection::vec((0..12_u64, -1..3_i64, proptest::bool::weighted(0.2)), 0..60)) {
            let mut order = Order::after(0, 0);
            let mut terms = vec![0_u64];
            for (back, raise, forget) in ops {
                let last = terms.len() as u64 - 1;
                let index = (last + 1).saturating_sub(back);
                let term = terms[last as usize].saturating_add_signed(raise);
                if forget {
                    order.forget_before(index);
                    continue;
                }
                if index <= order.base {
                    continue;
                }
                let fits = term >= terms[index as usize - 1];
                prop_assert_eq!(order.admit(index, term).is_ok(), fits);
                if fits {
                    terms.truncate(index as usize);
                    terms.push(term);
                }
                prop_assert_eq!(order.next(), terms.len() as u64);
            }
        }
    }
}
