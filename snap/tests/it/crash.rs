//! A power cut at every change of random sequences: what was saved stays, nothing is half there.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use stanchion_disk::{Disk as _, SimDisk};
use stanchion_snap::Result;

use crate::{DIR, open, payload};

#[derive(Clone, Debug)]
enum Step {
    Save { term: u64, index: u64, bytes: usize },
    Receive { index: u64, pieces: Vec<usize> },
    Install { index: u64 },
    Purge { keep: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..4_u64, 1..6_u64, 1..3000_usize).prop_map(|(term, index, bytes)| Step::Save { term, index, bytes }),
        2 => (1..6_u64, prop::collection::vec(0..3000_usize, 0..4))
            .prop_map(|(index, pieces)| Step::Receive { index, pieces }),
        1 => (1..6_u64).prop_map(|index| Step::Install { index }),
        1 => (1..4_usize).prop_map(|keep| Step::Purge { keep }),
    ]
}

/// What the steps that returned promise: the snapshots and databases that are durable.
#[derive(Clone, Default)]
struct Promise {
    snapshots: BTreeMap<(u64, u64), Vec<u8>>,
    databases: BTreeMap<u64, Vec<u8>>,
    installed: Option<Vec<u8>>,
}

fn database_bytes(index: u64, pieces: &[usize]) -> Vec<u8> {
    pieces.iter().enumerate().flat_map(|(i, n)| vec![(index as u8) << 4 | i as u8; *n]).collect()
}

/// Runs one step; the promise is updated when it returned.
fn run(disk: &SimDisk, step: &Step, promise: &mut Promise) -> Result<()> {
    let snapshots = open(disk);
    match step {
        Step::Save { term, index, bytes } => {
            let data = payload(*term, *index, &vec![*index as u8; *bytes]);
            snapshots.save(*term, *index, &data)?;
            promise.snapshots.insert((*term, *index), data);
        }
        Step::Receive { index, pieces } => {
            let bytes = database_bytes(*index, pieces);
            let mut incoming = snapshots.receive_database(*index)?;
            let mut rest = &bytes[..];
            for n in pieces {
                let (piece, after) = rest.split_at(*n);
                incoming.write(piece)?;
                rest = after;
            }
            incoming.finish(bytes.len() as u64)?;
            promise.databases.insert(*index, bytes);
        }
        Step::Install { index } => {
            if let Some(bytes) = promise.databases.get(index).cloned() {
                snapshots.install_database(*index, "db")?;
                promise.databases.remove(index);
                promise.installed = Some(bytes);
            }
        }
        Step::Purge { keep } => {
            snapshots.purge(*keep)?;
            while promise.snapshots.len() > *keep {
                promise.snapshots.pop_first();
            }
        }
    }
    Ok(())
}

/// The directory holds `before`, changed at most by the interrupted step to `after`.
fn check(disk: &SimDisk, before: &Promise, after: &Promise) {
    let snapshots = open(disk);
    for name in disk.list(Path::new(DIR)).unwrap() {
        assert!(!name.starts_with("tmp"), "{name}");
    }
    for (term, index) in before.snapshots.keys().chain(after.snapshots.keys()) {
        let (found, broken) = snapshots.load_newest_of(&[(*term, *index)]).unwrap();
        assert!(broken.is_empty(), "{broken:?}");
        let found = found.map(|s| s.data.to_vec());
        let (old, new) = (before.snapshots.get(&(*term, *index)), after.snapshots.get(&(*term, *index)));
        assert!(found.as_ref() == old || found.as_ref() == new, "snapshot {term} {index}");
    }
    for index in 1..6 {
        let found = snapshots.database(index).ok().map(|path| disk.read(&path).unwrap());
        let (old, new) = (before.databases.get(&index), after.databases.get(&index));
        assert!(found.as_ref() == old || found.as_ref() == new, "database {index}");
    }
    let db = disk.read(&Path::new(DIR).join("db")).ok();
    assert!(db == before.installed || db == after.installed, "installed database");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_anywhere_keeps_what_was_promised(steps in prop::collection::vec(step(), 1..8), seed: u64) {
        // The step that the cut interrupts may be done or not; the promise after it comes from a run without a cut.
        let mut promises = vec![Promise::default()];
        let disk = SimDisk::new(seed);
        drop(open(&disk));
        let first = disk.changes() + 1;
        for step in &steps {
            let mut promise = promises[promises.len() - 1].clone();
            run(&disk, step, &mut promise).unwrap();
            promises.push(promise);
        }
        let last = disk.changes();
        for n in first..=last {
            let disk = SimDisk::new(seed);
            drop(open(&disk));
            disk.crash_at(n);
            let mut promise = Promise::default();
            let done = steps.iter().take_while(|step| run(&disk, step, &mut promise).is_ok()).count();
            for survivors in 0..5 {
                check(&disk.after_power_cut(seed ^ survivors), &promises[done], &promises[done + 1]);
            }
        }
    }
}
