//! Shrinking beside a writer and a reader: the file gets about as short as what is in it, and nobody notices.

use stanchion_mvcc::{CompactionStep, KeyRange, Put, RangeOptions, Store};

use crate::world::World;

const KEYS: u32 = 40;
const ROUNDS: u32 = 60;

fn put_all(store: &Store, round: u32) {
    for key in 0..KEYS {
        let mut txn = store.write();
        txn.put(Put::new(&key.to_be_bytes(), &[round as u8; 2000])).expect("a put");
        assert_eq!(txn.end().events.len(), 1);
    }
    store.commit().expect("a commit");
}

fn compact(store: &Store) {
    store.compact(store.revision()).expect("the current revision");
    while store.compaction_step(100).expect("a step") != CompactionStep::Idle {}
}

#[test]
fn the_file_shrinks_while_the_store_is_used() {
    let mut world = World::new();
    let store = world.store();
    for round in 0..ROUNDS {
        put_all(store, round);
    }
    let full = store.size();
    compact(store);
    let (in_use, revision) = (store.size_in_use(), store.revision());
    assert!(full > 3 * in_use, "{full} bytes, {in_use} in use");
    let all = |store: &Store, revision| {
        let options = RangeOptions { revision, ..RangeOptions::default() };
        store.read().range(KeyRange::ALL, &options).expect("a read").rows.framed().to_vec()
    };
    let before = all(store, revision);
    let mut reader = Some(store.read());
    let (mut steps, mut waited) = (0, 0);
    loop {
        let step = store.shrink_step(8).expect("a step");
        assert!(step.pages_moved <= 8 + 8, "{step:?}");
        assert_eq!(all(store, revision), before, "what can be read stays as it is");
        if step.waits_for_readers {
            let held = reader.take().expect("only an open reader can keep us waiting");
            assert_eq!(
                held.range(KeyRange::ALL, &RangeOptions::default()).expect("a read").rows.framed(),
                &before
            );
            waited += 1;
        }
        if step.done {
            break;
        }
        // The writer goes on.
        if steps < 20 {
            let mut txn = store.write();
            txn.put(Put::new(b"beside", &[steps; 100])).expect("a put");
            assert_eq!(txn.end().events.len(), 1);
            if steps % 4 == 0 {
                store.commit().expect("a commit");
            }
        }
        steps += 1;
        assert!(steps < 250, "shrinking does not end");
    }
    let (size, hash) = (store.size(), store.hash_kv(0).expect("a hash"));
    assert!(size < full / 2, "{full} bytes became {size}, {in_use} in use; waited {waited} times");
    let last = store.revision();
    assert!(last > revision, "the writer went on");
    assert_eq!(world.restart().revision, last);
    assert_eq!(all(world.store(), revision), before);
    assert_eq!(world.store().hash_kv(0).expect("a hash").hash, hash.hash);
}
