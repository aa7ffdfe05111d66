//! Members that talk to each other.

use stanchion_raft::{Entry, Message, MessageType};
use tokio::net::TcpListener;

use crate::harness::{Event, Node, introduce, message};

fn append(from: u64, to: u64, index: u64) -> Message {
    let entry = Entry { term: 3, index: index + 1, data: vec![7; 100].into(), ..Entry::default() };
    Message { log_term: 3, entries: vec![entry], commit: index, ..message(MessageType::App, from, to, index) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_both_ways_before_and_after_the_streams_are_up() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    introduce(&a, &b);
    // The first goes by POST as a rule: no stream is open yet.
    let first = message(MessageType::Vote, 1, 2, 9);
    a.transport.send([first.clone()]);
    assert_eq!(b.next_message().await, first);
    b.until_observed("active 1").await;
    for index in 0..200 {
        a.transport.send([append(1, 2, index), message(MessageType::Heartbeat, 1, 2, index)]);
        let mut got = [b.next_message().await, b.next_message().await];
        got.sort_by_key(|message| message.msg_type);
        assert_eq!(got, [append(1, 2, index), message(MessageType::Heartbeat, 1, 2, index)]);
        b.transport.send([message(MessageType::AppResp, 2, 1, index)]);
        assert_eq!(a.next_message().await, message(MessageType::AppResp, 2, 1, index));
    }
    assert!(a.transport.active_since(2).is_some());
    assert_eq!(a.transport.active_since(5), None);
    a.until_observed("round trip 2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_on_one_stream_keeps_its_order() {
    let (a, mut b) = (Node::start(1).await, Node::start(2).await);
    introduce(&a, &b);
    a.until_streams_from(2).await;
    for index in 0..1000 {
        a.transport.send([append(1, 2, index)]);
    }
    for index in 0..1000 {
        assert_eq!(b.next_message().await, append(1, 2, index));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut a = Node::start(1).await;
    let b = Node::on(2, listener).await;
    introduce(&a, &b);
    a.until_observed("active 2").await;
    b.stop().await;
    a.until_observed("inactive 2").await;
    a.transport.send([message(MessageType::Heartbeat, 1, 2, 1)]);
    a.until(|event| *event == Event::Unreachable(2)).await;
    a.recorder.forget_observed();

    let mut b = Node::on(2, TcpListener::bind(address).await.unwrap()).await;
    introduce(&a, &b);
    a.until_observed("active 2").await;
    a.transport.send([message(MessageType::Heartbeat, 1, 2, 2)]);
    assert_eq!(b.next_message().await.index, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_told_and_hears_nothing_more() {
    let (a, mut b) = (Node::start(1).await, Node::start(2).await);
    introduce(&a, &b);
    b.until_streams_from(1).await;
    a.recorder.removed.lock().insert(2);
    a.transport.remove_peer(2);
    b.until(|event| *event == Event::RemovedBy(1)).await;
    assert!(a.transport.peer_ids().is_empty());
    // Its posts are refused, and it becomes no remote.
    b.until_observed("Message stream closed by 1").await;
    b.transport.send([message(MessageType::Vote, 2, 1, 1)]);
    b.until(|event| *event == Event::Unreachable(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_unknown_is_answered_by_post() {
    let (a, mut b) = (Node::start(1).await, Node::start(2).await);
    // Only b knows a: a remembers where b is when b dials.
    b.transport.add_peer(1, std::slice::from_ref(&a.url)).unwrap();
    b.transport.send([message(MessageType::Heartbeat, 2, 1, 1)]);
    let mut a = a;
    assert_eq!(a.next_message().await.from, 2);
    a.transport.send([message(MessageType::HeartbeatResp, 1, 2, 1)]);
    assert_eq!(b.next_message().await.msg_type, MessageType::HeartbeatResp);
    assert!(a.transport.peer_ids().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_costs_the_others_nothing() {
    let (mut a, mut c) = (Node::start(1).await, Node::start(3).await);
    introduce(&a, &c);
    a.until_streams_from(3).await;
    // Accepts connections and never reads or answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    a.transport.add_peer(2, &[url]).unwrap();
    let large = Entry::normal(vec![0; 1 << 20]);
    for index in 0..300 {
        let entries = vec![Entry { term: 3, index: index + 1, ..large.clone() }];
        a.transport.send([Message { entries, ..message(MessageType::App, 1, 2, index) }]);
        a.transport.send([message(MessageType::Heartbeat, 1, 3, index)]);
        assert_eq!(c.next_message().await.index, index);
    }
    // 64 messages wait, four are under way, the others are lost.
    a.until(|event| *event == Event::Unreachable(2)).await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_member_is_dialled_at_its_new_url_and_urls_take_turns() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    a.transport.add_peer(2, &[dead.clone(), b.url.clone()]).unwrap();
    // What is sent to the dead URL is lost and reported, and the next one goes to the other URL.
    let arrived = loop {
        a.transport.send([message(MessageType::Heartbeat, 1, 2, 0)]);
        tokio::select! {
            arrived = b.next_message() => break arrived,
            () = a.until(|event| *event == Event::Unreachable(2)) => {}
        }
    };
    assert_eq!(arrived.from, 1);
    assert!(a.transport.update_peer(2, &["https://127.0.0.1:1".to_owned()]).is_err());
    a.transport.update_peer(2, std::slice::from_ref(&b.url)).unwrap();
    a.transport.send([message(MessageType::TimeoutNow, 1, 2, 0)]);
    b.until(|event| matches!(event, Event::Message(m) if m.msg_type == MessageType::TimeoutNow)).await;
}
