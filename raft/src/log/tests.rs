//! The log against a plain vector: the same appends, truncations, snapshots and confirmations on both.

use proptest::prelude::*;

use super::{EntryId, RaftLog};
use crate::error::Error;
use crate::proto::{ConfState, Entry, Snapshot, SnapshotMetadata};
use crate::storage::{MemStorage, StorageError};

fn entries(index: u64, terms: &[u64]) -> Vec<Entry> {
    (index + 1..)
        .zip(terms)
        .map(|(index, &term)| Entry { index, term, data: vec![7; 10].into(), ..Entry::default() })
        .collect()
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    let metadata = SnapshotMetadata { conf_state: ConfState::new(&[1], &[]), index, term };
    Snapshot { metadata, ..Snapshot::default() }
}

/// Entries up to `stable` in storage, the rest unstable.
fn log(terms: &[u64], stable: usize) -> RaftLog<MemStorage> {
    let mut storage = MemStorage::new();
    storage.append(&entries(0, &terms[..stable])).unwrap();
    let mut log = RaftLog::new(storage, 1 << 20).unwrap();
    log.append(entries(stable as u64, &terms[stable..]));
    log
}

fn unstable(log: &RaftLog<MemStorage>) -> Vec<Entry> {
    let mut entries = Vec::new();
    log.next_unstable(&mut entries);
    entries
}

#[test]
fn slices_join_both_parts_and_end_at_the_limit() {
    // An entry takes 18 bytes encoded.
    for stable in 0..=6 {
        let log = log(&[1, 1, 2, 2, 3, 3], stable);
        for low in 1..=6u64 {
            for (limit, most) in [(0, 1), (17, 1), (36, 2), (53, 2), (u64::MAX, 6)] {
                let found = log.slice(low, log.last_index() + 1, limit).unwrap();
                let count = (7 - low).min(most);
                let indexes: Vec<u64> = found.iter().map(|e| e.index).collect();
                assert_eq!(
                    indexes,
                    (low..low + count).collect::<Vec<_>>(),
                    "{stable} stable, {low}, {limit}"
                );
            }
        }
        assert!(log.slice(7, log.last_index() + 1, 100).unwrap().is_empty());
    }
}

#[test]
fn what_is_compacted_or_beyond_the_end_is_an_error_and_never_a_zero() {
    let mut log = log(&[1, 1, 2, 2, 3], 4);
    log.storage.compact(2).unwrap();
    assert_eq!(log.term(1), Err(StorageError::Compacted { index: 1, first: 3 }));
    assert_eq!((log.term(2), log.term(5)), (Ok(1), Ok(3)), "the one just before the first stays known");
    assert_eq!(log.term(6), Err(StorageError::Unavailable { index: 6, last: 5 }));
    assert_eq!(log.slice(2, log.last_index() + 1, 100), Err(StorageError::Compacted { index: 2, first: 3 }));
    assert_eq!((log.known_term(1), log.known_term(6)), (Ok(None), Ok(None)));
}

#[test]
fn a_pending_snapshot_stands_for_everything_before_it() {
    let mut log = log(&[1, 1, 2], 3);
    log.restore(Box::new(snapshot(9, 4)));
    assert_eq!((log.first_index().unwrap(), log.last_index(), log.committed), (10, 9, 9));
    assert_eq!((log.term(9), log.last_id().unwrap()), (Ok(4), EntryId { index: 9, term: 4 }));
    assert_eq!(log.term(3), Err(StorageError::Compacted { index: 3, first: 10 }));
    log.append(entries(9, &[5]));
    assert!(!log.has_next_committed(true), "nothing is applied before it");
    log.accept_unstable();
    log.stable_snapshot_to(8);
    assert!(log.has_pending_snapshot(), "another one");
    log.storage.apply_snapshot(snapshot(9, 4)).unwrap();
    log.stable_snapshot_to(9);
    assert!(!log.has_pending_snapshot());
    assert_eq!(log.term(10), Ok(5));
}

#[test]
fn a_confirmation_counts_only_for_the_entry_it_names() {
    let mut log = log(&[1, 1, 2, 2], 2);
    log.accept_unstable();
    log.stable_to(EntryId { index: 4, term: 1 });
    log.stable_to(EntryId { index: 9, term: 2 });
    assert!(log.has_unstable());
    log.stable_to(EntryId { index: 3, term: 2 });
    assert!(log.has_unstable() && !log.has_next_unstable());
    log.stable_to(EntryId { index: 4, term: 2 });
    assert!(!log.has_unstable());
}

#[test]
fn truncation_hands_the_replaced_part_out_again() {
    // (first index of the new entries, what is to be written then).
    for (from, next) in [(7, vec![7]), (6, vec![6]), (5, vec![5]), (3, vec![3]), (2, vec![2])] {
        let mut log = log(&[1, 1, 1, 1, 1, 1], 4);
        log.accept_unstable();
        log.append(entries(from - 1, &[9]));
        assert_eq!(unstable(&log).iter().map(|e| e.index).collect::<Vec<_>>(), next);
        assert_eq!(log.last_index(), from);
    }
}

#[test]
fn commit_and_applied_stay_within_the_log() {
    let mut log = log(&[1, 1, 1], 3);
    assert_eq!(log.commit_to(4), Err(Error::CommitBeyondLog { commit: 4, last: 3 }));
    log.commit_to(2).unwrap();
    log.commit_to(1).unwrap();
    assert_eq!(log.committed, 2);
    assert!(matches!(log.applied_to(3, 0), Err(Error::AppliedOutOfRange { .. })));
    log.applied_to(2, 0).unwrap();
    assert!(matches!(log.applied_to(1, 0), Err(Error::AppliedOutOfRange { .. })));
}

#[derive(Clone, Debug)]
enum Op {
    /// A leader's entries behind a previous one that may or may not match.
    Take(u64, u64, Vec<u64>),
    /// Hand out, write and confirm what is unstable.
    Write,
    Compact(u64),
    Commit(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..14u64, 0..4u64, proptest::collection::vec(0..2u64, 0..5)).prop_map(|(p, t, steps)| {
            let ascending = steps.iter().scan(t.max(1), |term, step| { *term += step; Some(*term) });
            Op::Take(p, t, ascending.collect())
        }),
        3 => Just(Op::Write),
        1 => (0..14u64).prop_map(Op::Compact),
        2 => (0..14u64).prop_map(Op::Commit),
    ]
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn the_log_is_a_vector_of_terms(ops in proptest::collection::vec(op(), 1..40)) {
        let mut log = RaftLog::new(MemStorage::new(), 1 << 20).unwrap();
        // Term of each index; index 0 has term 0.
        let (mut model, mut committed, mut compacted) = (vec![0u64], 0usize, 0usize);
        for op in ops {
            match op {
                Op::Take(index, term, terms) => {
                    let fits = (compacted..model.len()).contains(&(index as usize)) && model[index as usize] == term;
                    let same = |(i, t): (usize, &u64)| model.get(i) == Some(t);
                    let start = index as usize + 1;
                    let agree = terms.iter().enumerate().take_while(|(i, t)| same((start + i, t))).count();
                    if start + agree <= committed && agree < terms.len() {
                        // Two leaders that committed different entries; the follower checks before it comes here.
                        continue;
                    }
                    let found = log.maybe_append(EntryId { index, term }, entries(index, &terms)).unwrap();
                    prop_assert_eq!(found, fits.then_some(index + terms.len() as u64));
                    if fits && agree < terms.len() {
                        model.truncate(start + agree);
                        model.extend(&terms[agree..]);
                    }
                }
                Op::Write => {
                    let next = unstable(&log);
                    let last = log.last_id().unwrap();
                    log.accept_unstable();
                    log.storage.append(&next).unwrap();
                    log.stable_to(last);
                    prop_assert!(!log.has_unstable());
                }
                Op::Compact(to) => {
                    if (to as usize) <= committed && log.storage.compact(to).is_ok() {
                        compacted = to as usize;
                    }
                }
                Op::Commit(to) => {
                    if log.commit_to(to).is_ok() {
                        committed = committed.max(to as usize);
                    } else {
                        prop_assert!(to as usize >= model.len());
                    }
                }
            }
            prop_assert_eq!(log.last_index() as usize, model.len() - 1);
            prop_assert_eq!(log.committed as usize, committed);
            for (index, term) in model.iter().enumerate().skip(compacted) {
                prop_assert_eq!(log.term(index as u64), Ok(*term));
            }
            for id in [(3, 1), (9, 2), (20, 3)].map(|(index, term)| EntryId { index, term }) {
                let found = log.find_conflict_by_term(id).unwrap();
                let from = (id.index as usize).min(model.len() - 1);
                let naive = (compacted..=from).rev().find(|i| model[*i] <= id.term);
                let below = if compacted > 0 { compacted as u64 - 1 } else { 0 };
                let known = from >= compacted && naive.is_some();
                let expected = if known { naive.map_or(0, |i| i as u64) } else { below.min(from as u64) };
                prop_assert_eq!(found.index, expected, "{:?} in {:?}, compacted {}", id, model, compacted);
            }
        }
    }
}
