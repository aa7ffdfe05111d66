//! Wrapped log payloads against prost's own encoding of the same message.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::{RaftRequest, RaftRequestError, RequestKind, wrap, wrapped_len};

fn header(id: u64, username: &str) -> pb::RequestHeader {
    pb::RequestHeader { id, username: username.into(), auth_revision: 0 }
}

#[test]
fn every_kind_lands_in_its_field() {
    for &kind in RequestKind::ALL {
        assert_eq!(RequestKind::from_field(kind.field()), Some(kind));
        let entry = wrap(&header(9, "root"), kind, b"");
        assert_eq!(entry.len(), wrapped_len(&header(9, "root"), kind, 0), "{kind:?}");
        let view = RaftRequest::parse(entry.clone()).unwrap();
        assert_eq!((view.id(), view.request), (9, Some((kind, Bytes::new()))));
        let full = pb::InternalRaftRequest::decode(entry).unwrap();
        let debug = format!("{full:?}");
        let members_set = debug.matches("Some(").count();
        assert_eq!(members_set, if kind == RequestKind::V2 { 1 } else { 2 }, "{debug}");
    }
}

#[test]
fn the_older_id_wins_when_it_is_set() {
    let entry = pb::InternalRaftRequest { id: 4, header: Some(header(9, "")), ..Default::default() };
    assert_eq!(RaftRequest::parse(entry.encode_to_vec().into()).unwrap().id(), 4);
}

#[test]
fn a_request_in_two_parts_is_merged() {
    let mut entry = wrap(&header(1, ""), RequestKind::Put, &[0x0a, 1, b'k']).to_vec();
    entry.extend_from_slice(&wrap(&header(1, ""), RequestKind::Put, &[0x12, 1, b'v']));
    let (_, bytes) = RaftRequest::parse(entry.into()).unwrap().request.unwrap();
    assert_eq!(pb::PutRequest::decode(bytes).unwrap().value, "v");
}

#[test]
fn broken_entries_are_named() {
    let cut = RaftRequest::parse(Bytes::from_static(&[0x22, 5, 1])).unwrap_err();
    assert_eq!(cut, RaftRequestError::Truncated { len: 3, field: 4, expected: 5, found: 1 });
    let two = RaftRequest::parse(Bytes::from_static(&[0x22, 0, 0x2a, 0])).unwrap_err();
    assert_eq!(
        two,
        RaftRequestError::TwoRequests { first: RequestKind::Put, second: RequestKind::DeleteRange }
    );
    let torn = RaftRequest::parse(Bytes::from_static(&[0xff])).unwrap_err();
    assert!(matches!(torn, RaftRequestError::Malformed { len: 1, .. }));
}

proptest! {
    #[test]
    fn wrapping_equals_encoding(id: u64, user in "[a-z]{0,9}", key: Vec<u8>, value: Vec<u8>, lease: i64) {
        let put = pb::PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() };
        let header = header(id, &user);
        let whole = pb::InternalRaftRequest { header: Some(header.clone()), put: Some(put.clone()), ..Default::default() };
        let raw = put.encode_to_vec();
        let entry = wrap(&header, RequestKind::Put, &raw);
        prop_assert_eq!(pb::InternalRaftRequest::decode(entry.clone()).unwrap(), whole.clone());
        prop_assert_eq!(entry.len(), whole.encoded_len());
        let view = RaftRequest::parse(entry).unwrap();
        prop_assert_eq!(view.header, Some(header));
        prop_assert_eq!(view.request, Some((RequestKind::Put, Bytes::from(raw))));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let outer = RaftRequest::parse(bytes.clone().into());
        if pb::InternalRaftRequest::decode(&bytes[..]).is_ok() {
            let readable = match outer {
                Ok(_) | Err(RaftRequestError::TwoRequests { .. }) => true,
                Err(_) => false,
            };
            prop_assert!(readable);
        }
    }
}
