//! Field numbers and types against bytes written by hand, and round trips.

use proptest::prelude::*;
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::mvccpb::{Event, KeyValue, event::EventType};
use stanchion_api::{authpb, leasepb, membershippb, v3electionpb};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn same<M: Message + Default + PartialEq + std::fmt::Debug>(message: M, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(message.encode_to_vec(), bytes, "encoding of {message:?}");
    assert_eq!(M::decode(&bytes[..]).unwrap(), message, "decoding of {bytes:02x?}");
}

#[test]
fn fields_have_their_numbers() {
    same(
        pb::PutRequest {
            key: "k".into(),
            value: "v".into(),
            lease: 3,
            prev_kv: true,
            ignore_value: true,
            ignore_lease: true,
        },
        "0a016b 120176 1803 2001 2801 3001",
    );
    same(
        KeyValue {
            key: "k".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 4,
            value: "v".into(),
            lease: 5,
        },
        "0a016b 1002 1803 2004 2a0176 3005",
    );
    same(
        Event {
            r#type: EventType::Delete.into(),
            kv: Some(KeyValue::default()),
            prev_kv: Some(KeyValue::default()),
        },
        "0801 1200 1a00",
    );
    same(
        pb::WatchResponse { watch_id: -1, events: vec![Event::default()], ..Default::default() },
        "10ffffffffffffffffff01 5a00",
    );
    same(
        pb::Compare {
            range_end: "z".into(),
            target_union: Some(pb::compare::TargetUnion::Lease(1)),
            ..Default::default()
        },
        "4001 8204017a",
    );
    same(
        pb::Member { id: 1, peer_ur_ls: vec!["u".into()], is_learner: true, ..Default::default() },
        "0801 1a0175 2801",
    );
    same(pb::Metadata { node_id: Some(1), cluster_id: Some(2) }, "0801 1002");
    same(leasepb::Lease { id: 1, ttl: 2, remaining_ttl: 3 }, "0801 1002 1803");
    same(membershippb::ClusterVersionSetRequest { ver: "3".into() }, "0a0133");
    same(authpb::Permission { perm_type: 2, key: "k".into(), range_end: "l".into() }, "0802 12016b 1a016c");
    same(
        v3electionpb::LeaderKey { name: "n".into(), key: "k".into(), rev: 1, lease: 2 },
        "0a016e 12016b 1801 2002",
    );
    same(
        pb::InternalRaftRequest {
            header: Some(pb::RequestHeader { id: 1, username: "u".into(), auth_revision: 2 }),
            downgrade_info_set: Some(membershippb::DowngradeInfoSetRequest::default()),
            ..Default::default()
        },
        "a20607 0801 120175 1802 b25100",
    );
}

#[test]
fn unknown_fields_are_skipped_and_packed_enums_may_be_unpacked() {
    let put = pb::PutRequest::decode(&hex("0a016b fa3e03616263")[..]).unwrap();
    assert_eq!(&put.key[..], b"k");
    for filters in ["2a020001", "2800 2801"] {
        let create = pb::WatchCreateRequest::decode(&hex(filters)[..]).unwrap();
        assert_eq!(create.filters, [0, 1]);
    }
}

#[test]
fn a_string_that_is_no_utf_8_is_refused() {
    assert!(pb::AuthRoleAddRequest::decode(&hex("0a02c328")[..]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(txn) = pb::TxnRequest::decode(&bytes[..]) {
            prop_assert_eq!(pb::TxnRequest::decode(&txn.encode_to_vec()[..]).unwrap(), txn);
        }
    }
}
