//! Single rules that deserve an example of their own, and the reference's defects.

use stanchion_mvcc::{
    Applied, CommitSchedule, CompactionStep, Error, KeyRange, KeyValueRef, Put, ROW_MAX, RangeEnd,
    RangeOptions, Revision, RowKey, Rows, SortTarget, Store, schema,
};
use std::time::Duration;

use crate::model::Pair;
use crate::world::World;

pub(crate) fn put(store: &Store, key: &str, value: &str) -> i64 {
    let mut txn = store.write();
    txn.put(Put::new(key.as_bytes(), value.as_bytes())).expect("a put");
    txn.end().revision
}

pub(crate) fn delete(store: &Store, key: &str) -> i64 {
    let mut txn = store.write();
    txn.delete_range(KeyRange::single(key.as_bytes()), false).expect("a delete");
    txn.end().revision
}

pub(crate) fn compact_to_the_end(store: &Store, revision: i64) {
    store.compact(revision).expect("an acceptable revision");
    finish_compaction(store);
}

fn finish_compaction(store: &Store) {
    while store.compaction_step(1000).expect("a step") != CompactionStep::Idle {}
}

pub(crate) fn value_at(store: &Store, key: &str, revision: i64) -> Option<Vec<u8>> {
    store.get(key.as_bytes(), revision).expect("a readable revision").map(|kv| Pair::decode(&kv).value)
}

pub(crate) fn from_key(key: &[u8]) -> KeyRange<'_> {
    KeyRange { start: key, end: RangeEnd::Unbounded }
}

#[test]
fn kv_3_to_kv_5_ranges_mean_what_requests_say() {
    assert_eq!(KeyRange::from_request(b"a", b""), KeyRange::single(b"a"));
    assert_eq!(KeyRange::from_request(b"a", b"\0"), from_key(b"a"));
    assert!(KeyRange::from_request(b"\0", b"\0").contains(b"\0"));
    assert!(KeyRange::from_request(b"a", b"b").contains(b"a\xff"));
    let world = World::new();
    put(world.store(), "b", "1");
    let empty = world.store().read().range(KeyRange::from_request(b"c", b"b"), &RangeOptions::default());
    let empty = empty.expect("an empty range is no error");
    assert_eq!((empty.rows.len(), empty.count, empty.more), (0, 0, false));
}

#[test]
fn kv_8_kv_9_errors_tell_the_numbers() {
    let world = World::new();
    for value in ["1", "2", "3"] {
        put(world.store(), "k", value);
    }
    compact_to_the_end(world.store(), 3);
    let future = world.store().get(b"k", 5).expect_err("the store is at 4");
    assert!(matches!(future, Error::Future { requested: 5, current: 4 }), "{future}");
    assert_eq!(future.to_string(), "required revision 5 is a future revision; the store is at 4");
    let old = world.store().get(b"k", 2).expect_err("compacted at 3");
    assert!(matches!(old, Error::Compacted { requested: 2, compacted: 3 }), "{old}");
    assert_eq!(old.to_string(), "required revision 2 has been compacted; the compact revision is 3");
    assert_eq!(value_at(world.store(), "k", 3), Some(b"2".to_vec()));
    assert_eq!(value_at(world.store(), "k", -7), Some(b"3".to_vec()));
}

#[test]
fn kv_10_only_zero_is_current_inside_a_transaction() {
    let world = World::new();
    put(world.store(), "k", "1");
    let view = world.store().read();
    assert_eq!(view.check_revision_in_txn(0).expect("current"), 2);
    assert_eq!(view.check_revision_in_txn(-1).expect("passes on a store never compacted"), 2);
    assert!(matches!(view.check_revision_in_txn(-2), Err(Error::Compacted { requested: -2, compacted: -1 })));
    assert!(matches!(view.check_revision_in_txn(3), Err(Error::Future { .. })));
    let mut txn = world.store().write();
    let options = RangeOptions { revision: -1, ..RangeOptions::default() };
    assert_eq!(txn.range(KeyRange::ALL, &options).expect("readable").count, 1);
}

#[test]
fn kv_18_the_limit_is_pushed_down_before_sorting() {
    let world = World::new();
    for key in ["c", "b", "a"] {
        put(world.store(), key, "v");
    }
    let options = RangeOptions { limit: 1, sort_target: SortTarget::Mod, ..RangeOptions::default() };
    let result = world.store().read().range(KeyRange::ALL, &options).expect("a read");
    let keys: Vec<_> = result.rows.iter().map(|kv| Pair::decode(kv).key).collect();
    assert_eq!((keys, result.more, result.count), (vec![b"b".to_vec()], true, 3));
}

#[test]
fn rows_are_framed_as_the_answer_needs_them() {
    let world = World::new();
    put(world.store(), "a", "1");
    put(world.store(), "b", "2");
    let rows = world.store().read().range(KeyRange::ALL, &RangeOptions::default()).expect("a read").rows;
    let mut expected = Vec::new();
    for row in rows.iter() {
        expected.extend([0x12, row.len() as u8]);
        expected.extend(row);
    }
    assert_eq!(rows.framed(), expected);
    assert_eq!(rows.get(1).as_deref(), rows.iter().nth(1));
    assert_eq!(rows.get(2), None);
    // In place, beside another holder, and with a head that is longer than the room for it.
    let whole = |head: &[u8]| [head, &expected, b"tail"].concat();
    assert_eq!(rows.clone().framed_between(b"head", b"tail"), whole(b"head"));
    assert_eq!(rows.framed(), expected, "the other holder's rows are as they were");
    assert_eq!(rows.clone().framed_between(&[7; 1000], b"tail"), whole(&[7; 1000]));
    assert_eq!(rows.framed_between(b"head", b"tail"), whole(b"head"));
    assert_eq!(Rows::default().framed_between(b"head", b"tail"), b"headtail"[..]);
}

#[test]
fn rev_1_the_first_write_makes_revision_2() {
    let world = World::new();
    assert_eq!(world.store().revision(), 1);
    assert_eq!(put(world.store(), "k", "v"), 2);
}

#[test]
fn rev_3_txn_18_what_changes_nothing_uses_no_revision() {
    let world = World::new();
    put(world.store(), "k", "v");
    assert_eq!(delete(world.store(), "absent"), 2);
    let mut txn = world.store().write();
    schema::put_lease(&mut txn, schema::LeaseRecord { id: 7, ttl: 60, remaining_ttl: 0 });
    assert_eq!(txn.end().revision, 2);
    assert_eq!(put(world.store(), "k", "v"), 3);
}

#[test]
fn rev_5_a_tombstone_has_key_and_mod_revision_only() {
    let world = World::new();
    put(world.store(), "k", "v");
    let mut txn = world.store().write();
    txn.delete_range(KeyRange::single(b"k"), false).expect("a delete");
    let written = txn.end();
    let event = &written.events[0];
    let kv = KeyValueRef::decode(&event.kv).expect("a pair");
    assert_eq!(kv, KeyValueRef { key: b"k", mod_revision: 3, ..KeyValueRef::default() });
    assert_eq!((event.delete, event.revision), (true, Revision::new(3, 0)));
}

#[test]
fn rev_12_the_revision_never_goes_back() {
    let mut world = World::new();
    put(world.store(), "k", "v");
    delete(world.store(), "k");
    put(world.store(), "other", "v");
    delete(world.store(), "other");
    let now = world.store().revision();
    compact_to_the_end(world.store(), now);
    world.restart();
    assert_eq!((world.store().revision(), world.store().compact_revision()), (now, now));
}

#[test]
fn txn_17_txn_20_sub_revisions_count_changes() {
    let world = World::new();
    let mut txn = world.store().write();
    assert_eq!(txn.revision(), 1);
    txn.put(Put::new(b"a", b"1")).expect("a put");
    assert_eq!(txn.revision(), 2);
    txn.put(Put::new(b"b", b"2")).expect("a put");
    assert_eq!(txn.range(KeyRange::ALL, &RangeOptions::default()).expect("a read").count, 2);
    txn.delete_range(from_key(b"a"), false).expect("a delete");
    let written = txn.end();
    let subs: Vec<_> = written.events.iter().map(|event| (event.revision.main, event.revision.sub)).collect();
    assert_eq!(subs, [(2, 0), (2, 1), (2, 2), (2, 3)]);
}

#[test]
fn sto_5_a_transaction_is_visible_at_once_or_never() {
    let world = World::new();
    let mut txn = world.store().write();
    for i in 0..200u32 {
        txn.put(Put::new(&i.to_be_bytes(), b"v")).expect("a put");
    }
    let before = world.store().read();
    assert_eq!((before.revision(), before.count(KeyRange::ALL, 0).expect("a count")), (1, 0));
    drop(txn);
    assert_eq!((world.store().revision(), world.store().key_count()), (1, 0), "dropped means undone");
    assert_eq!(put(world.store(), "k", "v"), 2);
}

#[test]
fn cmp_1_cmp_2_which_revisions_may_be_compacted() {
    let world = World::new();
    put(world.store(), "k", "1");
    assert!(matches!(world.store().compact(-1), Err(Error::Compacted { requested: -1, compacted: -1 })));
    world.store().compact(0).expect("0 is accepted once");
    assert!(matches!(world.store().compact(0), Err(Error::Compacted { .. })));
    assert!(matches!(world.store().compact(3), Err(Error::Future { requested: 3, current: 2 })));
    world.store().compact(2).expect("the current revision");
}

#[test]
fn cmp_4_cmp_6_a_compaction_holds_at_once_and_resumes_after_a_restart() {
    let mut world = World::new();
    for i in 0..50 {
        put(world.store(), &format!("k{}", i % 5), "v");
    }
    world.store().compact(40).expect("an acceptable revision");
    assert!(matches!(world.store().get(b"k0", 39), Err(Error::Compacted { .. })));
    assert!(value_at(world.store(), "k0", 40).is_some());
    // Some of the rows go, then the process ends.
    for _ in 0..4 {
        world.store().compaction_step(8).expect("a step");
    }
    assert!(world.store().is_compacting());
    world.restart();
    assert!(matches!(world.store().get(b"k0", 39), Err(Error::Compacted { .. })));
    assert!(world.store().is_compacting());
    let removed = loop {
        match world.store().compaction_step(8).expect("a step") {
            CompactionStep::Finished(progress) => break progress.rows_removed,
            CompactionStep::Working(_) => {}
            CompactionStep::Idle => panic!("an unfinished compaction goes on"),
        }
    };
    assert!(removed > 0, "the rest was removed");
    let view = world.store().read();
    assert_eq!(schema::finished_compaction(&view).expect("a record"), Some(40));
    assert_eq!(view.history(KeyRange::ALL, 40, 1000).expect("history").events.len(), 12);
}

#[test]
fn mnt_16_to_mnt_19_hashes_of_known_rows() {
    // The sequence "put a, put a, delete a, put b" gives rows whose bytes are known, so the hash is recomputed here
    // byte by byte.
    let world = World::new();
    put(world.store(), "a", "1");
    put(world.store(), "a", "2");
    delete(world.store(), "a");
    put(world.store(), "b", "3");
    let rows: [(RowKey, &[u8]); 4] = [
        (RowKey::put(Revision::new(2, 0)), b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x011"),
        (RowKey::put(Revision::new(3, 0)), b"\x0a\x01a\x10\x02\x18\x03\x20\x02\x2a\x012"),
        (RowKey::tombstone(Revision::new(4, 0)), b"\x0a\x01a"),
        (RowKey::put(Revision::new(5, 0)), b"\x0a\x01b\x10\x05\x18\x05\x20\x01\x2a\x013"),
    ];
    let hash = |rows: &[(RowKey, &[u8])]| {
        let mut bytes = b"key".to_vec();
        rows.iter().for_each(|(key, value)| {
            bytes.extend_from_slice(&key.encode());
            bytes.extend_from_slice(value);
        });
        crc32c(&bytes)
    };
    let whole = world.store().hash_kv(0).expect("a hash");
    assert_eq!((whole.hash, whole.compact_revision, whole.revision), (hash(&rows), -1, 5));
    assert_eq!(world.store().hash_kv(3).expect("a hash").hash, hash(&rows[..2]));
    compact_to_the_end(world.store(), 4);
    // The compaction's own hash is that of the rows before it, under the previous compact revision.
    let stored = world.store().hash_kv(4).expect("a hash");
    assert_eq!((stored.hash, stored.compact_revision), (hash(&rows[..3]), -1));
    assert_eq!(world.store().compaction_hashes(), [stored]);
    // Computed now, the tombstone at the compact revision is left out.
    let computed = world.store().read().hash_kv(4).expect("a hash");
    assert_eq!((computed.hash, computed.compact_revision), (hash(&[]), 4));
    assert_eq!(world.store().hash_kv(0).expect("a hash").hash, hash(&rows[3..]));
    assert!(matches!(world.store().hash_kv(6), Err(Error::Future { .. })));
    assert!(matches!(world.store().hash_kv(3), Err(Error::Compacted { .. })));
}

/// CRC-32C bit by bit: slow, and independent of the crate that the store uses.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn cor_9_the_newest_ten_compaction_hashes_are_kept_if_the_one_before_had_finished() {
    let world = World::new();
    for i in 0..30 {
        put(world.store(), "k", &i.to_string());
    }
    for revision in 2..14 {
        compact_to_the_end(world.store(), revision);
    }
    let kept: Vec<_> = world.store().compaction_hashes().iter().map(|hash| hash.revision).collect();
    assert_eq!(kept, (4..14).collect::<Vec<_>>());
    // Two at once: the second was accepted before the first had finished.
    world.store().compact(20).expect("acceptable");
    world.store().compact(25).expect("acceptable");
    finish_compaction(world.store());
    let kept: Vec<_> = world.store().compaction_hashes().iter().map(|hash| hash.revision).collect();
    assert_eq!(kept, (5..14).chain([20]).collect::<Vec<_>>());
}

#[test]
fn def_1_a_key_deleted_and_put_by_one_transaction_survives_any_compaction() {
    for compact_at in [2, 3, 4, 5] {
        let mut world = World::new();
        put(world.store(), "y", "old");
        put(world.store(), "z", "1");
        let mut txn = world.store().write();
        txn.delete_range(from_key(b"y"), false).expect("a delete");
        txn.put(Put::new(b"y", b"new")).expect("a put");
        assert_eq!(txn.end().revision, 4);
        put(world.store(), "other", "2");
        compact_to_the_end(world.store(), compact_at);
        for _ in 0..2 {
            assert_eq!(value_at(world.store(), "y", 0), Some(b"new".to_vec()), "compacted at {compact_at}");
            assert_eq!(value_at(world.store(), "z", 0), None);
            let kv = world.store().get(b"y", 0).expect("a read").expect("the key");
            assert_eq!((Pair::decode(&kv).create, Pair::decode(&kv).version), (4, 1));
            world.restart();
        }
    }
}

#[test]
fn def_2_keeping_the_value_of_a_key_deleted_by_the_same_transaction_is_key_not_found() {
    let world = World::new();
    put(world.store(), "k", "v");
    for keep in [
        Put { key: b"k", value: None, lease: Some(0), prev_kv: false },
        Put { key: b"k", value: Some(b"x"), lease: None, prev_kv: false },
    ] {
        let mut txn = world.store().write();
        txn.delete_range(from_key(b"k"), false).expect("a delete");
        let error = txn.put(keep).expect_err("the key is gone");
        assert!(matches!(&error, Error::KeyNotFound { key } if key == "k"), "{error}");
        drop(txn);
        assert_eq!((world.store().revision(), value_at(world.store(), "k", 0)), (2, Some(b"v".to_vec())));
    }
    assert_eq!(put(world.store(), "k", "alive"), 3);
}

#[test]
fn bad_puts_are_refused_with_the_numbers() {
    let world = World::new();
    let mut txn = world.store().write();
    assert!(matches!(txn.put(Put::new(b"", b"v")), Err(Error::EmptyKey)));
    assert!(matches!(txn.delete_range(KeyRange::ALL, false), Err(Error::EmptyKey)));
    assert!(matches!(txn.compact(9), Err(Error::Future { requested: 9, current: 1 })));
    let long = vec![0; ROW_MAX];
    let error = txn.put(Put::new(b"k", &long)).expect_err("one byte too much");
    assert_eq!(error.to_string(), "key and value of 1073741825 bytes are over the limit of 1073741824");
    assert_eq!(txn.end().revision, 1);
}

#[test]
fn sto_6_records_and_applied_index_travel_together() {
    let mut world = World::new();
    let mut txn = world.store().write();
    txn.put(Put::new(b"k", b"v")).expect("a put");
    schema::put_lease(&mut txn, schema::LeaseRecord { id: 1, ttl: 60, remaining_ttl: 0 });
    schema::put_lease(&mut txn, schema::LeaseRecord { id: 2, ttl: 90, remaining_ttl: 30 });
    schema::delete_lease(&mut txn, 1);
    txn.set_applied(Applied { index: 17, term: 3 });
    assert_eq!(schema::leases(&txn).expect("leases").len(), 1, "a transaction sees its own records");
    assert_eq!(txn.end().events.len(), 1);
    let left = [schema::LeaseRecord { id: 2, ttl: 90, remaining_ttl: 30 }];
    assert_eq!(schema::leases(&world.store().read()).expect("leases"), left, "from the buffer");
    let committed = world.store().commit().expect("a commit").expect("something to commit");
    assert_eq!((committed.applied, committed.changes), (Applied { index: 17, term: 3 }, 3));
    assert_eq!(world.store().commit().expect("a commit"), None, "nothing is left");
    assert_eq!(schema::leases(&world.store().read()).expect("leases"), left, "from the file");
    // An entry without effects is stored with the next commit.
    world.store().set_applied(Applied { index: 18, term: 4 });
    let committed = world.store().commit().expect("a commit").expect("the index moved");
    assert_eq!(committed.applied, Applied { index: 18, term: 4 });
    assert_eq!(world.restart().applied, Applied { index: 18, term: 4 });
}

#[test]
fn sto_1_a_commit_is_due_by_time_or_by_number() {
    let world = World::new();
    let mut schedule = CommitSchedule::new(Duration::from_millis(100), 3);
    let ms = Duration::from_millis;
    assert_eq!(schedule.step(world.store(), ms(1000)).expect("no commit"), None, "nothing waits");
    put(world.store(), "k", "1");
    assert!(schedule.step(world.store(), ms(1000)).expect("a commit").is_some(), "the interval is over");
    put(world.store(), "k", "2");
    assert_eq!(schedule.step(world.store(), ms(1099)).expect("no commit"), None);
    assert!(schedule.step(world.store(), ms(1100)).expect("a commit").is_some());
    for value in ["3", "4", "5"] {
        put(world.store(), "k", value);
    }
    assert!(schedule.step(world.store(), ms(1101)).expect("a commit").is_some(), "enough changes wait");
}

#[test]
fn every_kind_of_record_reads_back_after_a_restart() {
    let mut world = World::new();
    let member = schema::MemberRecord {
        id: 0xfeed,
        peer_urls: vec!["http://127.0.0.1:2380".into()],
        is_learner: true,
        name: "m1".into(),
        client_urls: vec!["http://127.0.0.1:2379".into()],
    };
    let conf = schema::ConfStateRecord { voters: vec![u64::MAX, 1], ..schema::ConfStateRecord::default() };
    let downgrade = schema::DowngradeRecord { target_version: "3.6.0".into(), enabled: true };
    let user =
        schema::UserRecord { name: "root".into(), password: "$2a$".into(), ..schema::UserRecord::default() };
    let role = schema::RoleRecord { name: "r".into(), ..schema::RoleRecord::default() };
    let alarm = schema::AlarmRecord { member_id: 9, alarm: 1 };
    let mut txn = world.store().write();
    schema::put_member(&mut txn, &member);
    schema::put_removed_member(&mut txn, 0xdead);
    schema::put_cluster_version(&mut txn, "3.7.0");
    schema::put_downgrade(&mut txn, &downgrade);
    schema::put_conf_state(&mut txn, &conf);
    schema::put_storage_version(&mut txn, Some("3.7.0"));
    schema::put_auth_enabled(&mut txn, true);
    schema::put_auth_revision(&mut txn, 12);
    schema::put_user(&mut txn, &user);
    schema::put_role(&mut txn, &role);
    schema::put_alarm(&mut txn, alarm);
    assert_eq!(txn.end().events, []);
    world.restart();
    let view = world.store().read();
    assert_eq!(schema::members(&view).expect("members"), [member]);
    assert_eq!(schema::removed_members(&view).expect("ids"), [0xdead]);
    assert_eq!(schema::cluster_version(&view).expect("a version").as_deref(), Some("3.7.0"));
    assert_eq!(schema::downgrade(&view).expect("a downgrade"), Some(downgrade));
    assert_eq!(schema::conf_state(&view).expect("a configuration"), Some(conf));
    assert_eq!(schema::storage_version(&view).expect("a version").as_deref(), Some("3.7.0"));
    assert!(schema::auth_enabled(&view).expect("a flag"));
    assert_eq!(schema::auth_revision(&view).expect("a number"), 12);
    assert_eq!(schema::user(&view, b"root").expect("a user"), Some(user));
    assert_eq!(schema::roles(&view).expect("roles"), [role]);
    assert_eq!(schema::alarms(&view).expect("alarms"), [alarm]);
}

#[test]
fn an_unknown_storage_version_is_refused() {
    let mut world = World::new();
    for (version, fine) in [("3.8.0", false), ("4.0.0", false), ("junk", false), ("3.6.0", true)] {
        let mut txn = world.store().write();
        schema::put_storage_version(&mut txn, Some(version));
        assert_eq!(txn.end().revision, 1);
        match world.try_restart() {
            Ok(_) => assert!(fine, "{version}"),
            Err(error) => {
                assert!(
                    !fine && matches!(&error, Error::StorageVersion { found, .. } if found == version),
                    "{error}"
                );
                world = World::new();
            }
        }
    }
}

/// Writes the keys in their order, reads each, and deletes all in one range.
fn every_key_is_found(keys: impl Iterator<Item = Vec<u8>>) {
    let world = World::new();
    let mut written = std::collections::BTreeSet::new();
    for key in keys {
        let mut txn = world.store().write();
        txn.put(Put::new(&key, b"v")).expect("a put");
        assert_eq!(txn.end().events.len(), 1);
        written.insert(key);
    }
    let view = world.store().read();
    for key in &written {
        assert_eq!(view.count(KeyRange::single(key), 0).expect("a count"), 1, "{key:?}");
    }
    let mut txn = world.store().write();
    assert_eq!(
        txn.delete_range(KeyRange::from_request(b"\0", b"\0"), false).expect("a delete").count,
        written.len() as u64
    );
    assert_eq!(txn.end().events.len(), written.len());
}

#[test]
fn rev_6_keys_that_come_in_descending_order_are_all_found() {
    every_key_is_found((0..20_000u32).rev().map(|n| n.to_be_bytes().to_vec()));
}

#[test]
fn rev_6_long_keys_that_come_in_random_order_are_all_found() {
    // As `etcdctl check datascale` makes them: a prefix, the varint of a random number, and zeros.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    every_key_is_found((0..10_000).map(|_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut key = b"/etcdctl-check-datascale/".to_vec();
        let mut rest = random & !1;
        while rest >= 0x80 {
            key.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        key.push(rest as u8);
        key.resize(537, 0);
        key
    }));
}
