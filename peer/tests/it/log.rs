//! What is logged of peers that do what they should not: each thing once, however often it is done.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use stanchion_raft::{MessageType, WireForm};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::harness::{Node, ask, headers, message, read_until};

/// The log of one test, which must run on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that say all of this.
    fn lines(&self, said: &[&str]) -> usize {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        text.lines().filter(|line| said.iter().all(|what| line.contains(what))).count()
    }

    #[track_caller]
    fn said_once(&self, said: &[&str]) {
        assert_eq!(self.lines(said), 1, "{said:?} in\n{}", String::from_utf8_lossy(&self.0.lock()));
    }
}

#[tokio::test]
async fn a_refused_request_is_logged_once_until_its_sender_is_let_in() {
    let (log, _guard) = Log::start();
    let node = Node::start(0xa).await;
    node.transport.add_peer(0xb, &["http://127.0.0.1:1".into()]).unwrap();
    node.recorder.removed.lock().insert(0xdead);
    let with = |name: &str, value: &str| {
        let mut headers = headers(0xb, 0xa);
        headers.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, old)| value.clone_into(old));
        headers
    };
    let stream = "GET /raft/stream/message/b";
    for _ in 0..20 {
        ask(&node, stream, &with("X-Etcd-Cluster-ID", "1"), None).await;
        ask(&node, stream, &with("X-Server-Version", "2.3.0"), None).await;
        ask(&node, "GET /raft/stream/message/dead", &headers(0xdead, 0xa), None).await;
        ask(&node, "POST /raft", &headers(0xb, 0xa), Some(&[0xff; 64])).await;
        ask(&node, "POST /raft/snapshot", &headers(0xb, 0xa), Some(&[0xff; 64])).await;
    }
    log.said_once(&["WARN", "peer=b", "stream", "cluster ID mismatch"]);
    log.said_once(&["WARN", "peer=b", "stream", "incompatible version"]);
    log.said_once(&["WARN", "peer=dead", "stream", "removed member"]);
    log.said_once(&["WARN", "peer=b", "message", "error unmarshalling raft message"]);
    log.said_once(&["WARN", "peer=b", "snapshot", "failed to decode raft message"]);

    // It gets a stream, and the next refusal is news.
    let mut admitted = crate::harness::open(&node, stream, &headers(0xb, 0xa), None).await;
    read_until(&mut admitted, |seen| seen.windows(4).any(|end| end == b"\r\n\r\n")).await;
    for _ in 0..3 {
        ask(&node, stream, &with("X-Etcd-Cluster-ID", "1"), None).await;
    }
    assert_eq!(log.lines(&["cluster ID mismatch"]), 2);
}

#[tokio::test]
async fn a_message_of_a_removed_member_is_logged_once() {
    let (log, _guard) = Log::start();
    let node = Node::start(0xa).await;
    node.recorder.removed.lock().insert(0xdead);
    let vote = message(MessageType::Vote, 0xdead, 0xa, 5).encode(WireForm::Etcd36);
    for _ in 0..20 {
        let answer = ask(&node, "POST /raft", &headers(0xdead, 0xa), Some(&vote)).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
    log.said_once(&["WARN", "peer=dead", "cannot process message from removed member"]);
}

/// A peer whose streams open well and then carry a frame of 2^64 - 1 bytes, or one of a type that does not exist.
#[tokio::test]
async fn a_stream_of_garbage_is_logged_once_however_often_it_is_dialled() {
    for (frame, said) in [
        ([&[2][..], &[0xff; 200]].concat(), "the limit is 536870912"),
        ([&[0; 7][..], &[1], &[0xff; 200]].concat(), "cannot be decoded"),
    ] {
        let (log, _guard) = Log::start();
        let node = Node::start(0xa).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        node.transport.add_peer(0xb, &[format!("http://{}", listener.local_addr().unwrap())]).unwrap();
        let mut message_streams = 0;
        while message_streams < 8 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_until(&mut stream, |seen| seen.windows(4).any(|end| end == b"\r\n\r\n")).await;
            if !head.starts_with(b"GET /raft/stream/message/") {
                continue;
            }
            message_streams += 1;
            let answer = b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.1\r\nContent-Length: 5000\r\n\r\n";
            stream.write_all(&[&answer[..], &frame].concat()).await.unwrap();
        }
        log.said_once(&["WARN", "peer=b", "message stream from peer", said]);
        log.said_once(&["INFO", "peer became active"]);
    }
}
