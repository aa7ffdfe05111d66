//! Connections that are kept: how many there are, and what happens when the other end has closed one.

use stanchion_peer::Asker;
use stanchion_raft::MessageType;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::{Node, SOON, message, read_until};

/// What a member by hand does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    AnsweredAndClosed,
    /// The connection is closed instead.
    Closed,
}

/// The first lines of requests, by connection, in the order in which these were used first.
type Asked = Vec<Vec<String>>;

/// A member by hand: `fate` decides by the request's number on its connection.
struct ByHand {
    url: String,
    asked: watch::Sender<Asked>,
}

impl ByHand {
    async fn start(fate: fn(usize) -> Fate) -> ByHand {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = watch::Sender::default();
        let seen = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, seen.clone(), fate));
            }
        });
        ByHand { url, asked }
    }

    /// The requests whose line begins so, by connection; connections without any are left out.
    fn asked(&self, beginning: &str) -> Vec<usize> {
        counts(&self.asked.borrow(), beginning)
    }

    async fn until_asked(&self, beginning: &str, enough: impl Fn(&[usize]) -> bool) {
        let mut asked = self.asked.subscribe();
        let waiting = asked.wait_for(|all| enough(&counts(all, beginning)));
        tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    }
}

fn counts(all: &Asked, beginning: &str) -> Vec<usize> {
    let counts = all.iter().map(|lines| lines.iter().filter(|line| line.starts_with(beginning)).count());
    counts.filter(|count| *count > 0).collect()
}

async fn converse(mut stream: TcpStream, asked: watch::Sender<Asked>, fate: fn(usize) -> Fate) {
    let mut place = None;
    for number in 0.. {
        let Some(line) = request(&mut stream).await else { return };
        let answer = if line.starts_with("POST /raft ") {
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
        } else {
            let versions = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
            let body = if line.starts_with("GET /version ") { versions } else { "[]" };
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        asked.send_modify(|asked| {
            let place = *place.get_or_insert_with(|| {
                asked.push(Vec::new());
                asked.len() - 1
            });
            asked[place].push(line);
        });
        let fate = fate(number);
        if fate == Fate::Closed {
            return;
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        if fate == Fate::AnsweredAndClosed {
            return;
        }
    }
}

/// The line of the next request, which is read whole; nothing at the end of the connection.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let length = |seen: &[u8]| -> Option<usize> {
        let text = String::from_utf8_lossy(seen);
        let (head, _) = text.split_once("\r\n\r\n")?;
        let body =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        Some(head.len() + 4 + body.unwrap_or(0))
    };
    let seen = read_until(stream, |seen| length(seen).is_some_and(|length| seen.len() >= length)).await;
    Some(String::from_utf8_lossy(&seen).lines().next()?.to_owned())
}

fn asker() -> Asker {
    Asker::new(SOON)
}

#[tokio::test]
async fn questions_share_a_connection() {
    let member = ByHand::start(|_| Fate::Answered).await;
    let asker = asker();
    for _ in 0..5 {
        // Clones share what is kept, with limits of their own.
        asker.within(2 * SOON).version(&member.url).await.unwrap();
    }
    assert_eq!(member.asked("GET /version"), [5]);
}

#[tokio::test]
async fn a_question_on_a_connection_that_was_closed_is_put_again() {
    // After an answer, and instead of one: the end is noticed before the next question, or by it.
    for fate in [(|_| Fate::AnsweredAndClosed) as fn(usize) -> Fate, |number| {
        if number == 0 { Fate::Answered } else { Fate::Closed }
    }] {
        let member = ByHand::start(fate).await;
        let asker = asker();
        for _ in 0..3 {
            asker.version(&member.url).await.unwrap();
        }
        assert!(member.asked("GET /version").len() >= 2, "{:?}", member.asked("GET /version"));
    }
}

#[tokio::test]
async fn a_new_connection_that_gives_no_answer_is_an_error() {
    let member = ByHand::start(|_| Fate::Closed).await;
    asker().version(&member.url).await.unwrap_err();
    assert_eq!(member.asked("GET /version"), [1]);
}

/// Whoever promotes a learner twice is told the second time that it is none.
#[tokio::test]
async fn a_promotion_is_asked_for_once_on_a_connection_of_its_own() {
    let member = ByHand::start(|number| if number == 0 { Fate::Answered } else { Fate::Closed }).await;
    let asker = asker();
    asker.version(&member.url).await.unwrap();
    assert!(asker.promote(&member.url, 1, None).await.unwrap().is_empty());
    assert_eq!(member.asked("POST /members/promote/1"), [1]);
    assert_eq!(member.asked("").len(), 2, "the kept connection was not used");
}

#[tokio::test]
async fn posts_share_the_connections_of_their_senders() {
    let member = ByHand::start(|_| Fate::Answered).await;
    let node = Node::start(1).await;
    node.transport.add_remote(2, std::slice::from_ref(&member.url));
    for index in 0..12 {
        node.transport.send([message(MessageType::Heartbeat, 1, 2, index)]);
        member.until_asked("POST /raft ", |posts| posts.iter().sum::<usize>() as u64 == index + 1).await;
    }
    // Four senders take turns.
    assert!(member.asked("POST /raft ").len() <= 4);
}

#[tokio::test]
async fn a_post_on_a_connection_that_was_closed_goes_again() {
    let member = ByHand::start(|number| if number == 0 { Fate::Answered } else { Fate::Closed }).await;
    let mut node = Node::start(1).await;
    node.transport.add_remote(2, std::slice::from_ref(&member.url));
    for index in 0..12 {
        node.transport.send([message(MessageType::Heartbeat, 1, 2, index)]);
        // Each connection takes one post.
        member.until_asked("POST /raft ", |posts| posts.len() as u64 == index + 1).await;
    }
    assert!(node.events.try_recv().is_err(), "nothing was lost");
    assert!(member.asked("POST /raft ").contains(&2), "a kept connection was tried");
}
