//! What keys weigh in memory, by an allocator that counts; a binary of its own, so that no other test allocates beside it.

use std::alloc::System;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cap::Cap;
use stanchion_disk::RealDisk;
use stanchion_mvcc::{Put, Store, StoreOptions};

#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

const KEYS: u32 = 100_000;
/// Keys written before the scales are set to zero, so that what a store has once (the record of recent births, the
/// file engine's buffers) is there and full.
const FIRST_KEYS: u32 = 20_000;
const KEY_LEN: usize = 16;
/// What a key may cost beside its own bytes, with one revision.
const PER_KEY: usize = 96;
/// What each further revision may cost.
const PER_REVISION: usize = 24;
/// Small commits, as the file engine keeps the buffers of the last one.
const COMMIT_KEYS: u32 = 500;

/// Keys in an order that is neither theirs nor its reverse.
fn key(i: u32) -> [u8; KEY_LEN] {
    let mut key = *b"/memory/________";
    key[8..].copy_from_slice(&u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

fn open(path: &Path) -> Store {
    let options = StoreOptions { restore_threads: 1, sync: false, ..StoreOptions::default() };
    Store::open(Arc::new(RealDisk), path, &options).unwrap().0
}

fn put_keys(store: &Store, keys: Range<u32>) {
    for i in keys {
        let mut txn = store.write();
        txn.put(Put::new(&key(i), b"value")).unwrap();
        assert_eq!(txn.end().events.len(), 1);
        if i % COMMIT_KEYS == COMMIT_KEYS - 1 {
            store.commit().unwrap();
        }
    }
}

/// Bytes that a key may cost with so many revisions.
fn bound(revisions: usize) -> usize {
    KEY_LEN + PER_KEY + PER_REVISION * (revisions - 1)
}

fn check(before: usize, keys: u32, revisions: usize, when: &str) {
    let each = (ALLOCATED.allocated() - before).div_ceil(keys as usize);
    // The lower bound shows that it is the keys that are weighed.
    assert!(
        (KEY_LEN + 16 * revisions..=bound(revisions)).contains(&each),
        "{each} bytes for a key of {KEY_LEN} bytes with {revisions} revisions {when}, at most {} allowed",
        bound(revisions)
    );
}

#[test]
fn a_key_costs_at_most_its_length_and_96_bytes_and_24_for_each_further_revision() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = open(&path);
    put_keys(&store, KEYS..KEYS + FIRST_KEYS);
    let before = ALLOCATED.allocated();
    for revisions in 1..=10 {
        put_keys(&store, 0..KEYS);
        check(before, KEYS, revisions, "as written");
    }
    drop(store);

    let before = ALLOCATED.allocated();
    let store = open(&path);
    check(before, KEYS + FIRST_KEYS, 10, "after a restart");
    assert_eq!(store.key_count(), u64::from(KEYS + FIRST_KEYS));
}
