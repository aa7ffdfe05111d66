//! Databases on their way from one member to another.

use stanchion_peer::{DatabaseWriter, OutgoingSnapshot, SnapshotOutcome};
use stanchion_raft::{ConfState, Message, MessageType, Snapshot, SnapshotMetadata, WireForm};

use crate::harness::{Event, Node, ask, headers, introduce, message};

fn snap(from: u64, to: u64) -> Message {
    let conf_state = ConfState::new(&[1, 2], &[]);
    let metadata = SnapshotMetadata { conf_state, index: 40, term: 3 };
    let snapshot = Snapshot { data: "{}".into(), metadata };
    Message { snapshot: Some(Box::new(snapshot)), ..message(MessageType::Snap, from, to, 0) }
}

fn written(bytes: Vec<u8>) -> DatabaseWriter {
    Box::new(move |out| out.write_all(&bytes))
}

fn database(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_arrives_whole_before_its_message() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    introduce(&a, &b);
    let bytes = database(3_000_001);
    let size = bytes.len() as u64;
    a.transport.send_snapshot(OutgoingSnapshot {
        message: snap(1, 2),
        size,
        database: written(bytes.clone()),
    });
    assert_eq!(b.next().await, Event::Stored(bytes));
    assert_eq!(b.next_message().await, snap(1, 2));
    assert_eq!(a.next().await, Event::Snapshot(2, SnapshotOutcome::Finished));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_as_long_as_announced_does_not_count() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    introduce(&a, &b);
    for announced in [999_999, 1_000_001] {
        a.transport.send_snapshot(OutgoingSnapshot {
            message: snap(1, 2),
            size: announced,
            database: written(database(1_000_000)),
        });
        assert_eq!(a.next().await, Event::Snapshot(2, SnapshotOutcome::Failed));
    }
    // Neither the database nor its message has come.
    a.transport.send([message(MessageType::Heartbeat, 1, 2, 1)]);
    assert_eq!(b.next_message().await.msg_type, MessageType::Heartbeat);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_to_send_to_is_a_failure() {
    let mut a = Node::start(1).await;
    a.transport.send_snapshot(OutgoingSnapshot {
        message: snap(1, 2),
        size: 0,
        database: written(Vec::new()),
    });
    assert_eq!(a.next().await, Event::Snapshot(2, SnapshotOutcome::Failed));
    // Nor does a bare message of this type travel.
    a.transport.send([snap(1, 2)]);
    assert_eq!(a.next().await, Event::Snapshot(2, SnapshotOutcome::Failed));
}

#[tokio::test]
async fn wrong_transfers_are_refused_with_etcds_texts() {
    let mut node = Node::start(0xa).await;
    let framed = |message: &Message| {
        let bytes = message.encode(WireForm::Etcd35);
        [&(bytes.len() as u64).to_be_bytes()[..], &bytes].concat()
    };
    let good = headers(0xb, 0xa);
    for (body, text) in [
        (Vec::new(), "failed to decode raft message (EOF)\n"),
        (vec![0xff; 8], "failed to decode raft message (rafthttp: error limit exceeded)\n"),
        (vec![0, 0, 0, 0, 0, 0, 0, 9, 1], "failed to decode raft message (unexpected EOF)\n"),
        (framed(&message(MessageType::App, 0xb, 0xa, 1)), "wrong raft message type\n"),
    ] {
        let answer = ask(&node, "POST /raft/snapshot", &good, Some(&body)).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with(text), "{answer}");
    }
    // For somebody else: stored first, refused then.
    let body = [framed(&snap(0xb, 0xc)), b"database".to_vec()].concat();
    let answer = ask(&node, "POST /raft/snapshot", &good, Some(&body)).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("failed to process raft message ("), "{answer}");
    assert_eq!(node.next().await, Event::Stored(b"database".to_vec()));
    let body = [framed(&snap(0xb, 0xa)), b"database".to_vec()].concat();
    let answer = ask(&node, "POST /raft/snapshot", &good, Some(&body)).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(node.next().await, Event::Stored(b"database".to_vec()));
    assert_eq!(node.next_message().await, snap(0xb, 0xa));
}
