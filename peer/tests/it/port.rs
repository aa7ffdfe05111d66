//! The peer port against requests that are written by hand: honest ones, wrong ones and garbage.

use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_peer::{AskError, Asker};
use stanchion_raft::{MessageType, WireForm};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{Node, SOON, ask, headers, message, open, read_until};

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn replaced(
    mut headers: Vec<(&'static str, String)>,
    name: &str,
    value: &str,
) -> Vec<(&'static str, String)> {
    for (known, old) in &mut headers {
        if *known == name {
            value.clone_into(old);
        }
    }
    headers
}

#[tokio::test]
async fn streams_are_checked_in_etcds_order() {
    let node = Node::start(0xa).await;
    node.transport.add_peer(0xb, &["http://127.0.0.1:1".into()]).unwrap();
    node.recorder.removed.lock().insert(0xdead);
    let good = headers(0xb, 0xa);
    for (line, headers, code, text) in [
        ("POST /raft/stream/message/b", good.clone(), 405, "Method Not Allowed\n"),
        ("GET /raft/stream/nothing/b", good.clone(), 404, "invalid path\n"),
        ("GET /raft/stream/msgappv2/b", good.clone(), 404, "invalid path\n"),
        ("GET /raft/stream/message/xyz", good.clone(), 404, "invalid from\n"),
        ("GET /raft/stream/message/dead", good.clone(), 410, "removed member\n"),
        ("GET /raft/stream/message/77", good.clone(), 404, "error sender not found\n"),
        ("GET /raft/stream/message/b", replaced(good.clone(), "X-Raft-To", "0a"), 412, "to field mismatch\n"),
        (
            "GET /raft/stream/dead/b",
            replaced(good.clone(), "X-Server-Version", "2.3.0"),
            412,
            "incompatible version\n",
        ),
        (
            "GET /raft/stream/message/b",
            replaced(good.clone(), "X-Etcd-Cluster-ID", "0"),
            412,
            "cluster ID mismatch\n",
        ),
        ("GET /raft/stream", good.clone(), 307, ""),
    ] {
        let answer = ask(&node, line, &headers, None).await;
        assert_eq!((status(&answer), body(&answer)), (code, text), "{line} {answer}");
        if line.starts_with("GET /raft/stream/") {
            assert!(answer.contains("x-server-version: 3.7.1\r\n"), "{answer}");
        }
        if (400..500).contains(&code) && code != 405 {
            assert!(answer.contains("x-etcd-cluster-id: cafe\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_stream_begins_at_once_and_a_second_one_takes_its_place() {
    let node = Node::start(0xa).await;
    node.transport.add_peer(0xb, &["http://127.0.0.1:1".into()]).unwrap();
    // Leading zeros and upper case are read in the path.
    let mut first = open(&node, "GET /raft/stream/message/000B", &headers(0xb, 0xa), None).await;
    let head = read_until(&mut first, |seen| seen.windows(4).any(|w| w == b"\r\n\r\n")).await;
    assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
    node.transport.send([message(MessageType::Heartbeat, 0xa, 0xb, 0)]);
    // Length, then the smallest form: type, to, from, term, commit.
    let frame = [&10_u64.to_be_bytes()[..], &[8, 8, 16, 0xb, 24, 0xa, 32, 3, 64, 0]].concat();
    let seen = read_until(&mut first, |seen| seen.windows(frame.len()).any(|w| w == frame)).await;
    assert!(!seen.is_empty());
    let mut second = open(&node, "GET /raft/stream/message/b", &headers(0xb, 0xa), None).await;
    read_until(&mut second, |seen| seen.windows(4).any(|w| w == b"\r\n\r\n")).await;
    // The first ends with an empty chunk, the second gets what comes now.
    let rest = read_until(&mut first, |seen| seen.ends_with(b"0\r\n\r\n")).await;
    assert!(rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    node.transport.send([message(MessageType::Heartbeat, 0xa, 0xb, 0)]);
    read_until(&mut second, |seen| seen.windows(frame.len()).any(|w| w == frame)).await;
}

#[tokio::test]
async fn posts_are_taken_or_refused_with_etcds_texts() {
    let mut node = Node::start(0xa).await;
    node.recorder.removed.lock().insert(0xdead);
    let good = headers(0xb, 0xa);
    let vote = message(MessageType::Vote, 0xb, 0xa, 5);
    for form in [WireForm::Etcd35, WireForm::Etcd36, WireForm::Etcd37] {
        let answer = ask(&node, "POST /raft", &good, Some(&vote.encode(form))).await;
        assert_eq!((status(&answer), body(&answer)), (204, ""));
        assert_eq!(node.next_message().await, vote);
    }
    let removed = message(MessageType::Vote, 0xdead, 0xa, 5).encode(WireForm::Etcd35);
    let elsewhere = message(MessageType::Vote, 0xb, 0xc, 5).encode(WireForm::Etcd35);
    let local = message(MessageType::CheckQuorum, 0xb, 0xa, 5).encode(WireForm::Etcd35);
    let refused = "error processing raft message\n";
    for (headers, bytes, code, text) in [
        (good.clone(), &removed[..], 500, refused),
        (good.clone(), &elsewhere[..], 500, refused),
        (good.clone(), &local[..], 204, ""),
        (good.clone(), &[], 500, refused),
        (good.clone(), &[0xff, 1], 400, "error unmarshalling raft message\n"),
        (replaced(good.clone(), "X-Etcd-Cluster-ID", "cafe1"), &[], 412, "cluster ID mismatch\n"),
        (replaced(good.clone(), "X-Min-Cluster-Version", "3.8.0"), &[], 412, "incompatible version\n"),
        (replaced(good.clone(), "X-Server-Version", "garbage"), &[], 412, "incompatible version\n"),
    ] {
        let answer = ask(&node, "POST /raft", &headers, Some(bytes)).await;
        assert_eq!((status(&answer), body(&answer)), (code, text), "{headers:?}");
    }
    let answer = ask(&node, "GET /raft", &good, None).await;
    assert_eq!(status(&answer), 405);
    assert!(answer.contains("allow: POST\r\n"));
    assert!(node.events.is_empty());
}

#[tokio::test]
async fn the_cluster_questions_have_etcds_answers() {
    let node = Node::start(0xa).await;
    let members = r#"[{"id":3,"peerURLs":["http://127.0.0.1:1"],"name":"a","clientURLs":["http://127.0.0.1:2"]},{"id":1152921504606846976,"peerURLs":["http://127.0.0.1:1"],"isLearner":true}]"#;
    let members = format!("{members}\n");
    let secret = vec![("Authorization", "secret".to_owned())];
    let wrong_cluster = vec![("X-Etcd-Cluster-ID", "1".to_owned())];
    let versions = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    let hash = r#"{"header":{"revision":6},"hash":3065152303,"compact_revision":3,"hash_revision":5}"#;
    let ready = "etcdserver: can only promote a learner member which is in sync with leader\n";
    for (line, headers, bytes, code, text) in [
        ("GET /members", vec![], "", 200, members.as_str()),
        ("POST /members", vec![], "", 405, "Method Not Allowed\n"),
        ("GET /version", vec![], "", 200, versions),
        ("GET /downgrade/enabled", vec![], "", 200, "true"),
        ("GET /members/hashkv", vec![], r#"{"revision":5}"#, 200, hash),
        (
            "GET /members/hashkv",
            vec![],
            r#"{"revision":7}"#,
            400,
            "mvcc: required revision has been compacted\n",
        ),
        (
            "GET /members/hashkv",
            vec![],
            r#"{"revision":8}"#,
            400,
            "mvcc: required revision is a future revision\n",
        ),
        ("GET /members/hashkv", vec![], r#"{"revision":"5"}"#, 400, "error unmarshalling request\n"),
        ("GET /members/hashkv", wrong_cluster, "", 412, "cluster ID mismatch\n"),
        ("POST /members/promote/1", secret, "", 200, members.as_str()),
        ("GET /members/promote/1", vec![], "", 405, "Method Not Allowed\n"),
        ("POST /members/promote/ff", vec![], "", 404, "member ff not found in cluster\n"),
        ("POST /members/promote/2", vec![], "", 404, "membership: ID not found\n"),
        ("POST /members/promote/3", vec![], "", 412, "membership: can only promote a learner member\n"),
        ("POST /members/promote/4", vec![], "", 412, ready),
        ("POST /members/promote/5", vec![], "", 500, r#"{"message":"Internal Server Error"}"#),
        ("POST /leases", vec![], "\x08\x12", 400, "not a primary lessor\n"),
        (
            "POST /leases",
            vec![],
            "\x08\x13",
            408,
            "waiting for node to catch up its applied index has timed out\n",
        ),
        ("POST /leases", vec![], "\x08\x14", 404, "lease not found\n"),
        ("POST /leases", vec![], "\x07", 400, "error unmarshalling request\n"),
        ("POST /leases", vec![], "\x08\x11", 200, "\x10\x11\x18\x3c"),
        ("GET /leases", vec![], "", 405, "Method Not Allowed\n"),
        ("POST /leases/internal", vec![], "\x0a\x02\x08\x14", 404, "lease not found\n"),
        ("POST /leases/internal", vec![], "", 400, "error unmarshalling request\n"),
        (
            "POST /leases/internal",
            vec![],
            "\x0a\x04\x08\x11\x10\x01",
            200,
            "\x0a\x0b\x0a\x00\x10\x11\x18\x05\x20\x3c\x2a\x01k",
        ),
        ("GET /leases/x", vec![], "", 404, "404 page not found\n"),
        ("GET /", vec![], "", 404, "404 page not found\n"),
        ("GET /raft/", vec![], "", 404, "404 page not found\n"),
    ] {
        let answer = ask(&node, line, &headers, Some(bytes.as_bytes())).await;
        assert_eq!((status(&answer), body(&answer)), (code, text), "{line}");
    }
    let probing = ask(&node, "PUT /raft/probing", &[], None).await;
    assert!(body(&probing).starts_with(r#"{"OK":true,"Now":""#) && probing.ends_with("Z\"}\n"), "{probing}");
    let large = vec![0; (64 << 10) + 1];
    let answer = ask(&node, "POST /leases", &[], Some(&large)).await;
    assert_eq!((status(&answer), body(&answer)), (413, "request body too large\n"));
}

#[tokio::test]
async fn one_member_asks_another() {
    let node = Node::start(0xa).await;
    let asker = Asker::new(SOON);
    let (cluster, members) = asker.members(&node.url).await.unwrap();
    assert_eq!((cluster, members.len(), members[1].is_learner), (0xcafe, 2, true));
    assert_eq!(asker.version(&node.url).await.unwrap().etcdcluster, "3.7.0");
    assert!(asker.downgrade_enabled(&node.url).await.unwrap());
    assert_eq!(asker.renew_lease(&node.url, 0x11).await.unwrap(), 60);
    let gone = asker.renew_lease(&node.url, 0x99).await;
    assert!(matches!(gone, Err(AskError::Refused { status, .. }) if status == 404));
    let asked = pb::LeaseTimeToLiveRequest { id: 0x11, keys: true };
    let found = asker.lease_time_to_live(&node.url, asked).await.unwrap();
    assert_eq!((found.granted_ttl, found.keys.len()), (60, 1));
    assert_eq!(asker.promote(&node.url, 1, Some("secret")).await.unwrap().len(), 2);
    assert_eq!(asker.hash_kv(&node.url, 0xcafe, 5).await.unwrap().hash, 3_065_152_303);
    assert!(matches!(asker.hash_kv(&node.url, 1, 5).await, Err(AskError::Refused { .. })));
    assert!(matches!(asker.members("https://127.0.0.1:1").await, Err(AskError::Url(_))));
    assert!(pb::LeaseKeepAliveRequest::decode(&b"\x08\x11"[..]).is_ok());
}

#[tokio::test]
async fn garbage_on_the_port_ends_its_connection_alone() {
    let mut node = Node::start(0xa).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /raft HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /raft HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        &[0xff; 100],
    ] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        read_until(&mut stream, |_| false).await;
    }
    let vote = message(MessageType::Vote, 0xb, 0xa, 5).encode(WireForm::Etcd36);
    let answer = ask(&node, "POST /raft", &headers(0xb, 0xa), Some(&vote)).await;
    assert_eq!(status(&answer), 204);
    assert_eq!(node.next_message().await.msg_type, MessageType::Vote);
}

/// A peer whose streams carry garbage: it is dialled again and again, and raft hears nothing.
#[tokio::test]
async fn a_peer_that_sends_garbage_is_read_no_further() {
    let mut node = Node::start(0xa).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    node.transport.add_peer(0xb, &[format!("http://{}", listener.local_addr().unwrap())]).unwrap();
    let mut dials = 0;
    while dials < 6 {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_until(&mut stream, |seen| seen.windows(4).any(|w| w == b"\r\n\r\n")).await;
        if !head.starts_with(b"GET /raft/stream/") {
            continue;
        }
        dials += 1;
        let huge = [&[2][..], &u64::MAX.to_be_bytes()].concat();
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.1\r\nContent-Length: {}\r\n\r\n", 900)
                .into_bytes();
        answer.extend_from_slice(&huge);
        answer.extend_from_slice(&[0xff; 800]);
        stream.write_all(&answer).await.unwrap();
    }
    node.until_observed("receive failed b").await;
    assert!(node.events.try_recv().is_err());
}
