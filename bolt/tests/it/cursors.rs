//! Cursors and ranges: random walks against an ordered map, in stored buckets and in ones that are being changed.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use proptest::prelude::*;
use stanchion_bolt::{Bucket, Cursor, Db, Error, Options, Result};
use stanchion_disk::SimDisk;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A move of a cursor; keys are numbers, of which every other one is there.
#[derive(Clone, Debug)]
enum Step {
    First,
    Last,
    Next,
    Prev,
    Seek(u16),
    /// Of [`CursorMut`](stanchion_bolt::CursorMut) only.
    Delete,
}

const KEYS: u16 = 600;

fn key(n: u16) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        8 => Just(Step::Next),
        8 => Just(Step::Prev),
        3 => (0..KEYS + 5).prop_map(Step::Seek),
        6 => Just(Step::Delete),
    ]
}

/// A bucket of small pages, three levels high.
fn filled() -> (Db, Model) {
    let options = Options { page_size: 1024, no_sync: true, ..Options::default() };
    let db = Db::open(Arc::new(SimDisk::new(1)), "db", options).unwrap();
    let model: Model = (0..KEYS).step_by(2).map(|n| (key(n), vec![n as u8; 150])).collect();
    db.update::<_, Error>(|tx| {
        let mut bucket = tx.create_bucket("b")?;
        model.iter().try_for_each(|(key, value)| bucket.put(key, value))
    })
    .unwrap();
    (db, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Keys that are there and keys that are not, by steps from the one before, in stored leaves and in changed ones.
    #[test]
    fn a_finder_finds_what_get_finds(steps in prop::collection::vec(-3i32..=40, 1..200), change in 0..KEYS) {
        let (db, mut model) = filled();
        let walk = |bucket: &Bucket<'_>, model: &Model| {
            let finder = bucket.finder();
            let mut n = 0;
            for step in &steps {
                n = (n + step).rem_euclid(i32::from(KEYS) + 5);
                let key = key(n as u16);
                assert_eq!(finder.get(&key).unwrap(), model.get(&key).map(Vec::as_slice));
            }
        };
        walk(&db.begin_read().unwrap().bucket("b").unwrap().unwrap(), &model);
        let mut tx = db.begin_write().unwrap();
        tx.bucket_mut("b").unwrap().put(key(change), b"changed").unwrap();
        model.insert(key(change), b"changed".to_vec());
        walk(&tx.bucket("b").unwrap().unwrap(), &model);
    }
}

/// Where a cursor that stands at `at` goes to.
fn moved(model: &Model, at: Option<&[u8]>, step: &Step) -> Option<Vec<u8>> {
    let after = |bound: Bound<&[u8]>| model.range::<[u8], _>((bound, Bound::Unbounded)).next();
    let before = |bound: Bound<&[u8]>| model.range::<[u8], _>((Bound::Unbounded, bound)).next_back();
    let found = match (step, at) {
        (Step::First, _) | (Step::Next, None) => model.first_key_value(),
        (Step::Last, _) | (Step::Prev, None) => model.last_key_value(),
        (Step::Next, Some(at)) => after(Bound::Excluded(at)),
        (Step::Prev, Some(at)) => before(Bound::Excluded(at)),
        (Step::Seek(n), _) => after(Bound::Included(&key(*n))),
        (Step::Delete, at) => return at.map(<[u8]>::to_vec),
    };
    found.map(|(key, _)| key.clone())
}

/// Takes a step with a cursor that reads or one that writes; what a deletion does is the caller's.
macro_rules! take {
    ($step:expr, $cursor:expr, Delete => $delete:expr) => {
        match $step {
            Step::First => $cursor.first(),
            Step::Last => $cursor.last(),
            Step::Next => $cursor.next(),
            Step::Prev => $cursor.prev(),
            Step::Seek(n) => $cursor.seek(&key(*n)),
            Step::Delete => $delete,
        }
    };
}

fn walk(mut cursor: Cursor<'_>, model: &Model, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut at = None;
    for step in steps {
        let expected = moved(model, at.as_deref(), step);
        let found = take!(step, cursor, Delete => cursor.entry());
        let expected_entry = expected.as_deref().map(|key| (key, Some(model[key].as_slice())));
        prop_assert_eq!(found.unwrap(), expected_entry, "{:?}", step);
        at = expected;
    }
    Ok(())
}

/// Ranges of all kinds of ends, also such that end before they begin.
fn ranges(bucket: &Bucket<'_>, model: &Model, low: u16, high: u16) -> Result<(), TestCaseError> {
    let bounds = |n: u16| [Bound::Included(key(n)), Bound::Excluded(key(n)), Bound::Unbounded];
    for from in bounds(low) {
        for to in bounds(high) {
            let range = (from.clone(), to);
            let found: Vec<_> = bucket.range(range.clone()).collect::<Result<_>>().unwrap();
            let inside = model.iter().filter(|(key, _)| range.contains(*key));
            let expected: Vec<_> = inside.map(|(k, v)| (k.as_slice(), Some(v.as_slice()))).collect();
            prop_assert_eq!(found, expected, "{:?}", range);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 200 }))]

    #[test]
    fn cursors_and_ranges_go_where_an_ordered_map_goes(
        steps in prop::collection::vec(step(), 1..80),
        emptied in (0..KEYS, 0..KEYS),
        ends in (0..KEYS + 5, 0..KEYS + 5),
    ) {
        let (db, mut model) = filled();
        let stored = db.begin_read().unwrap();
        let bucket = stored.bucket("b").unwrap().unwrap();
        walk(bucket.cursor(), &model, &steps)?;
        ranges(&bucket, &model, ends.0, ends.1)?;

        // The same while leaves in the middle are empty, others changed, and most are still as they are stored.
        let mut tx = db.begin_write().unwrap();
        let mut changed = tx.bucket_mut("b").unwrap();
        for n in emptied.0.min(emptied.1)..emptied.0.max(emptied.1) {
            prop_assert_eq!(changed.delete(key(n)).unwrap(), model.remove(&key(n)).is_some());
        }
        changed.put(key(301), "new").unwrap();
        model.insert(key(301), b"new".to_vec());
        walk(changed.cursor(), &model, &steps)?;
        ranges(&changed.as_bucket(), &model, ends.0, ends.1)?;
    }

    #[test]
    fn a_cursor_that_deletes_never_loses_its_place(steps in prop::collection::vec(step(), 1..120)) {
        let (db, mut model) = filled();
        let mut tx = db.begin_write().unwrap();
        let mut bucket = tx.bucket_mut("b").unwrap();
        let mut cursor = bucket.cursor_mut();
        let mut at: Option<Vec<u8>> = None;
        for step in &steps {
            let expected = moved(&model, at.as_deref(), step);
            let found = take!(step, cursor, Delete => {
                let there = at.as_ref().is_some_and(|at| model.remove(at).is_some());
                prop_assert_eq!(cursor.delete().unwrap(), there);
                continue;
            });
            let entry = expected.clone().map(|key| (key.clone(), Some(model[&key].clone())));
            prop_assert_eq!(found.unwrap(), entry, "{:?}", step);
            at = expected;
        }
        tx.commit().unwrap();
        let tx = db.begin_read().unwrap();
        prop_assert_eq!(tx.check(), []);
        let left: Vec<_> = tx.bucket("b").unwrap().unwrap().iter().collect::<Result<_>>().unwrap();
        let expected: Vec<_> = model.iter().map(|(k, v)| (k.as_slice(), Some(v.as_slice()))).collect();
        prop_assert_eq!(left, expected);
    }
}
