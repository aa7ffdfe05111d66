//! Long random operation sequences against a model made of maps, with a check after each commit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use stanchion_bolt::{Bucket, BucketMut, Db, Options, ReadTx, Result, WriteTx};

use crate::place;

/// What a bucket should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    sequence: u64,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    buckets: BTreeMap<Vec<u8>, Model>,
}

impl Model {
    fn compare(&self, bucket: &Bucket<'_>) {
        assert_eq!(bucket.sequence(), self.sequence);
        let mut names: Vec<(&Vec<u8>, Option<&Vec<u8>>)> = self
            .values
            .iter()
            .map(|(k, v)| (k, Some(v)))
            .chain(self.buckets.keys().map(|k| (k, None)))
            .collect();
        names.sort();
        let forward: Vec<_> = bucket.iter().collect::<Result<_>>().unwrap();
        let expected: Vec<(&[u8], Option<&[u8]>)> =
            names.iter().map(|(k, v)| (k.as_slice(), v.map(Vec::as_slice))).collect();
        assert_eq!(forward, expected);
        let mut cursor = bucket.cursor();
        let mut backward = Vec::new();
        let mut entry = cursor.last().unwrap();
        while let Some(e) = entry {
            backward.push(e);
            entry = cursor.prev().unwrap();
        }
        backward.reverse();
        assert_eq!(backward, expected);
        for (name, model) in &self.buckets {
            model.compare(&bucket.bucket(name).unwrap().expect("bucket is there"));
        }
        for (key, value) in self.values.iter().take(20) {
            assert_eq!(bucket.get(key).unwrap(), Some(value.as_slice()));
        }
    }
}

fn below(rng: &mut Xoshiro256PlusPlus, n: u64) -> u64 {
    rng.next_u64() % n
}

fn key(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let n = below(rng, 800);
    let mut key = format!("key-{n:05}").into_bytes();
    if n.is_multiple_of(50) {
        key.resize(300, b'x');
    }
    key
}

fn value(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let len = match below(rng, 40) {
        0 => 4096 + below(rng, 20_000),
        1..10 => below(rng, 1000),
        _ => below(rng, 60),
    };
    vec![below(rng, 256) as u8; len as usize]
}

fn change(rng: &mut Xoshiro256PlusPlus, bucket: &mut BucketMut<'_>, model: &mut Model, depth: usize) {
    match below(rng, 20) {
        0 => {
            let name = format!("b{}", below(rng, 4)).into_bytes();
            match model.buckets.entry(name) {
                Entry::Vacant(vacant) => {
                    bucket.create_bucket(vacant.key()).unwrap();
                    vacant.insert(Model::default());
                }
                Entry::Occupied(occupied) if below(rng, 3) == 0 => {
                    bucket.delete_bucket(occupied.key()).unwrap();
                    occupied.remove();
                }
                Entry::Occupied(_) => {}
            }
        }
        1 => {
            model.sequence = bucket.next_sequence();
        }
        2..6 if depth < 3 && !model.buckets.is_empty() => {
            let at = below(rng, model.buckets.len() as u64) as usize;
            let (name, inner) = model.buckets.iter_mut().nth(at).unwrap();
            let mut nested = bucket.bucket_mut(name).unwrap();
            for _ in 0..below(rng, 15) {
                change(rng, &mut nested, inner, depth + 1);
            }
        }
        6..9 => {
            // A range of deletions, so that pages run empty.
            let from = key(rng);
            let mut cursor = bucket.cursor_mut();
            let mut entry = cursor.seek(&from).unwrap();
            for _ in 0..below(rng, 30) {
                let Some((k, v)) = entry else { break };
                if v.is_some() {
                    assert!(cursor.delete().unwrap());
                    model.values.remove(&k);
                }
                entry = cursor.next().unwrap();
            }
        }
        9..12 => {
            let k = key(rng);
            assert_eq!(bucket.delete(&k).unwrap(), model.values.remove(&k).is_some());
        }
        _ => {
            let (k, v) = (key(rng), value(rng));
            bucket.put(&k, &v).unwrap();
            assert_eq!(bucket.get(&k).unwrap(), Some(v.as_slice()));
            model.values.insert(k, v);
        }
    }
}

/// Compares the top level through a write transaction, whose buckets may be opened.
fn compare_write(tx: &WriteTx, model: &Model) {
    model.compare(&tx.root());
}

fn run(seed: u64, commits: usize, options: &Options) {
    let (_dir, disk, path) = place();
    let open = || Db::open(Arc::clone(&disk), &path, options.clone()).unwrap();
    let mut db = open();
    let rng = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut model = Model::default();
    let mut held: Vec<(ReadTx, Model)> = Vec::new();
    for _ in 0..commits {
        let mut next = model.clone();
        let mut tx = db.begin_write().unwrap();
        for _ in 0..=below(rng, 3) {
            let name = format!("top{}", below(rng, 3)).into_bytes();
            if below(rng, 15) == 0 && next.buckets.remove(&name).is_some() {
                tx.delete_bucket(&name).unwrap();
                continue;
            }
            let inner = next.buckets.entry(name.clone()).or_default();
            let mut bucket = tx.create_bucket_if_not_exists(&name).unwrap();
            if below(rng, 4) == 0 {
                bucket.set_fill_percent(0.9);
            }
            for _ in 0..below(rng, 120) {
                change(rng, &mut bucket, inner, 0);
            }
        }
        if below(rng, 4) == 0 {
            compare_write(&tx, &next);
        }
        if below(rng, 8) == 0 {
            tx.rollback();
        } else {
            tx.commit().unwrap();
            model = next;
        }
        for _ in 0..below(rng, 3) {
            db.shrink_step(below(rng, 30)).unwrap();
        }
        let read = db.begin_read().unwrap();
        assert_eq!(read.check(), [], "seed {seed}");
        model.compare(&read.root());
        match below(rng, 10) {
            0..3 => held.push((read, model.clone())),
            3..6 if !held.is_empty() => {
                let (read, seen) = held.swap_remove(below(rng, held.len() as u64) as usize);
                seen.compare(&read.root());
            }
            6 => {
                drop(read);
                held.clear();
                drop(db);
                db = open();
            }
            _ => {}
        }
        for (read, seen) in &held {
            assert_eq!(read.check(), [], "seed {seed}");
            seen.compare(&read.root());
        }
    }
    held.clear();
    drop(db);
    db = open();
    shrink_to_the_end(&db, seed);
    let read = db.begin_read().unwrap();
    assert_eq!(read.check(), [], "seed {seed}");
    model.compare(&read.root());
}

/// Nothing else runs: the file must become about as short as the pages in use.
fn shrink_to_the_end(db: &Db, seed: u64) {
    for _ in 0..1000 {
        let report = db.shrink_step(16).unwrap();
        assert!(!report.waiting_for_readers, "seed {seed}: nobody reads");
        if report.done {
            let stats = db.stats();
            // A value of 24 KiB in small pages may find no room among others of its kind.
            let goal = (stats.pages - stats.free_pages) * 33 / 32 + 2 * 16 + 32;
            assert!(stats.pages <= goal + 48, "seed {seed}: {stats:?}");
            assert!(report.file_pages <= stats.pages + (16 << 20) / u64::from(stats.page_size) * 2);
            return;
        }
    }
    panic!("seed {seed}: shrinking does not end");
}

#[test]
fn random_transactions_behave_like_the_model() {
    let (seeds, commits) = if cfg!(miri) { (2, 6) } else { (40, 60) };
    for seed in 0..seeds {
        let options = Options { no_sync: true, ..Options::default() };
        let options = Options { sync_freelist: seed % 2 == 0, page_size: 1024 << (seed % 3), ..options };
        run(seed, commits, &options);
    }
}
