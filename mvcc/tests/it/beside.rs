//! Readers, a committer and a compactor beside the one writer, on real threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use stanchion_mvcc::{Error, KeyRange, KeyValueRef, Put, RangeOptions, Store};

use crate::world::World;

const KEYS: u32 = 400;
const TRANSACTIONS: u32 = 6000;

/// Every transaction writes its number into two keys and moves a third between "there" and "not there", so that in any
/// image the two agree, and the count tells which transaction was the last.
fn write(store: &Store) {
    for n in 0..TRANSACTIONS {
        let mut txn = store.write();
        let value = n.to_be_bytes();
        txn.put(Put::new(b"a", &value)).expect("a put");
        let other = format!("k{:03}", n % KEYS);
        if (n / KEYS).is_multiple_of(2) {
            txn.put(Put::new(other.as_bytes(), &value)).expect("a put");
        } else {
            txn.delete_range(KeyRange::single(other.as_bytes()), false).expect("a delete");
        }
        txn.put(Put::new(b"z", &value)).expect("a put");
        assert_eq!(txn.end().revision, i64::from(n) + 2);
    }
}

/// Keys that live after transaction `n`.
fn expected_count(n: u32) -> u64 {
    let (round, done) = (n / KEYS, n % KEYS + 1);
    u64::from(2 + if round.is_multiple_of(2) { done } else { KEYS - done })
}

fn check_one_image(store: &Store) {
    let view = store.read();
    let all = view.range(KeyRange::ALL, &RangeOptions::default()).expect("a read");
    let Some(n) = view.revision().checked_sub(2).and_then(|n| u32::try_from(n).ok()) else {
        return assert_eq!(all.count, 0);
    };
    let values: Vec<_> = [0, all.rows.len() - 1]
        .map(|i| KeyValueRef::decode(&all.rows.get(i).expect("a row")).expect("a pair").value.to_vec())
        .to_vec();
    assert_eq!(values, [n.to_be_bytes(), n.to_be_bytes()], "both keys have the image's transaction");
    assert_eq!(
        (all.count, view.count(KeyRange::ALL, 0).expect("a count")),
        (expected_count(n), expected_count(n))
    );
    // The past of an image stays readable as long as the image does, whatever is compacted meanwhile.
    let past = view.revision() - 30;
    match view.count(KeyRange::ALL, past) {
        Ok(count) if past >= 2 => assert_eq!(count, expected_count(past as u32 - 2)),
        Ok(_) => {}
        Err(Error::Compacted { compacted, .. }) => assert!(compacted > past),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn sto_3_sto_4_images_are_whole_beside_writes_commits_and_compactions() {
    let world = World::new();
    let (store, stop) = (world.store(), AtomicBool::new(false));
    let running = || !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while running() {
                    check_one_image(store);
                }
            });
        }
        scope.spawn(|| {
            while running() {
                store.commit().expect("a commit");
            }
        });
        scope.spawn(|| {
            while running() {
                let at = store.revision() - 20;
                if at > store.compact_revision() && !store.is_compacting() {
                    store.compact(at).expect("an acceptable revision");
                }
                store.compaction_step(500).expect("a step");
            }
        });
        write(store);
        stop.store(true, Ordering::Relaxed);
    });
    check_one_image(store);
    assert!(store.compact_revision() > 0, "compactions ran beside the writer");
}
