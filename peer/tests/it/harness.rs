//! A member that records what it is told, and the bytes of a caller who speaks HTTP by hand.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stanchion_api::etcdserverpb as pb;
use stanchion_peer::codec::StreamKind;
use stanchion_peer::{
    Answer, Endpoints, Handler, HashError, HashKv, Identity, LeaseError, MemberInfo, Observer, PeerListener,
    PeerServer, PromoteError, Refused, SnapshotOutcome, SnapshotSink, Timing, Transport, Version,
    VersionInfo,
};
use stanchion_raft::{Message, MessageType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) const CLUSTER: u64 = 0xcafe;
/// Longest wait for something that is going to happen. It matters only to a test that fails, and a machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// What a member is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message(Box<Message>),
    Unreachable(u64),
    Snapshot(u64, SnapshotOutcome),
    RemovedBy(u64),
    Stored(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Recorder {
    member_id: u64,
    events: mpsc::UnboundedSender<Event>,
    pub(crate) removed: Mutex<BTreeSet<u64>>,
    /// Calls of the observer, as text.
    observed: watch::Sender<Vec<String>>,
}

impl Recorder {
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn observe(&self, what: String) {
        self.observed.send_modify(|seen| seen.push(what));
    }

    /// Forgets what the observer was told.
    pub(crate) fn forget_observed(&self) {
        self.observed.send_modify(Vec::clear);
    }
}

impl Handler for Recorder {
    fn process(&self, message: Message) -> Result<(), Refused> {
        if self.removed.lock().contains(&message.from) {
            return Err(Refused::RemovedSender);
        }
        if message.to != self.member_id {
            return Err(Refused::WrongTarget);
        }
        self.tell(Event::Message(Box::new(message)));
        Ok(())
    }

    fn is_removed(&self, member_id: u64) -> bool {
        self.removed.lock().contains(&member_id)
    }

    fn report_unreachable(&self, member_id: u64) {
        self.tell(Event::Unreachable(member_id));
    }

    fn report_snapshot(&self, member_id: u64, outcome: SnapshotOutcome) {
        self.tell(Event::Snapshot(member_id, outcome));
    }

    fn removed_by(&self, peer_id: u64) {
        self.tell(Event::RemovedBy(peer_id));
    }

    fn receive_snapshot(&self, _: &Message) -> io::Result<Box<dyn SnapshotSink>> {
        Ok(Box::new(Sink { bytes: Vec::new(), events: self.events.clone() }))
    }
}

impl Observer for Recorder {
    fn active(&self, peer_id: u64) {
        self.observe(format!("active {peer_id:x}"));
    }

    fn inactive(&self, peer_id: u64) {
        self.observe(format!("inactive {peer_id:x}"));
    }

    fn stream_opened(&self, peer_id: u64, kind: StreamKind) {
        self.observe(format!("{kind:?} stream opened by {peer_id:x}"));
    }

    fn stream_closed(&self, peer_id: u64, kind: StreamKind) {
        self.observe(format!("{kind:?} stream closed by {peer_id:x}"));
    }

    fn round_trip(&self, peer_id: u64, _: Duration) {
        self.observe(format!("round trip {peer_id:x}"));
    }

    fn receive_failed(&self, peer_id: u64) {
        self.observe(format!("receive failed {peer_id:x}"));
    }
}

struct Sink {
    bytes: Vec<u8>,
    events: mpsc::UnboundedSender<Event>,
}

impl SnapshotSink for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let _ = self.events.send(Event::Stored(self.bytes));
        Ok(())
    }
}

struct Answers;

impl Endpoints for Answers {
    fn members(&self) -> Vec<MemberInfo> {
        let peer_urls = vec!["http://127.0.0.1:1".to_owned()];
        let learner = MemberInfo { id: 1 << 60, peer_urls, is_learner: true, ..MemberInfo::default() };
        let voter = MemberInfo {
            id: 3,
            name: "a".into(),
            client_urls: vec!["http://127.0.0.1:2".into()],
            is_learner: false,
            ..learner.clone()
        };
        vec![voter, learner]
    }

    fn version(&self) -> VersionInfo {
        VersionInfo { etcdserver: "3.7.1".into(), etcdcluster: "3.7.0".into(), storage: "3.7.0".into() }
    }

    fn promote(&self, member_id: u64, token: Option<String>) -> Answer<Vec<MemberInfo>, PromoteError> {
        let answer = match (member_id, token.as_deref()) {
            (1, Some("secret")) => Ok(self.members()),
            (2, _) => Err(PromoteError::NotFound),
            (3, _) => Err(PromoteError::NotALearner),
            (4, _) => Err(PromoteError::NotReady),
            _ => Err(PromoteError::Other("no".into())),
        };
        Box::pin(async { answer })
    }

    fn renew_lease(&self, lease_id: i64) -> Answer<i64, LeaseError> {
        let answer = match lease_id {
            0x11 => Ok(60),
            0x12 => Err(LeaseError::NotPrimary),
            0x13 => Err(LeaseError::Behind),
            _ => Err(LeaseError::NotFound),
        };
        Box::pin(async { answer })
    }

    fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Answer<pb::LeaseTimeToLiveResponse, LeaseError> {
        let keys = if request.keys { vec!["k".into()] } else { Vec::new() };
        let id = request.id;
        Box::pin(async move {
            match id {
                0x11 => Ok(pb::LeaseTimeToLiveResponse { id, ttl: 5, granted_ttl: 60, keys, header: None }),
                _ => Err(LeaseError::NotFound),
            }
        })
    }

    fn downgrade_enabled(&self) -> Answer<bool, String> {
        Box::pin(async { Ok(true) })
    }

    fn hash_kv(&self, revision: i64) -> Answer<HashKv, HashError> {
        Box::pin(async move {
            match revision {
                0..=6 => Ok(HashKv {
                    header_revision: 6,
                    hash: 3_065_152_303,
                    compact_revision: 3,
                    hash_revision: revision,
                }),
                7 => Err(HashError::Compacted),
                _ => Err(HashError::Future),
            }
        })
    }
}

/// Heartbeats and dials come often, so that a test need not wait for them. The limits on silence are generous: no test is
/// about them, and a stream that a busy machine lets die would cost messages.
pub(crate) fn timing() -> Timing {
    Timing {
        dial: SOON,
        read: SOON,
        write: SOON,
        heartbeat: Duration::from_millis(100),
        redial: Duration::from_millis(10),
        probe: Duration::from_millis(50),
        post: Duration::from_secs(5),
        snapshot_stall: Duration::from_secs(5),
        snapshot_rate: 100 << 20,
    }
}

pub(crate) fn identity(member_id: u64, url: &str) -> Identity {
    Identity {
        cluster_id: CLUSTER,
        member_id,
        version: Version::new(3, 7, 1),
        peer_urls: vec![url.to_owned()],
    }
}

/// A member that listens.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) url: String,
    pub(crate) transport: Transport,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// Dropping it ends the peer port.
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(id: u64) -> Node {
        Node::on(id, TcpListener::bind("127.0.0.1:0").await.unwrap()).await
    }

    pub(crate) async fn on(id: u64, listener: TcpListener) -> Node {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, events) = mpsc::unbounded_channel();
        let recorder = Arc::new(Recorder {
            member_id: id,
            events: sender,
            removed: Mutex::default(),
            observed: watch::Sender::default(),
        });
        let tokio = tokio::runtime::Handle::current();
        let transport =
            Transport::new(identity(id, &url), timing(), recorder.clone(), recorder.clone(), tokio);
        let server = PeerServer::new(transport.clone(), Arc::new(Answers));
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let serving = tokio::spawn(server.serve(PeerListener::Tcp(listener), stopped));
        Node { id, url, transport, recorder, events, stop, serving }
    }

    /// Ends the member. Its port is free afterwards.
    pub(crate) async fn stop(self) {
        self.transport.remove_all();
        drop(self.stop);
        self.serving.await.unwrap();
    }

    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The next event that is not about reachability.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match tokio::time::timeout(SOON, self.events.recv()).await.unwrap().unwrap() {
                Event::Unreachable(_) => {}
                event => return event,
            }
        }
    }

    pub(crate) async fn next_message(&mut self) -> Message {
        match self.next().await {
            Event::Message(message) => *message,
            event => panic!("{event:?}"),
        }
    }

    /// Waits until an event comes that `wanted` takes.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        loop {
            let event = tokio::time::timeout(SOON, self.events.recv()).await.unwrap().unwrap();
            if wanted(&event) {
                return;
            }
        }
    }

    /// Waits until the observer has been told `what`.
    pub(crate) async fn until_observed(&self, what: &str) {
        let mut observed = self.recorder.observed.subscribe();
        let told = observed.wait_for(|seen| seen.iter().any(|seen| seen == what));
        let told = tokio::time::timeout(SOON, told).await.is_ok();
        assert!(told, "{what} not among {:?}", self.recorder.observed.borrow());
    }

    /// Waits until nothing goes to `peer_id` by post any more: posts are slower than the order in which a stream delivers.
    pub(crate) async fn until_streams_from(&self, peer_id: u64) {
        for kind in [StreamKind::Message, StreamKind::MsgApp] {
            self.until_observed(&format!("{kind:?} stream opened by {peer_id:x}")).await;
        }
    }
}

/// Makes two members each other's peers.
pub(crate) fn introduce(a: &Node, b: &Node) {
    a.transport.add_peer(b.id, std::slice::from_ref(&b.url)).unwrap();
    b.transport.add_peer(a.id, std::slice::from_ref(&a.url)).unwrap();
}

pub(crate) fn message(msg_type: MessageType, from: u64, to: u64, index: u64) -> Message {
    Message { from, term: 3, index, ..Message::new(msg_type, to) }
}

/// The headers of an honest peer.
pub(crate) fn headers(from: u64, to: u64) -> Vec<(&'static str, String)> {
    vec![
        ("X-Server-From", format!("{from:x}")),
        ("X-Server-Version", "3.5.1".to_owned()),
        ("X-Min-Cluster-Version", "3.0.0".to_owned()),
        ("X-Etcd-Cluster-ID", format!("{CLUSTER:x}")),
        ("X-Raft-To", format!("{to:x}")),
    ]
}

/// Sends a request by hand and leaves the connection open.
pub(crate) async fn open(
    node: &Node,
    line: &str,
    headers: &[(&str, String)],
    body: Option<&[u8]>,
) -> TcpStream {
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    let mut text = format!("{line} HTTP/1.1\r\nHost: {}\r\n", node.address());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    stream.write_all(&bytes).await.unwrap();
    stream
}

/// Reads until `enough` says so or the other end closes.
pub(crate) async fn read_until(stream: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut seen = Vec::new();
    let reading = async {
        let mut buf = [0; 4096];
        while !enough(&seen) {
            match stream.read(&mut buf).await {
                Ok(0) | Err(_) => break,
                Ok(count) => seen.extend_from_slice(&buf[..count]),
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.unwrap();
    seen
}

/// A whole answer as text; the server is asked to close behind it.
pub(crate) async fn ask(node: &Node, line: &str, headers: &[(&str, String)], body: Option<&[u8]>) -> String {
    let mut headers = headers.to_vec();
    headers.push(("Connection", "close".to_owned()));
    let mut stream = open(node, line, &headers, body).await;
    String::from_utf8_lossy(&read_until(&mut stream, |_| false).await).into_owned()
}
