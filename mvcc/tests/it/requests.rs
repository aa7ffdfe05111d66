//! What ranges, puts, deletes and transactions answer, rule by rule, and what history tells of them.

use stanchion_mvcc::{
    Event, KeyRange, Put, RangeOptions, RangeResult, RevisionFilter, Rows, SortOrder, SortTarget, Store,
};

use crate::model::Pair;
use crate::rules::{compact_to_the_end, delete, from_key, put, value_at};
use crate::world::World;

/// Keys a (mod 5, version 1), b (mod 4, version 2), c (mod 2, version 1); values 3, 1, 2.
fn three() -> World {
    let world = World::new();
    for (key, value) in [("c", "2"), ("b", "0"), ("b", "1"), ("a", "3")] {
        put(world.store(), key, value);
    }
    world
}

fn all(world: &World, options: &RangeOptions) -> RangeResult {
    world.store().read().range(KeyRange::ALL, options).expect("a read")
}

fn pairs(rows: &Rows) -> Vec<Pair> {
    rows.iter().map(Pair::decode).collect()
}

fn keys(rows: &Rows) -> String {
    pairs(rows).into_iter().map(|pair| String::from_utf8(pair.key).expect("text")).collect()
}

#[test]
fn kv_11_to_kv_14_limit_more_and_count() {
    let world = three();
    for (limit, found, more) in [(0, 3, false), (2, 2, true), (3, 3, false), (4, 3, false)] {
        let result = all(&world, &RangeOptions { limit, ..RangeOptions::default() });
        assert_eq!((result.rows.len(), result.more, result.count), (found, more, 3), "limit {limit}");
    }
    let counted = RangeOptions { limit: 1, count_only: true, keys_only: true, ..RangeOptions::default() };
    let result = all(&world, &counted);
    assert_eq!((result.rows.len(), result.more, result.count), (0, false, 3));
    assert_eq!(world.store().read().count(KeyRange::ALL, 3).expect("a count"), 2, "b and c by then");
}

#[test]
fn kv_15_kv_16_filters_come_before_the_limit_and_leave_the_count() {
    let world = three();
    let cases = [
        (RevisionFilter { min_mod: 4, ..RevisionFilter::default() }, "ab"),
        (RevisionFilter { max_mod: 4, ..RevisionFilter::default() }, "bc"),
        (RevisionFilter { min_create: 3, max_create: 3, ..RevisionFilter::default() }, "b"),
        (RevisionFilter { max_create: -1, ..RevisionFilter::default() }, ""),
    ];
    for (filter, expected) in cases {
        let whole = all(&world, &RangeOptions { filter, ..RangeOptions::default() });
        assert_eq!((keys(&whole.rows).as_str(), whole.count, whole.more), (expected, 3, false));
        let first = all(&world, &RangeOptions { filter, limit: 1, ..RangeOptions::default() });
        let expected_first = &expected[..expected.len().min(1)];
        assert_eq!(
            (keys(&first.rows).as_str(), first.count, first.more),
            (expected_first, 3, expected.len() > 1)
        );
    }
}

#[test]
fn kv_17_kv_19_kv_21_orders_sort_the_whole_range_before_the_limit() {
    let world = three();
    let cases = [
        (SortTarget::Key, "abc"),
        (SortTarget::Version, "acb"),
        (SortTarget::Create, "cba"),
        (SortTarget::Mod, "cba"),
        (SortTarget::Value, "bca"),
    ];
    for (sort_target, rising) in cases {
        for keys_only in [false, true] {
            let read = |sort_order, limit| {
                let options =
                    RangeOptions { sort_target, sort_order, limit, keys_only, ..RangeOptions::default() };
                keys(&all(&world, &options).rows)
            };
            assert_eq!(read(SortOrder::None, 0), rising, "{sort_target:?}");
            assert_eq!(read(SortOrder::Ascend, 0), rising, "{sort_target:?}");
            assert_eq!(read(SortOrder::Ascend, 1), rising[..1], "{sort_target:?}");
            // Equal versions stay in key order, whatever the direction.
            let falling = match sort_target {
                SortTarget::Version => "bac".to_owned(),
                _ => rising.chars().rev().collect(),
            };
            assert_eq!(read(SortOrder::Descend, 0), falling, "{sort_target:?}");
        }
    }
}

#[test]
fn kv_23_keys_alone_have_revisions_but_no_value_and_a_lease_only_when_sorted_by_value() {
    let world = World::new();
    let mut txn = world.store().write();
    txn.put(Put { lease: Some(7), ..Put::new(b"k", b"value") }).expect("a put");
    assert_eq!(txn.end().revision, 2);
    for (sort_target, lease) in [(SortTarget::Key, 0), (SortTarget::Mod, 0), (SortTarget::Value, 7)] {
        let options = RangeOptions { keys_only: true, sort_target, ..RangeOptions::default() };
        let expected =
            Pair { key: b"k".to_vec(), create: 2, modified: 2, version: 1, value: Vec::new(), lease };
        assert_eq!(pairs(&all(&world, &options).rows), [expected], "{sort_target:?}");
    }
}

#[test]
fn put_2_put_3_every_put_makes_a_revision_and_tells_the_pair_before() {
    let world = World::new();
    assert_eq!((put(world.store(), "k", "v"), put(world.store(), "k", "v")), (2, 3));
    let mut txn = world.store().write();
    let asks = |key, value| Put { prev_kv: true, ..Put::new(key, value) };
    assert_eq!(txn.put(asks(b"new", b"")).expect("a put"), None, "there was no such key");
    let before = txn.put(asks(b"k", b"w")).expect("a put").map(|kv| Pair::decode(&kv));
    let expected =
        Pair { key: b"k".to_vec(), create: 2, modified: 3, version: 2, value: b"v".to_vec(), lease: 0 };
    assert_eq!(before, Some(expected));
    // Inside a transaction the pair before is that of the transaction.
    let before = txn.put(asks(b"k", b"x")).expect("a put").map(|kv| Pair::decode(&kv).value);
    assert_eq!(before, Some(b"w".to_vec()), "txn_21");
    assert_eq!(txn.end().revision, 4);
}

#[test]
fn put_6_put_7_put_9_a_put_moves_its_key_to_the_lease_it_names() {
    let world = World::new();
    let write = |put: Put<'_>| {
        let mut txn = world.store().write();
        txn.put(put).expect("a put");
        txn.end().events.remove(0)
    };
    let lease_and_value = |event: &Event| (event.lease, Pair::decode(&event.kv).value);
    let first = write(Put { lease: Some(7), ..Put::new(b"k", b"v") });
    assert_eq!(lease_and_value(&first), (7, b"v".to_vec()));
    let kept_lease = write(Put { lease: None, ..Put::new(b"k", b"w") });
    assert_eq!(lease_and_value(&kept_lease), (7, b"w".to_vec()));
    let moved = write(Put { value: None, lease: Some(8), ..Put::new(b"k", b"") });
    assert_eq!(lease_and_value(&moved), (8, b"w".to_vec()), "the value is kept, the lease is not");
    let freed = write(Put { value: None, lease: Some(0), ..Put::new(b"k", b"") });
    assert_eq!(lease_and_value(&freed), (0, b"w".to_vec()));
}

#[test]
fn rev_13_del_5_a_start_tells_which_keys_are_attached_known_lease_or_not() {
    let mut world = World::new();
    let mut txn = world.store().write();
    for key in [b"a", b"b"] {
        txn.put(Put { lease: Some(9), ..Put::new(key, b"v") }).expect("a put");
    }
    assert_eq!(txn.end().revision, 2);
    delete(world.store(), "a");
    let recovered = world.restart();
    let attached: Vec<_> = recovered.lease_keys.iter().map(|found| (&found.key[..], found.lease)).collect();
    assert_eq!(attached, [(&b"b"[..], 9)], "no record of lease 9 is needed, and the key stays");
    assert_eq!(value_at(world.store(), "b", 0), Some(b"v".to_vec()));
}

#[test]
fn del_2_to_del_4_a_delete_counts_and_tells_what_it_removed() {
    let world = three();
    let mut txn = world.store().write();
    let none = txn.delete_range(KeyRange::from_request(b"x", b"z"), true).expect("a delete");
    assert_eq!((none.count, none.prev_kvs.len(), txn.revision()), (0, 0, 5));
    let some = txn.delete_range(KeyRange::from_request(b"a", b"c"), true).expect("a delete");
    assert_eq!((some.count, keys(&some.prev_kvs).as_str()), (2, "ab"));
    let written = txn.end();
    let told: Vec<_> = written.events.iter().map(|e| (e.revision.main, e.revision.sub, &e.key[..])).collect();
    assert_eq!(told, [(6, 0, &b"a"[..]), (6, 1, b"b")]);
    assert_eq!(keys(&all(&world, &RangeOptions::default()).rows), "c");
}

#[test]
fn txn_16_a_range_inside_a_transaction_sees_what_came_before_it() {
    let world = three();
    let mut txn = world.store().write();
    let mut seen = Vec::new();
    let options = RangeOptions::default();
    seen.push(keys(&txn.range(KeyRange::ALL, &options).expect("a read").rows));
    txn.put(Put::new(b"d", b"4")).expect("a put");
    seen.push(keys(&txn.range(KeyRange::ALL, &options).expect("a read").rows));
    txn.delete_range(KeyRange::single(b"b"), false).expect("a delete");
    seen.push(keys(&txn.range(KeyRange::ALL, &options).expect("a read").rows));
    let past = RangeOptions { revision: 5, ..RangeOptions::default() };
    seen.push(keys(&txn.range(KeyRange::ALL, &past).expect("a read").rows));
    assert_eq!(seen, ["abc", "abcd", "acd", "abc"]);
    assert_eq!(txn.end().revision, 6);
}

#[test]
fn rev_4_a_life_begins_with_version_1_and_ends_with_a_delete() {
    let world = World::new();
    for value in ["1", "2"] {
        put(world.store(), "k", value);
    }
    delete(world.store(), "k");
    put(world.store(), "k", "3");
    let at = |revision| {
        let kv = world.store().get(b"k", revision).expect("a readable revision");
        kv.map(|kv| Pair::decode(&kv)).map(|pair| (pair.create, pair.modified, pair.version))
    };
    assert_eq!([2, 3, 4, 5].map(at), [Some((2, 2, 1)), Some((2, 3, 2)), None, Some((5, 5, 1))]);
}

#[test]
fn rev_9_to_rev_11_a_compaction_leaves_these_rows() {
    for (at, left) in [(3, "3 4t 5 6t"), (4, "4t 5 6t"), (5, "5 6t"), (6, "6t")] {
        let mut world = World::new();
        put(world.store(), "k", "1");
        put(world.store(), "k", "2");
        delete(world.store(), "k");
        put(world.store(), "k", "3");
        delete(world.store(), "k");
        put(world.store(), "other", "now");
        compact_to_the_end(world.store(), at);
        for _ in 0..2 {
            let view = world.store().read();
            // A watch that begins at the compact revision sees the tombstone there; what is older is left of one put.
            let told = view.history(KeyRange::single(b"k"), at, 100).expect("history").events;
            let told: Vec<_> = told
                .iter()
                .map(|event| format!("{}{}", event.revision.main, if event.delete { "t" } else { "" }))
                .collect();
            assert_eq!(told.join(" "), left, "compacted at {at}");
            drop(view);
            world.restart();
        }
    }
    let world = World::new();
    put(world.store(), "k", "1");
    delete(world.store(), "k");
    put(world.store(), "other", "now");
    compact_to_the_end(world.store(), 4);
    assert_eq!(world.store().indexed_key_count(), 1, "a key without a past leaves the index");
}

#[test]
fn cmp_7_cmp_8_rows_leave_in_small_batches_one_compaction_after_the_other() {
    let world = World::new();
    for i in 0..60 {
        put(world.store(), "k", &i.to_string());
    }
    world.store().compact(20).expect("acceptable");
    world.store().compact(50).expect("acceptable while the first is running");
    let mut finished = Vec::new();
    let mut steps = 0;
    loop {
        // Requests come in between: a put is not kept from happening, nor does it go missing.
        put(world.store(), "beside", "v");
        match world.store().compaction_step(7).expect("a step") {
            stanchion_mvcc::CompactionStep::Working(_) => steps += 1,
            stanchion_mvcc::CompactionStep::Finished(progress) => finished.push(progress.revision),
            stanchion_mvcc::CompactionStep::Idle => break,
        }
    }
    assert_eq!(finished, [20, 50]);
    assert!(steps >= 6, "48 stale rows are more than {steps} batches of seven");
    assert!(value_at(world.store(), "beside", 0).is_some());
}

/// Revision, key and, for a put, value of an event.
type Told = (i64, i64, Vec<u8>, Option<Vec<u8>>);

/// What history tells from `from` on.
fn told(store: &Store, from: i64) -> Vec<Told> {
    let events = store.read().history(KeyRange::ALL, from, 1000).expect("history").events;
    let value = |event: &Event| (!event.delete).then(|| Pair::decode(&event.kv).value);
    events.iter().map(|e| (e.revision.main, e.revision.sub, e.key.to_vec(), value(e))).collect()
}

#[test]
fn wch_19_wch_21_wch_27_history_has_every_change_in_order_and_no_revision_in_two_pieces() {
    let world = World::new();
    put(world.store(), "y", "old");
    let mut txn = world.store().write();
    txn.delete_range(from_key(b"y"), false).expect("a delete");
    txn.put(Put::new(b"y", b"new")).expect("a put");
    txn.put(Put::new(b"z", b"1")).expect("a put");
    assert_eq!(txn.end().revision, 3);
    put(world.store(), "y", "last");
    let text = |text: &str| text.as_bytes().to_vec();
    let expected = [
        (2, 0, text("y"), Some(text("old"))),
        (3, 0, text("y"), None),
        (3, 1, text("y"), Some(text("new"))),
        (3, 2, text("z"), Some(text("1"))),
        (4, 0, text("y"), Some(text("last"))),
    ];
    assert_eq!(told(world.store(), 2), expected);
    assert_eq!(told(world.store(), 4), expected[4..]);
    let piece = world.store().read().history(KeyRange::ALL, 2, 2).expect("history");
    assert_eq!((piece.events.len(), piece.next), (4, 4), "two revisions, the second with three changes");
    // The pair before, for watchers that want it: what was there a revision earlier, or nothing (wch_32, wch_34).
    assert_eq!(value_at(world.store(), "y", 3 - 1), Some(text("old")));
    assert_eq!(value_at(world.store(), "z", 3 - 1), None);
}
