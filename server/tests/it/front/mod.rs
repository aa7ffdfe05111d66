//! The network front over a member in memory, through real sockets.

mod fake;

use std::sync::Arc;

use bytes::Bytes;
use fake::Fake;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message;
use sha2::{Digest, Sha256};
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use stanchion_api::{v3electionpb as el, v3lockpb as lk};
use stanchion_server::front::{Front, Lanes, Limits, Listener, Offer, serve};
use stanchion_server::member::Space;
use stanchion_server::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};
use tonic::transport::Channel;
use tonic::{Code, Request};

struct Running {
    fake: Fake,
    address: String,
    channel: Channel,
    _stop: tokio::sync::watch::Sender<bool>,
}

async fn start() -> Running {
    start_with(Limits::default()).await
}

async fn start_with(limits: Limits) -> Running {
    start_on(Lanes::here(), limits).await
}

async fn start_on(lanes: Lanes, limits: Limits) -> Running {
    let fake = Fake::new();
    let front =
        Front::new(Arc::new(fake.clone()), limits, Arc::new(Metrics::new(false).unwrap()), lanes, None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(serve(front, Listener::Tcp(listener), Offer::Everything, stopped));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Running { fake, address, channel, _stop: stop }
}

impl Running {
    fn kv(&self) -> pb::kv_client::KvClient<Channel> {
        pb::kv_client::KvClient::new(self.channel.clone())
    }

    /// Status and body of one HTTP/1.1 request.
    async fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

#[tokio::test]
async fn a_put_reaches_the_member_with_its_own_bytes_and_is_read_back() {
    let server = start().await;
    let answer = server.kv().put(put("k", "v")).await.unwrap().into_inner();
    assert_eq!(
        answer.header.unwrap(),
        pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 2, raft_term: 3 }
    );
    let proposed = server.fake.0.lock().unwrap().proposed.clone();
    assert_eq!(proposed, [(RequestKind::Put, Bytes::from(put("k", "v").encode_to_vec()))]);
    let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
    assert_eq!(server.kv().range(range).await.unwrap().into_inner().kvs[0].value, "v");
}

#[tokio::test]
async fn refusals_have_etcds_code_and_text() {
    let server = start().await;
    let empty = server.kv().put(put("", "v")).await.unwrap_err();
    assert_eq!((empty.code(), empty.message()), (Code::InvalidArgument, "etcdserver: key is not provided"));
    let lease = pb::PutRequest { lease: 404, ..put("k", "v") };
    let unknown = server.kv().put(lease).await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
    let large = server.kv().put(put("k", &"v".repeat(2_097_152))).await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert_eq!(large.message(), "grpc: received message larger than max (2097160 vs. 2097152)");
    server.fake.0.lock().unwrap().space = Some(Space { allocated: 100, quota: Some(358) });
    let full = server.kv().put(put("k", "v")).await.unwrap_err();
    assert_eq!(full.message(), "etcdserver: mvcc: database space exceeded");
    assert_eq!(server.fake.0.lock().unwrap().proposed.last().unwrap().0, RequestKind::Alarm);
}

#[tokio::test]
async fn metadata_asks_for_a_leader_and_learners_serve_little() {
    let server = start().await;
    server.fake.0.lock().unwrap().standing.leader = 0;
    let mut request = Request::new(put("k", "v"));
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    let refused = server.kv().put(request).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    server.fake.0.lock().unwrap().standing.is_learner = true;
    let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
    let refused = server.kv().range(range.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "etcdserver: rpc not supported for learner")
    );
    server.kv().range(pb::RangeRequest { serializable: true, ..range }).await.unwrap();
}

#[tokio::test]
async fn kvs_1_the_chunks_of_a_streamed_range_are_the_unary_answer() {
    let server = start().await;
    for i in 0..57 {
        server.kv().put(put(&format!("k{i:03}"), "v")).await.unwrap();
    }
    for limit in [0, 1, 10, 23, 100, -1] {
        let range = pb::RangeRequest { key: "k".into(), range_end: "l".into(), limit, ..Default::default() };
        let whole = server.kv().range(range.clone()).await.unwrap().into_inner();
        let mut chunks = server.kv().range_stream(range).await.unwrap().into_inner();
        let mut merged = pb::RangeResponse::default();
        while let Some(chunk) = chunks.message().await.unwrap() {
            assert_eq!(merged.header, None, "only the last chunk has a header");
            merged.merge(&chunk.range_response.unwrap().encode_to_vec()[..]).unwrap();
        }
        assert_eq!(merged, whole, "limit {limit}");
    }
}

#[tokio::test]
async fn a_watch_creates_delivers_and_cancels() {
    let server = start().await;
    let (requests, stream) = tokio::sync::mpsc::channel(4);
    let mut client = pb::watch_client::WatchClient::new(server.channel.clone());
    let ask = |union| pb::WatchRequest { request_union: Some(union) };
    use pb::watch_request::RequestUnion::{CancelRequest, CreateRequest, ProgressRequest};
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    requests.send(ask(CreateRequest(create.clone()))).await.unwrap();
    let mut answers = client.watch(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let created = answers.message().await.unwrap().unwrap();
    assert!(created.created && !created.canceled);
    server.kv().put(put("k", "v")).await.unwrap();
    let event = answers.message().await.unwrap().unwrap();
    assert_eq!((event.watch_id, event.events.len(), event.header.unwrap().revision), (0, 1, 2));
    requests.send(ask(ProgressRequest(Default::default()))).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().watch_id, -1);
    let bad = pb::WatchCreateRequest { range_end: "a".into(), ..create };
    requests.send(ask(CreateRequest(bad))).await.unwrap();
    let refused = answers.message().await.unwrap().unwrap();
    assert_eq!((refused.watch_id, refused.cancel_reason.as_str()), (-1, "mvcc: watcher range is empty"));
    requests.send(ask(CancelRequest(pb::WatchCancelRequest { watch_id: 0 }))).await.unwrap();
    let canceled = answers.message().await.unwrap().unwrap();
    assert!(canceled.canceled && !canceled.created && canceled.cancel_reason.is_empty());
}

#[tokio::test]
async fn a_snapshot_counts_down_and_ends_with_its_checksum() {
    let server = start().await;
    let mut client = pb::maintenance_client::MaintenanceClient::new(server.channel.clone());
    let mut chunks = client.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut last = Bytes::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        seen.push((chunk.blob.len(), chunk.remaining_bytes));
        last = chunk.blob;
    }
    assert_eq!(seen, [(32_768, 7_232), (7_232, 0), (32, 0)]);
    assert_eq!(last, Sha256::digest(vec![5; 40_000]).to_vec());
}

#[tokio::test]
async fn the_health_service_says_no_during_a_defragmentation_if_the_gate_is_on() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    for stop_on_defrag in [true, false] {
        let server = start_with(Limits { stop_on_defrag, ..Limits::default() }).await;
        let mut health = HealthClient::new(server.channel.clone());
        let (finish, finished) = tokio::sync::oneshot::channel();
        server.fake.0.lock().unwrap().defragmentation = Some(finished);
        let mut maintenance = pb::maintenance_client::MaintenanceClient::new(server.channel.clone());
        let defragmenting =
            tokio::spawn(async move { maintenance.defragment(pb::DefragmentRequest {}).await });
        while server.fake.0.lock().unwrap().defragmentation.is_some() {
            tokio::task::yield_now().await;
        }
        let during = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
        let expected = if stop_on_defrag { ServingStatus::NotServing } else { ServingStatus::Serving };
        assert_eq!(during, expected);
        finish.send(()).unwrap();
        defragmenting.await.unwrap().unwrap();
        let after = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
        assert_eq!(after, ServingStatus::Serving);
    }
}

#[tokio::test]
async fn large_and_compressed_requests_come_in() {
    let server = start().await;
    let value = "v".repeat(1_500_000);
    let mut packing = server.kv().send_compressed(tonic::codec::CompressionEncoding::Gzip);
    packing.put(put("packed", &value)).await.unwrap();
    server.kv().put(put("plain", &value)).await.unwrap();
    let range = pb::RangeRequest { key: "p".into(), range_end: "q".into(), ..Default::default() };
    let mut kv = server.kv().max_decoding_message_size(8 << 20);
    let found = kv.range(range).await.unwrap().into_inner().kvs;
    assert!(found.len() == 2 && found.iter().all(|kv| kv.value == value));
}

#[tokio::test]
async fn elk_1_a_second_lock_waits_for_the_first() {
    let server = start().await;
    let mut client = lk::lock_client::LockClient::new(server.channel.clone());
    let request = |lease| lk::LockRequest { name: "l".into(), lease };
    let first = client.lock(request(0x1a)).await.unwrap().into_inner();
    assert_eq!(first.key, "l/1a");
    let mut waiting = client.clone();
    let second = tokio::spawn(async move { waiting.lock(request(0x1b)).await });
    while !server.fake.0.lock().unwrap().keys.contains_key(&b"l/1b"[..]) {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished());
    client.unlock(lk::UnlockRequest { key: first.key }).await.unwrap();
    assert_eq!(second.await.unwrap().unwrap().into_inner().key, "l/1b");
    let refused = client.unlock(lk::UnlockRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "etcdserver: key is not provided"));
}

#[tokio::test]
async fn elk_6_to_8_an_election_is_won_proclaimed_and_resigned() {
    let server = start().await;
    let mut client = el::election_client::ElectionClient::new(server.channel.clone());
    let nobody = client.leader(el::LeaderRequest { name: "e".into() }).await.unwrap_err();
    assert_eq!((nobody.code(), nobody.message()), (Code::Unknown, "election: no leader"));
    let campaign = el::CampaignRequest { name: "e".into(), lease: 5, value: "a".into() };
    let leader = client.campaign(campaign).await.unwrap().into_inner().leader;
    let proclaim = el::ProclaimRequest { leader: leader.clone(), value: "b".into() };
    client.proclaim(proclaim.clone()).await.unwrap();
    let now = client.leader(el::LeaderRequest { name: "e".into() }).await.unwrap().into_inner();
    assert_eq!(now.kv.unwrap().value, "b");
    client.resign(el::ResignRequest { leader: leader.clone() }).await.unwrap();
    assert_eq!(client.proclaim(proclaim).await.unwrap_err().message(), "election: not leader");
    let missing = client.resign(el::ResignRequest::default()).await.unwrap_err();
    assert_eq!(missing.message(), "\"leader\" field must be provided");
}

#[tokio::test]
async fn the_gateway_speaks_json_on_the_same_port() {
    let server = start().await;
    let (status, body) = server.http("POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#).await;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"header":{"cluster_id":"1","member_id":"2","revision":"2","raft_term":"3"}}"#)
    );
    let (_, body) = server.http("POST", "/v3beta/kv/range", r#"{"key":"Zm9v"}"#).await;
    assert!(body.contains(r#""value":"YmFy""#), "{body}");
    let (status, body) = server.http("POST", "/v3/kv/range", "").await;
    assert_eq!((status, body.as_str()), (400, r#"{"code":3,"message":"etcdserver: key is not provided"}"#));
    assert_eq!(server.http("GET", "/v3/kv/range", "").await.0, 501);
    assert_eq!(
        server.http("POST", "/v3/nope", "").await,
        (404, r#"{"code":5,"message":"Not Found"}"#.into())
    );
    let (status, body) = server.http("POST", "/v3/lease/keepalive", r#"{"ID":"7"}{"ID":9}"#).await;
    assert_eq!(status, 200);
    assert!(body.contains(r#""TTL":"30"}}"#) && body.contains(r#""ID":"9"}}"#), "{body}");
}

#[tokio::test]
async fn the_plain_endpoints_answer() {
    let server = start().await;
    let version = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(server.http("GET", "/version", "").await, (200, version.into()));
    assert_eq!(server.http("GET", "/health", "").await, (200, r#"{"health":"true","reason":""}"#.into()));
    assert_eq!(server.http("GET", "/readyz", "").await, (200, "ok\n".into()));
    let (status, metrics) = server.http("GET", "/metrics", "").await;
    assert!(status == 200 && metrics.contains("\netcd_server_health_success 1\n"), "{metrics}");
    assert_eq!(server.http("PUT", "/version", "").await, (405, "Method Not Allowed\n".into()));
    assert_eq!(server.http("GET", "/nope", "").await, (404, "404 page not found\n".into()));
    server.fake.0.lock().unwrap().standing.leader = 0;
    let (status, body) = server.http("GET", "/health", "").await;
    assert_eq!((status, body.as_str()), (503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"));
}

type Socket = WebSocketStream<TcpStream>;

async fn line(socket: &mut Socket) -> String {
    socket.next().await.unwrap().unwrap().into_text().unwrap().to_string()
}

#[tokio::test]
async fn a_websocket_carries_a_stream_in_both_directions() {
    let server = start().await;
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let mut request = format!("ws://{}/v3/watch", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "Bearer, token".parse().unwrap());
    let (mut socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "Bearer");
    socket.send(Frame::text(r#"{"create_request":{"key":"aw=="}}"#)).await.unwrap();
    let created = line(&mut socket).await;
    assert!(created.starts_with(r#"{"result":{"#) && created.contains(r#""created":true"#), "{created}");
    server.kv().put(put("k", "v")).await.unwrap();
    let event = line(&mut socket).await;
    assert!(event.contains(r#""kv":{"key":"aw==""#), "{event}");
    socket.send(Frame::text(r#"{"cancel_request":{}}"#)).await.unwrap();
    let canceled = line(&mut socket).await;
    assert!(canceled.contains(r#""canceled":true"#), "{canceled}");
    socket.send(Frame::Ping("p".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Frame::Pong("p".into()));
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn an_early_refusal_comes_through_a_websocket_as_a_line() {
    let server = start().await;
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://{}/v3/nope", server.address), stream).await.unwrap();
    assert_eq!(line(&mut socket).await, r#"{"code":5,"message":"Not Found"}"#);
    assert!(matches!(socket.next().await, Some(Ok(Frame::Close(_)))));
}

#[tokio::test]
async fn a_handshake_without_a_key_is_refused() {
    let server = start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let upgrade = "GET /v3/watch HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("Sec-WebSocket-Key"), "{answer}");
    assert_eq!(server.http("GET", "/v3/watch", "").await.0, 501);
}

#[tokio::test]
async fn who_pings_too_often_is_sent_away() {
    let server = start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // The first may come at any time, the next two are forgiven.
    for _ in 0..4 {
        stream.write_all(b"\0\0\x08\x06\0\0\0\0\0pingping").await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"\x00\x00\x00\x0btoo_many_pings"), "{answer:?}");
}

/// The workers are not blocked by it either: there are more of them than long calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_long_call_keeps_nobody_waiting_on_its_lane() {
    let server = start_on(Lanes::start(1).unwrap(), Limits::default()).await;
    let (began, beginning) = std::sync::mpsc::channel();
    let (end, ending) = std::sync::mpsc::channel();
    server.fake.0.lock().unwrap().long_range = Some((began, ending));
    let mut kv = server.kv();
    let long = tokio::spawn(async move {
        kv.range(pb::RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() }).await
    });
    tokio::task::spawn_blocking(move || beginning.recv()).await.unwrap().unwrap();
    let other = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    let mut other = pb::kv_client::KvClient::new(other);
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, server.kv().put(put("same", "connection"))).await.unwrap().unwrap();
    tokio::time::timeout(patience, other.put(put("another", "connection"))).await.unwrap().unwrap();
    drop(end);
    assert_eq!(long.await.unwrap().unwrap().into_inner().count, 0, "read before the puts");
}
