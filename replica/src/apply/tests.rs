//! The applier on its own: verdicts, effects, and being loaded again.

use std::path::Path;
use std::sync::Arc;

use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::compare::TargetUnion;
use stanchion_api::etcdserverpb::request_op::Request as Op;
use stanchion_api::raft_request::{RequestKind, wrap};
use stanchion_disk::RealDisk;
use stanchion_mvcc::{Store, StoreOptions};

use super::*;
use crate::membership::Member;

struct World {
    dir: tempfile::TempDir,
    applier: Applier,
    index: u64,
}

fn open(dir: &Path, quota_bytes: Option<u64>) -> Applier {
    let (store, recovered) =
        Store::open(Arc::new(RealDisk), &dir.join("db"), &StoreOptions::default()).expect("the store opens");
    let config = Config {
        quota_bytes,
        max_learners: 1,
        persist_lease_checkpoints: true,
        lease: stanchion_lease::Config::default(),
    };
    Applier::open(config, Arc::new(store), &recovered).expect("the state loads")
}

impl World {
    fn new() -> World {
        World::with_quota(None)
    }

    fn with_quota(quota_bytes: Option<u64>) -> World {
        let dir = tempfile::tempdir().expect("a directory for the test");
        World { applier: open(dir.path(), quota_bytes), dir, index: 0 }
    }

    fn apply(&mut self, kind: RequestKind, request: &impl Message) -> Effect {
        self.index += 1;
        let header = pb::RequestHeader { id: self.index, ..Default::default() };
        let data = wrap(&header, kind, &request.encode_to_vec());
        let effect = self.applier.apply(0, self.index, 1, data).expect("storage works").expect("a new entry");
        assert_eq!(effect.id, self.index);
        effect
    }

    fn put(&mut self, key: &str, value: &str) -> Effect {
        self.apply(RequestKind::Put, &put(key, value))
    }

    fn get(&self, key: &str) -> Option<String> {
        let row = self.applier.store().get(key.as_bytes(), 0).unwrap()?;
        Some(String::from_utf8(stanchion_api::mvccpb::KeyValue::decode(row).unwrap().value.to_vec()).unwrap())
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// A database that came from elsewhere may be ahead of the log beside it.
#[test]
fn an_entry_that_is_in_the_database_has_no_effect_again() {
    let mut world = World::new();
    world.put("k", "v");
    let revision = world.applier.store().revision();
    let header = pb::RequestHeader { id: 9, ..Default::default() };
    let data = wrap(&header, RequestKind::Put, &put("k", "w").encode_to_vec());
    assert!(world.applier.apply(0, world.index, 1, data).expect("storage works").is_none());
    assert_eq!((world.applier.store().revision(), world.get("k").as_deref()), (revision, Some("v")));
}

#[test]
fn srv_17_an_entry_takes_effect_once() {
    let mut world = World::new();
    let data = wrap(
        &pb::RequestHeader { id: 9, ..Default::default() },
        RequestKind::Put,
        &put("a", "1").encode_to_vec(),
    );
    assert!(world.applier.apply(0, 5, 2, data.clone()).unwrap().is_some());
    let revision = world.applier.store().revision();
    assert!(world.applier.apply(0, 5, 2, data).unwrap().is_none());
    assert_eq!(world.applier.store().revision(), revision);
    assert_eq!(world.applier.applied(), Applied { index: 5, term: 2 });
}

#[test]
fn srv_18_refused_and_strange_entries_still_count() {
    let mut world = World::new();
    let refused = world.apply(RequestKind::LeaseRevoke, &pb::LeaseRevokeRequest { id: 4 });
    assert_eq!(refused.result, Err(Refusal::LeaseNotFound));
    let strange = world.applier.apply(0, 2, 1, Bytes::from_static(b"\xff\xff")).unwrap().unwrap();
    assert!(matches!(strange.result, Err(Refusal::Unknown { .. })));
    assert!(world.applier.apply(0, 3, 2, Bytes::new()).unwrap().is_none());
    assert_eq!(world.applier.store().applied(), Applied { index: 3, term: 2 });
}

#[test]
fn put_5_and_8_lease_and_key_must_exist() {
    let mut world = World::new();
    let leased = pb::PutRequest { lease: 3, ..put("a", "1") };
    assert_eq!(world.apply(RequestKind::Put, &leased).result, Err(Refusal::LeaseNotFound));
    let kept = pb::PutRequest { ignore_value: true, ..put("a", "") };
    assert_eq!(world.apply(RequestKind::Put, &kept).result, Err(Refusal::KeyNotFound));
    assert_eq!(world.applier.store().revision(), 1);
}

#[test]
fn lse_15_a_revoke_deletes_its_keys_in_one_revision() {
    let mut world = World::new();
    world.apply(RequestKind::LeaseGrant, &pb::LeaseGrantRequest { id: 3, ttl: 60 }).result.unwrap();
    for key in ["b", "a", "c"] {
        world.apply(RequestKind::Put, &pb::PutRequest { lease: 3, ..put(key, "1") }).result.unwrap();
    }
    world.put("c", "free").result.unwrap();
    let (revision, events) =
        world.apply(RequestKind::LeaseRevoke, &pb::LeaseRevokeRequest { id: 3 }).events.expect("keys go");
    assert_eq!(revision, 6);
    assert_eq!(events.iter().map(|e| &e.key[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(world.get("c").as_deref(), Some("free"));
}

#[test]
fn txn_7_to_17_compares_branches_and_one_revision() {
    let mut world = World::new();
    world.put("a", "1").result.unwrap();
    let compare = |value: &str| pb::Compare {
        target: pb::compare::CompareTarget::Value as i32,
        key: "a".into(),
        target_union: Some(TargetUnion::Value(value.to_owned().into())),
        ..Default::default()
    };
    let read = pb::RangeRequest { key: "a".into(), ..Default::default() };
    let request = |value: &str| pb::TxnRequest {
        compare: vec![compare(value)],
        success: vec![
            op(Op::RequestPut(put("a", "2"))),
            op(Op::RequestRange(read.clone())),
            op(Op::RequestPut(put("b", "3"))),
        ],
        failure: vec![op(Op::RequestRange(read.clone()))],
    };
    let Reply::Txn(missed) = world.apply(RequestKind::Txn, &request("9")).result.unwrap() else {
        panic!("a txn")
    };
    assert!(!missed.succeeded && missed.responses.len() == 1 && missed.header.unwrap().revision == 2);
    let effect = world.apply(RequestKind::Txn, &request("1"));
    let Reply::Txn(done) = effect.result.unwrap() else { panic!("a txn") };
    assert!(done.succeeded);
    assert_eq!(done.header.unwrap().revision, 3);
    assert_eq!(effect.events.unwrap().1.len(), 2);
    let Some(pb::response_op::Response::ResponseRange(range)) = &done.responses[1].response else {
        panic!("a range")
    };
    assert_eq!(&range.kvs[0].value[..], b"2", "a range sees what the transaction wrote before");
}

#[test]
fn txn_14_a_failing_check_leaves_nothing_behind() {
    let mut world = World::new();
    let request = pb::TxnRequest {
        success: vec![
            op(Op::RequestPut(put("a", "1"))),
            op(Op::RequestRange(pb::RangeRequest { key: "a".into(), revision: 2, ..Default::default() })),
        ],
        ..Default::default()
    };
    assert_eq!(world.apply(RequestKind::Txn, &request).result, Err(Refusal::Future));
    assert_eq!((world.get("a"), world.applier.store().revision()), (None, 1));
}

/// The reference stops every member when one transaction deletes a key from a range without end and then keeps its
/// value in a put: the check before sees the key, the put does not.
#[test]
fn def_2_a_put_that_keeps_what_its_transaction_deleted_is_refused() {
    let mut world = World::new();
    world.put("k", "1").result.unwrap();
    let all = pb::DeleteRangeRequest { key: "k".into(), range_end: Bytes::from_static(&[0]), prev_kv: false };
    let request = pb::TxnRequest {
        success: vec![
            op(Op::RequestDeleteRange(all)),
            op(Op::RequestPut(pb::PutRequest { ignore_value: true, ..put("k", "") })),
        ],
        ..Default::default()
    };
    assert_eq!(world.apply(RequestKind::Txn, &request).result, Err(Refusal::KeyNotFound));
    assert_eq!(world.get("k").as_deref(), Some("1"));
    world.put("k", "2").result.unwrap();
}

#[test]
fn mnt_3_to_5_alarms_refuse_what_they_must() {
    let mut world = World::new();
    let alarm = |alarm, action: pb::alarm_request::AlarmAction| pb::AlarmRequest {
        action: action as i32,
        member_id: 5,
        alarm,
    };
    use pb::alarm_request::AlarmAction::{Activate, Deactivate, Get};
    world.apply(RequestKind::Alarm, &alarm(NO_SPACE, Activate)).result.unwrap();
    assert_eq!(world.put("a", "1").result, Err(Refusal::NoSpace));
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    world.apply(RequestKind::DeleteRange, &delete).result.unwrap();
    world.apply(RequestKind::Alarm, &alarm(CORRUPT, Activate)).result.unwrap();
    assert_eq!(world.put("a", "1").result, Err(Refusal::Corrupt));
    let Reply::Alarm(all) = world.apply(RequestKind::Alarm, &alarm(0, Get)).result.unwrap() else { panic!() };
    assert_eq!(all.alarms.len(), 2);
    for kind in [NO_SPACE, CORRUPT] {
        world.apply(RequestKind::Alarm, &alarm(kind, Deactivate)).result.unwrap();
    }
    world.put("a", "1").result.unwrap();
}

#[test]
fn mnt_9_over_the_quota_the_write_happens_and_the_caller_is_told() {
    let mut world = World::with_quota(Some(1));
    let effect = world.put("a", "1");
    assert!(effect.raise_no_space);
    assert_eq!(effect.result, Err(Refusal::NoSpace));
    assert_eq!(world.get("a").as_deref(), Some("1"));
}

#[test]
fn everything_is_there_after_a_restart() {
    let mut world = World::new();
    let member = Member { id: 5, peer_urls: vec!["http://a:1".into()], ..Member::default() };
    world.index += 1;
    world.applier.apply_change(world.index, 1, &Change::Add(member)).unwrap().unwrap();
    let attributes = membershippb::Attributes { name: "m".into(), client_urls: vec!["http://a:2".into()] };
    let publish =
        membershippb::ClusterMemberAttrSetRequest { member_id: 5, member_attributes: Some(attributes) };
    world.apply(RequestKind::ClusterMemberAttrSet, &publish).result.unwrap();
    let version = membershippb::ClusterVersionSetRequest { ver: "3.7.0".into() };
    world.apply(RequestKind::ClusterVersionSet, &version).result.unwrap();
    world.apply(RequestKind::LeaseGrant, &pb::LeaseGrantRequest { id: 3, ttl: 60 }).result.unwrap();
    world.apply(RequestKind::Put, &pb::PutRequest { lease: 3, ..put("a", "1") }).result.unwrap();
    world.applier.store().commit().unwrap();

    let World { dir, applier: before, .. } = world;
    let (applied, cluster, leases) = (before.applied(), before.cluster().clone(), before.lessor().stored());
    // The file is locked by whoever has it open.
    drop(before);
    let after = open(dir.path(), None);
    assert_eq!(after.applied(), applied);
    assert_eq!(*after.cluster(), cluster);
    assert_eq!(after.cluster_version(), Some("3.7.0"));
    assert_eq!(after.lessor().stored(), leases);
    assert_eq!(after.lessor().lease_of(b"a"), Some(3));
    assert_eq!(after.store().revision(), 2);
}
