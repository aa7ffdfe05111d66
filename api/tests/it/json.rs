//! The gateway's JSON rules.

use stanchion_api::etcdserverpb as pb;
use stanchion_api::json::{read_first, write};
use stanchion_api::mvccpb::{Event, KeyValue};

fn read<T: serde::de::DeserializeOwned + Default>(text: &str) -> T {
    read_first(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str) {
    let read = read_first::<pb::RangeRequest>(text.as_bytes());
    assert!(read.is_err(), "{text} was read as {read:?}");
}

fn text<T: serde::Serialize>(message: &T) -> String {
    String::from_utf8(write(message).unwrap()).unwrap()
}

#[test]
fn answers_use_proto_names_and_leave_zeros_out() {
    let header = pb::ResponseHeader { cluster_id: u64::MAX, member_id: 0, revision: -2, raft_term: 3 };
    let answer = pb::RangeResponse {
        header: Some(header),
        kvs: vec![KeyValue {
            key: "foo".into(),
            mod_revision: 2,
            value: vec![0xff, 0xfe].into(),
            ..Default::default()
        }],
        more: true,
        count: 0,
    };
    assert_eq!(
        text(&answer),
        r#"{"header":{"cluster_id":"18446744073709551615","revision":"-2","raft_term":"3"},"kvs":[{"key":"Zm9v","mod_revision":"2","value":"//4="}],"more":true}"#
    );
    assert_eq!(text(&pb::DefragmentResponse::default()), "{}");
    assert_eq!(text(&pb::HashResponse { hash: 7, header: None }), r#"{"hash":7}"#);
    let member = pb::Member { id: 1, peer_ur_ls: vec!["u".into()], is_learner: true, ..Default::default() };
    assert_eq!(text(&member), r#"{"ID":"1","peerURLs":["u"],"isLearner":true}"#);
    assert_eq!(
        text(&pb::LeaseTimeToLiveResponse { granted_ttl: 5, ttl: -1, ..Default::default() }),
        r#"{"TTL":"-1","grantedTTL":"5"}"#
    );
    let delete = Event { r#type: 1, kv: Some(KeyValue::default()), prev_kv: None };
    assert_eq!(text(&delete), r#"{"type":"DELETE","kv":{}}"#);
}

#[test]
fn names_may_be_proto_or_camel_case() {
    let request: pb::RangeRequest =
        read(r#"{"key":"Zm9v","rangeEnd":"AA==","keysOnly":true,"min_mod_revision":"4"}"#);
    assert_eq!((&request.key[..], &request.range_end[..]), (&b"foo"[..], &b"\0"[..]));
    assert!(request.keys_only);
    assert_eq!(request.min_mod_revision, 4);
    assert_eq!(
        read::<pb::LeaseCheckpoint>(r#"{"remainingTTL":"4","ID":3}"#),
        pb::LeaseCheckpoint { id: 3, remaining_ttl: 4 }
    );
}

#[test]
fn empty_bodies_unknown_fields_nulls_and_what_follows_are_let_pass() {
    assert_eq!(read::<pb::RangeRequest>(""), pb::RangeRequest::default());
    assert_eq!(read::<pb::RangeRequest>("  \n"), pb::RangeRequest::default());
    let nulls = r#"{"key":null,"limit":null,"sort_order":null,"serializable":null,"nope":[1]} trailing"#;
    assert_eq!(read::<pb::RangeRequest>(nulls), pb::RangeRequest::default());
    assert_eq!(read::<pb::TxnRequest>(r#"{"compare":null,"success":null}"#), pb::TxnRequest::default());
    let op: pb::Compare = read(r#"{"create_revision":null,"version":"2"}"#);
    assert_eq!(op.target_union, Some(pb::compare::TargetUnion::Version(2)));
}

#[test]
fn integers_come_as_numbers_or_strings() {
    for limit in ["7", "\"7\"", "7.0", "\"7.0\"", "7e0", "70e-1"] {
        assert_eq!(read::<pb::RangeRequest>(&format!("{{\"limit\":{limit}}}")).limit, 7, "{limit}");
    }
    assert_eq!(read::<pb::RangeRequest>(r#"{"limit":"-9223372036854775808"}"#).limit, i64::MIN);
    assert_eq!(read::<pb::MemberRemoveRequest>(r#"{"ID":"18446744073709551615"}"#).id, u64::MAX);
    for limit in
        ["7.5", "\" 7\"", "\"7 \"", "\"\"", "\"+7\"", "\"inf\"", "true", "9223372036854775808", "1e300"]
    {
        refused(&format!("{{\"limit\":{limit}}}"));
    }
}

#[test]
fn bytes_take_both_alphabets_with_or_without_padding() {
    for key in ["+/8=", "-_8=", "+/8", "-_8"] {
        assert_eq!(
            &read::<pb::RangeRequest>(&format!("{{\"key\":\"{key}\"}}")).key[..],
            [0xfb, 0xff],
            "{key}"
        );
    }
    refused(r#"{"key":"%"}"#);
    refused(r#"{"key":7}"#);
}

#[test]
fn enums_come_as_names_or_numbers_and_stay_open() {
    for (order, number) in [("\"DESCEND\"", 2), ("2", 2), ("9", 9), ("-1", -1), ("\"NOPE\"", 0)] {
        assert_eq!(
            read::<pb::RangeRequest>(&format!("{{\"sort_order\":{order}}}")).sort_order,
            number,
            "{order}"
        );
    }
    let create: pb::WatchCreateRequest = read(r#"{"filters":["NODELETE","NOPE",0,7]}"#);
    assert_eq!(create.filters, [1, 0, 7]);
}

#[test]
fn broken_forms_are_refused() {
    for text in
        ["null", "[]", "7", "{", "nope", r#"{"key":"Zm9v","key":"Zm9v"}"#, r#"{"serializable":"yes"}"#]
    {
        refused(text);
    }
    assert!(read_first::<pb::Compare>(br#"{"version":1,"mod_revision":1}"#).is_err());
}
