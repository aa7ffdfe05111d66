//! The index against a plain list of all changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Every change ever made, per key, oldest first.
type Model = BTreeMap<Vec<u8>, Vec<Change>>;

/// The metadata of a key at `main`, found by playing its changes from the start.
fn model_meta(changes: &[Change], main: i64) -> Option<KeyMeta> {
    let mut life: Option<KeyMeta> = None;
    for change in changes.iter().filter(|change| change.main <= main) {
        life = (!change.tombstone).then(|| KeyMeta {
            create_revision: life.map_or(change.main, |life| life.create_revision),
            revision: change.revision(),
            version: life.map_or(1, |life| life.version + 1),
        });
    }
    life
}

/// What a compaction at `main` keeps of a key, straight from the rule: walk the generations.
fn model_kept(changes: &[Change], main: i64) -> Vec<Change> {
    let mut generations: Vec<Vec<Change>> = vec![Vec::new()];
    for change in changes {
        generations.last_mut().expect("one generation").push(*change);
        if change.tombstone {
            generations.push(Vec::new());
        }
    }
    let last = generations.len() - 1;
    let chosen = generations
        .iter()
        .position(|generation| generation.last().is_some_and(|change| change.main >= main))
        .unwrap_or(last);
    let generation = &generations[chosen];
    let from = generation.iter().rposition(|change| change.main <= main).unwrap_or(0);
    generation[from..].iter().chain(generations[chosen + 1..].iter().flatten()).copied().collect()
}

fn all_at(index: &KeyIndex, range: KeyRange<'_>, main: i64, descending: bool) -> Vec<(Vec<u8>, KeyMeta)> {
    let mut out = Vec::new();
    index.walk_meta(range, main, descending, |key, meta| {
        out.push((key.to_vec(), meta));
        ControlFlow::Continue(())
    });
    out
}

fn compact(index: &mut KeyIndex, main: i64) -> Vec<Revision> {
    let (mut kept, mut cursor) = (Vec::new(), Some(Vec::new()));
    while let Some(at) = cursor {
        cursor = index.compact_some(&at, main, |revision| kept.push(revision));
    }
    kept.sort_unstable();
    kept
}

/// Asserts that index and model agree about everything at `main`.
fn agree(index: &KeyIndex, model: &Model, range: KeyRange<'_>, main: i64) {
    let expected: Vec<_> = model
        .iter()
        .filter(|(key, _)| range.contains(key))
        .filter_map(|(key, changes)| Some((key.clone(), model_meta(changes, main)?)))
        .collect();
    assert_eq!(all_at(index, range, main, false), expected, "{range:?} at {main}");
    let mut backwards = all_at(index, range, main, true);
    backwards.reverse();
    assert_eq!(backwards, expected, "{range:?} at {main}, from above");
    assert_eq!(index.count_at(range, main), expected.len() as u64, "count of {range:?} at {main}");
    for (key, meta) in &expected {
        assert_eq!(index.get(key, main), Some(meta.revision));
    }
}

/// One step of a random history; `usize` picks a key.
#[derive(Clone, Debug)]
enum Step {
    Change { key: usize, same_transaction: bool, tombstone: bool },
    Compact { back: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (0usize..300, prop::bool::weighted(0.3), prop::bool::weighted(0.35))
            .prop_map(|(key, same_transaction, tombstone)| Step::Change { key, same_transaction, tombstone }),
        1 => (0i64..40).prop_map(|back| Step::Compact { back }),
    ];
    proptest::collection::vec(step, 1..600)
}

fn key_name(key: usize) -> Vec<u8> {
    // A few hot keys get long histories, the rest spread over several leaves.
    let key = if key < 100 { key % 3 } else { key };
    format!("{:03}", key * 7 % 300).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rev_6_and_rev_8_every_revision_agrees_with_the_list_of_changes(steps in steps(), low in 0usize..300, high in 0usize..300) {
        let (mut index, mut full, mut compacted) = (KeyIndex::default(), Model::new(), -1i64);
        let (mut main, mut sub) = (1i64, 0u32);
        let mut image = (KeyIndex::default(), 1i64, -1i64);
        for step in steps {
            match step {
                Step::Change { key, same_transaction, tombstone } => {
                    let key = key_name(key);
                    let live = full.get(&key).and_then(|changes| changes.last()).is_some_and(|last| !last.tombstone);
                    (main, sub) = if same_transaction && main > 1 { (main, sub + 1) } else { (main + 1, 0) };
                    let change = Change { main, sub, tombstone: tombstone && live };
                    index.apply(&key, change);
                    full.entry(key).or_default().push(change);
                    if main % 16 == 0 {
                        image = (index.clone(), main - 1, compacted);
                    }
                }
                Step::Compact { back } => {
                    let at = main - back;
                    if at <= compacted {
                        continue;
                    }
                    compacted = at;
                    let kept = compact(&mut index, at);
                    let expected: BTreeSet<Revision> = full
                        .values()
                        .flat_map(|changes| model_kept(changes, at))
                        .filter(|change| change.main <= at)
                        .map(Change::revision)
                        .collect();
                    prop_assert_eq!(kept, expected.into_iter().collect::<Vec<_>>());
                }
            }
        }
        index.root.check();
        let (low, high) = (key_name(low), key_name(high));
        for at in compacted.max(1)..=main {
            for range in [
                KeyRange::ALL,
                KeyRange::single(&low),
                KeyRange { start: &low, end: RangeEnd::Before(&high) },
                KeyRange { start: &low, end: RangeEnd::Unbounded },
            ] {
                agree(&index, &full, range, at);
            }
        }
        // A reader's image knows nothing of later changes and compactions.
        let (image, at, image_compacted) = image;
        if at > image_compacted {
            agree(&image, &full, KeyRange::ALL, at);
        }
    }
}

fn changes(list: &[(i64, bool)]) -> Vec<Change> {
    list.iter().map(|&(main, tombstone)| Change { main, sub: 0, tombstone }).collect()
}

#[test]
fn rev_10_the_worked_example() {
    let all = changes(&[(2, false), (3, false), (4, true), (5, false), (6, true)]);
    for (at, left) in [(3, &all[1..]), (4, &all[2..]), (5, &all[3..]), (6, &all[4..]), (7, &all[5..])] {
        let mut index = KeyIndex::default();
        all.iter().for_each(|change| index.apply(b"k", *change));
        compact(&mut index, at);
        let got = index.root.get(b"k").map(Slot::changes).unwrap_or_default();
        assert_eq!(got, left, "compacted at {at}");
    }
}

#[test]
fn mnt_18_a_tombstone_does_not_count_for_the_hash() {
    let mut index = KeyIndex::default();
    for change in changes(&[(2, false), (3, true), (4, false)]) {
        index.apply(b"k", change);
    }
    for (at, expected) in [(2, vec![2]), (3, vec![]), (4, vec![4])] {
        let mut kept = Vec::new();
        index.hash_keep(at, |revision| kept.push(revision.main));
        assert_eq!(kept, expected, "at {at}");
    }
}

#[test]
fn a_long_history_keeps_versions_and_lives() {
    let (mut index, mut model) = (KeyIndex::default(), Model::new());
    for main in 2..5000 {
        let change = Change { main, sub: 0, tombstone: main % 700 == 0 };
        index.apply(b"hot", change);
        model.entry(b"hot".to_vec()).or_default().push(change);
    }
    for main in [1, 2, 33, 34, 699, 700, 701, 2500, 4900, 4901, 4999] {
        assert_eq!(index.meta(b"hot", main), model_meta(&model[&b"hot"[..]], main), "at {main}");
    }
    compact(&mut index, 3000);
    for main in [3000, 3499, 3500, 3501, 4999] {
        assert_eq!(index.meta(b"hot", main), model_meta(&model[&b"hot"[..]], main), "at {main}, compacted");
    }
}

#[test]
fn keys_in_ascending_order_and_built_trees_are_sound() {
    let (mut grown, mut left, mut right) =
        (KeyIndex::default(), IndexBuilder::default(), IndexBuilder::default());
    for i in 0..20_000i64 {
        let key = format!("/key/{i:08}");
        let change = Change { main: i + 2, sub: 0, tombstone: false };
        grown.apply(key.as_bytes(), change);
        let half = if i < 9_000 { &mut left } else { &mut right };
        half.push(key.as_bytes(), change.main, 1, &[change]);
    }
    left.append(right);
    let built = left.finish(20_001);
    assert_eq!(grown.root.check(), 3);
    assert_eq!(built.root.check(), 3);
    assert_eq!(all_at(&grown, KeyRange::ALL, 20_001, false), all_at(&built, KeyRange::ALL, 20_001, false));
    let middle = KeyRange { start: b"/key/00005000", end: RangeEnd::Before(b"/key/00015000") };
    assert_eq!((grown.count_live(middle), built.count_live(middle)), (10_000, 10_000));
}

#[test]
fn an_emptied_index_is_empty() {
    let mut index = KeyIndex::default();
    for i in 0..1000i64 {
        index.apply(&i.to_be_bytes(), Change { main: 2 * i + 2, sub: 0, tombstone: false });
        index.apply(&i.to_be_bytes(), Change { main: 2 * i + 3, sub: 0, tombstone: true });
    }
    assert_eq!(index.len(), 1000);
    assert_eq!(compact(&mut index, 5000), []);
    assert_eq!((index.len(), index.root.check(), index.count_live(KeyRange::ALL)), (0, 1, 0));
}
