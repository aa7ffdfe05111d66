//! Random histories on a store and on the model, compared at every uncompacted revision.

use proptest::prelude::*;
use stanchion_mvcc::{
    CompactionStep, Error, KeyRange, Put, RangeEnd, RangeOptions, ReadTxn, RevisionFilter, SortOrder,
    SortTarget,
};

use crate::model::{Model, Pair};
use crate::world::World;

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, value: u8, lease: i64 },
    KeepValue { key: u8, lease: i64 },
    KeepLease { key: u8, value: u8 },
    Delete { key: u8 },
    DeleteRange { low: u8, high: u8 },
    DeleteFrom { low: u8 },
    Read { low: u8, limit: usize },
}

#[derive(Clone, Debug)]
enum Step {
    Txn { ops: Vec<Op>, abort: bool },
    Compact { back: i64 },
    CompactSome { rows: usize },
    Shrink,
    Commit,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u8..40;
    prop_oneof![
        8 => (key.clone(), any::<u8>(), 0i64..3).prop_map(|(key, value, lease)| Op::Put { key, value, lease }),
        1 => (key.clone(), 0i64..3).prop_map(|(key, lease)| Op::KeepValue { key, lease }),
        1 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Op::KeepLease { key, value }),
        3 => key.clone().prop_map(|key| Op::Delete { key }),
        1 => (key.clone(), key.clone()).prop_map(|(low, high)| Op::DeleteRange { low, high }),
        1 => (30u8..40).prop_map(|low| Op::DeleteFrom { low }),
        1 => (key, 0usize..5).prop_map(|(low, limit)| Op::Read { low, limit }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (proptest::collection::vec(op(), 1..4), prop::bool::weighted(0.1))
            .prop_map(|(ops, abort)| Step::Txn { ops, abort }),
        1 => (proptest::collection::vec(op(), 60..90)).prop_map(|ops| Step::Txn { ops, abort: false }),
        2 => (0i64..12).prop_map(|back| Step::Compact { back }),
        3 => (1usize..30).prop_map(|rows| Step::CompactSome { rows }),
        1 => Just(Step::Shrink),
        2 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

fn key(number: u8) -> Vec<u8> {
    format!("k{number:02}").into_bytes()
}

/// Runs one transaction on both sides; every operation must answer the same.
fn run_txn(world: &World, model: &mut Model, ops: &[Op], abort: bool) {
    let mut aborted = model.clone();
    let mut txn = world.store().write();
    let mut shadow = if abort { aborted.begin() } else { model.begin() };
    for op in ops {
        match *op {
            Op::Put { key: number, value, lease } => {
                let (key, value) = (key(number), [value; 3]);
                let before = shadow.get(&key).cloned();
                let put =
                    Put { key: &key, value: Some(&value), lease: Some(lease), prev_kv: number % 2 == 0 };
                let prev = txn.put(put).expect("a plain put");
                assert_eq!(prev.map(|kv| Pair::decode(&kv)), before.filter(|_| number % 2 == 0));
                shadow.put(&key, &value, lease);
            }
            Op::KeepValue { key: number, lease } => {
                let key = key(number);
                let result = txn.put(Put { key: &key, value: None, lease: Some(lease), prev_kv: false });
                match shadow.get(&key).cloned() {
                    Some(before) => {
                        result.expect("the key exists");
                        shadow.put(&key, &before.value, lease);
                    }
                    None => assert!(matches!(result, Err(Error::KeyNotFound { .. })), "{result:?}"),
                }
            }
            Op::KeepLease { key: number, value } => {
                let (key, value) = (key(number), [value; 3]);
                let result = txn.put(Put { key: &key, value: Some(&value), lease: None, prev_kv: false });
                match shadow.get(&key).cloned() {
                    Some(before) => {
                        result.expect("the key exists");
                        shadow.put(&key, &value, before.lease);
                    }
                    None => assert!(matches!(result, Err(Error::KeyNotFound { .. })), "{result:?}"),
                }
            }
            Op::Delete { key: number } => {
                let key = key(number);
                let deleted = txn.delete_range(KeyRange::single(&key), false).expect("a delete");
                assert_eq!(deleted.count, shadow.delete_range(KeyRange::single(&key)).len() as u64);
            }
            Op::DeleteRange { low, high } => {
                let (low, high) = (key(low), key(high));
                let range = KeyRange::from_request(&low, &high);
                let deleted = txn.delete_range(range, true).expect("a delete");
                let prev: Vec<_> = deleted.prev_kvs.iter().map(Pair::decode).collect();
                assert_eq!(prev, shadow.delete_range(range));
            }
            Op::DeleteFrom { low } => {
                let low = key(low);
                let range = KeyRange::from_request(&low, b"\0");
                let deleted = txn.delete_range(range, false).expect("a delete");
                assert_eq!(deleted.count, shadow.delete_range(range).len() as u64);
            }
            Op::Read { low, limit } => {
                let low = key(low);
                let range = KeyRange { start: &low, end: RangeEnd::Unbounded };
                let options = RangeOptions { limit, ..RangeOptions::default() };
                let got = txn.range(range, &options).expect("a read");
                let pairs: Vec<_> = got.rows.iter().map(Pair::decode).collect();
                assert_eq!((pairs, got.count, got.more), shadow.range(range, &options));
            }
        }
    }
    if abort {
        return;
    }
    shadow.end();
    let written = txn.end();
    assert_eq!(written.revision, model.revision());
    let expected: Vec<_> = model.events.iter().rev().take(written.events.len()).rev().cloned().collect();
    let got: Vec<_> = written.events.iter().map(crate::world::model_event).collect();
    assert_eq!(got, expected);
}

/// Every range at every revision that may be read, and the errors at those that may not.
fn agree(view: &ReadTxn, model: &Model) {
    assert_eq!((view.revision(), view.compact_revision()), (model.revision(), model.compacted));
    let (low, high) = (key(7), key(23));
    let ranges = [KeyRange::ALL, KeyRange::from_request(&low, &high), KeyRange::single(&low)];
    for at in model.compacted.max(1)..=model.revision() {
        for range in ranges {
            compare(view, model, range, &RangeOptions { revision: at, ..RangeOptions::default() });
            compare(view, model, range, &RangeOptions { revision: at, limit: 3, ..RangeOptions::default() });
            compare(
                view,
                model,
                range,
                &RangeOptions { revision: at, count_only: true, ..RangeOptions::default() },
            );
            compare(
                view,
                model,
                range,
                &RangeOptions { revision: at, keys_only: true, ..RangeOptions::default() },
            );
        }
    }
    let future = view
        .range(KeyRange::ALL, &RangeOptions { revision: model.revision() + 1, ..RangeOptions::default() });
    assert!(matches!(future, Err(Error::Future { .. })), "{future:?}");
    if model.compacted > 1 {
        let old = view.count(KeyRange::ALL, model.compacted - 1);
        assert!(matches!(old, Err(Error::Compacted { .. })), "{old:?}");
    }
    history_agrees(view, model);
}

fn compare(view: &ReadTxn, model: &Model, range: KeyRange<'_>, options: &RangeOptions) {
    let got = view.range(range, options).expect("a readable revision");
    let pairs: Vec<_> = got.rows.iter().map(Pair::decode).collect();
    let at = if options.revision == 0 { model.revision() } else { options.revision };
    assert_eq!((pairs, got.count, got.more), model.range(range, at, options), "{range:?} {options:?}");
}

/// The events from the compact revision on, in pieces of three revisions, are exactly those that were written.
fn history_agrees(view: &ReadTxn, model: &Model) {
    let hot = key(7);
    for range in [KeyRange::ALL, KeyRange::single(&hot)] {
        let (mut next, mut events) = (model.compacted.max(0), Vec::new());
        while next <= model.revision() {
            let piece = view.history(range, next, 3).expect("history");
            assert!(piece.next > next, "history goes on");
            next = piece.next;
            events.extend(piece.events.iter().map(crate::world::model_event));
        }
        // At the compact revision and before only what is still visible is left.
        events.retain(|event| event.main > model.compacted);
        let expected: Vec<_> = model
            .events
            .iter()
            .filter(|event| event.main > model.compacted && range.contains(&event.pair.key))
            .cloned()
            .collect();
        assert_eq!(events, expected);
    }
}

fn run(steps: &[Step]) {
    let (mut world, mut model) = (World::new(), Model::default());
    let mut old_views: Vec<(ReadTxn, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Txn { ops, abort } => run_txn(&world, &mut model, ops, *abort),
            Step::Compact { back } => {
                let at = model.revision() - back;
                let result = world.store().compact(at);
                if at <= model.compacted {
                    assert!(matches!(result, Err(Error::Compacted { .. })), "{result:?}");
                } else {
                    result.expect("a revision that may be compacted");
                    model.compacted = at;
                }
            }
            Step::CompactSome { rows } => {
                world.store().compaction_step(*rows).expect("a compaction step");
            }
            Step::Shrink => {
                world.store().shrink_step(8).expect("a step");
            }
            Step::Commit => {
                world.store().commit().expect("a commit");
                if old_views.len() < 3 {
                    old_views.push((world.store().read(), model.clone()));
                }
            }
            Step::Reopen => {
                old_views.clear();
                world.reopen(&model);
            }
        }
    }
    agree(&world.store().read(), &model);
    // Read transactions still show what they showed when they were taken.
    for (view, then) in &old_views {
        agree(view, then);
    }
    // An open read transaction keeps the file open, and so locked.
    drop(old_views);
    while world.store().compaction_step(7).expect("a compaction step") != CompactionStep::Idle {}
    agree(&world.store().read(), &model);
    world.reopen(&model);
    agree(&world.store().read(), &model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::world::cases(150)))]
    #[test]
    fn every_range_at_every_revision_agrees_with_the_list_of_writes(steps in proptest::collection::vec(step(), 1..70)) {
        run(&steps);
    }

    #[test]
    fn kv_11_to_kv_23_every_option_agrees_with_the_rules(
        ops in proptest::collection::vec(op(), 1..60),
        options in proptest::collection::vec(options(), 1..12),
    ) {
        let (world, mut model) = (World::new(), Model::default());
        for some in ops.chunks(2) {
            run_txn(&world, &mut model, some, false);
        }
        let view = world.store().read();
        for options in options {
            let at = options.revision.min(model.revision()).max(0);
            for (low, high) in [(0, 99), (5, 20)] {
                let (low, high) = (key(low), key(high));
                compare(&view, &model, KeyRange::from_request(&low, &high), &RangeOptions { revision: at, ..options });
            }
        }
    }
}

fn options() -> impl Strategy<Value = RangeOptions> {
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let bound = prop_oneof![3 => Just(0i64), 1 => -1i64..20];
    (target, order, 0usize..8, 0i64..20, any::<bool>(), [bound.clone(), bound.clone(), bound.clone(), bound])
        .prop_map(
            |(
                sort_target,
                sort_order,
                limit,
                revision,
                keys_only,
                [min_mod, max_mod, min_create, max_create],
            )| {
                RangeOptions {
                    revision,
                    limit,
                    count_only: false,
                    keys_only,
                    sort_target,
                    sort_order,
                    filter: RevisionFilter { min_mod, max_mod, min_create, max_create },
                }
            },
        )
}
