//! Power cuts: the file is always at exactly the applied index it names, and replay from there ends in the same bytes.

use std::path::Path;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use stanchion_disk::SimDisk;
use stanchion_mvcc::{Applied, CompactionStep, Error, KeyRange, Put, Recovered, Store, StoreOptions, schema};

use crate::world::cases;

/// Log entries in a run.
const ENTRIES: u64 = 60;

fn open(disk: &SimDisk) -> Result<(Store, Recovered), Error> {
    let options = StoreOptions { restore_threads: 1, ..StoreOptions::default() };
    Store::open(Arc::new(disk.clone()), Path::new("db"), &options)
}

/// Applies the log entry `index`: what it does follows from the seed and the index alone.
fn apply(store: &Store, seed: u64, index: u64) -> Result<(), Error> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ index << 32);
    let mut txn = store.write();
    txn.set_applied(Applied { index, term: 1 + index / 20 });
    for _ in 0..1 + random.next_u64() % 3 {
        let key = format!("k{:02}", random.next_u64() % 30);
        match random.next_u64() % 8 {
            0 => {
                txn.delete_range(KeyRange::single(key.as_bytes()), false)?;
            }
            1 => {
                txn.delete_range(KeyRange::from_request(key.as_bytes(), b"k99"), false)?;
            }
            2 => schema::put_lease(
                &mut txn,
                schema::LeaseRecord { id: index as i64, ttl: 60, remaining_ttl: 0 },
            ),
            _ => {
                // Some values span many pages, so that there is something to give back when they are gone.
                let most = if random.next_u64().is_multiple_of(6) { 60_000 } else { 600 };
                let value = vec![index as u8; (random.next_u64() % most) as usize];
                txn.put(Put::new(key.as_bytes(), &value))?;
            }
        }
    }
    let _told = txn.end();
    if random.next_u64().is_multiple_of(9) {
        let at = store.revision() - (random.next_u64() % 5) as i64;
        if at > store.compact_revision() {
            let mut txn = store.write();
            txn.set_applied(Applied { index, term: 1 + index / 20 });
            txn.compact(at)?;
            let _told = txn.end();
        }
    }
    Ok(())
}

/// Applies the entries after `from`, with commits and steps of compaction and shrinking wherever the seed puts them. The
/// number of pages that shrinking moved.
fn run(store: &Store, seed: u64, from: u64) -> Result<u64, Error> {
    let mut moved = 0;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(!seed ^ from);
    for index in from + 1..=ENTRIES {
        apply(store, seed, index)?;
        match random.next_u64() % 5 {
            0 => drop(store.commit()?),
            1 => drop(store.compaction_step(10)?),
            2 => moved += store.shrink_step(8)?.pages_moved,
            _ => {}
        }
    }
    while store.compaction_step(10)? != CompactionStep::Idle {}
    store.commit()?;
    Ok(moved + shrink(store)?)
}

/// Shrinks the file to the end; the number of pages that were moved.
fn shrink(store: &Store) -> Result<u64, Error> {
    let mut moved = 0;
    for _ in 0..1000 {
        let step = store.shrink_step(8)?;
        assert!(!step.waits_for_readers, "nobody reads");
        moved += step.pages_moved;
        if step.done {
            return Ok(moved);
        }
    }
    panic!("shrinking does not end");
}

/// What must be equal in the end: all bytes of the file that members compare.
fn fingerprint(store: &Store) -> (u32, u32, i64) {
    let view = store.read();
    let file = view.hash_file().expect("a hash");
    (file, view.hash_kv(0).expect("a hash").hash, view.revision())
}

/// The revision after each entry, and the end, without crashes.
fn without_crashes(seed: u64) -> (Vec<i64>, (u32, u32, i64)) {
    let disk = SimDisk::new(seed);
    let (store, _) = open(&disk).expect("a new store");
    let mut revisions = vec![1];
    for index in 1..=ENTRIES {
        apply(&store, seed, index).expect("no crash");
        revisions.push(store.revision());
    }
    while store.compaction_step(10).expect("no crash") != CompactionStep::Idle {}
    store.commit().expect("no crash");
    (revisions, fingerprint(&store))
}

/// One crash at the disk's `at`th change, then everything that a restart does.
fn crash(seed: u64, at: u64, survivor: u64, revisions: &[i64], expected: (u32, u32, i64)) {
    let disk = SimDisk::new(seed);
    disk.crash_at(at);
    if let Ok((store, _)) = open(&disk) {
        let _error = run(&store, seed, 0);
    }
    disk.cut_power();
    let disk = disk.after_power_cut(survivor);
    let case = format!("seed {seed}, crash at {at}, survivor {survivor}");
    let (store, recovered) = open(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    let index = recovered.applied.index;
    assert_eq!(recovered.revision, revisions[index as usize], "{case}: the revision after entry {index}");
    run(&store, seed, index).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(fingerprint(&store), expected, "{case}");
}

#[test]
fn cmp_6_a_power_cut_leaves_the_state_of_the_applied_index() {
    let mut moved = 0;
    for seed in 0..u64::from(cases(6)) {
        let (revisions, expected) = without_crashes(seed);
        let disk = SimDisk::new(seed);
        let (store, _) = open(&disk).expect("a new store");
        moved += run(&store, seed, 0).expect("no crash");
        assert_eq!(fingerprint(&store), expected, "when commits happen does not matter");
        let changes = disk.changes();
        assert!(changes > 50, "the run writes to the disk");
        for at in 1..=changes {
            crash(seed, at, seed ^ at, &revisions, expected);
        }
    }
    assert!(moved > 10, "{moved} pages were moved");
}
