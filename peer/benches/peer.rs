//! What a stream costs: appends into bytes and back, for both framings; and whole streams, over loopback between two
//! members of one process.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stanchion_api::etcdserverpb as pb;
use stanchion_peer::codec::{StreamDecoder, StreamEncoder, StreamKind};
use stanchion_peer::{
    Answer, Endpoints, Handler, HashError, HashKv, Identity, LeaseError, MemberInfo, Observer, PeerListener,
    PeerServer, PromoteError, Refused, SnapshotOutcome, SnapshotSink, Timing, Transport, Version,
    VersionInfo,
};
use stanchion_raft::{Entry, Message, MessageType};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// Appends of a leader that continue each other, with entries of 256 bytes.
fn appends(count: u64, entries: u64) -> Vec<Message> {
    let payload = bytes::Bytes::from(vec![7; 256]);
    let append = |number: u64| {
        let index = number * entries;
        let entry = |i: u64| Entry { term: 5, index: index + i, data: payload.clone(), ..Entry::default() };
        Message {
            from: 1,
            term: 5,
            log_term: 5,
            index,
            commit: index,
            entries: (1..=entries).map(entry).collect(),
            ..Message::new(MessageType::App, 2)
        }
    };
    (0..count).map(append).collect()
}

fn encoded(kind: StreamKind, messages: &[Message]) -> Vec<u8> {
    let (mut encoder, mut out) = (StreamEncoder::new(kind), Vec::new());
    messages.iter().for_each(|message| encoder.encode(message, &mut out));
    out
}

fn streams(c: &mut Criterion) {
    for (kind, name) in [(StreamKind::Message, "message"), (StreamKind::MsgApp, "msgapp")] {
        for entries in [1, 64] {
            let messages = appends(1000, entries);
            let bytes = encoded(kind, &messages);
            let mut group = c.benchmark_group(format!("{name}/{entries} entries"));
            group.throughput(Throughput::Elements(messages.len() as u64));
            group.bench_function("encode", |b| b.iter(|| black_box(encoded(kind, &messages))));
            group.bench_function("decode", |b| {
                let fresh = || (BytesMut::from(&bytes[..]), StreamDecoder::new(kind, 2, 1));
                b.iter_batched(
                    fresh,
                    |(mut buf, mut decoder)| {
                        let mut frames = 0;
                        while let Ok(Some(frame)) = decoder.decode(&mut buf) {
                            black_box(&frame);
                            frames += 1;
                        }
                        assert_eq!(frames, messages.len());
                    },
                    BatchSize::LargeInput,
                );
            });
            group.finish();
        }
    }
}

/// Counts what arrives, and knows when both streams of the other member are open.
#[derive(Default)]
struct Counter {
    received: AtomicU64,
    streams: AtomicU64,
    changed: Notify,
}

impl Counter {
    async fn until(&self, counter: &AtomicU64, enough: u64) {
        loop {
            let changed = self.changed.notified();
            if counter.load(Ordering::Acquire) >= enough {
                return;
            }
            changed.await;
        }
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }
}

impl Handler for Counter {
    fn process(&self, _: Message) -> Result<(), Refused> {
        self.count(&self.received);
        Ok(())
    }

    fn is_removed(&self, _: u64) -> bool {
        false
    }

    fn report_unreachable(&self, _: u64) {}

    fn report_snapshot(&self, _: u64, _: SnapshotOutcome) {}

    fn removed_by(&self, _: u64) {}

    fn receive_snapshot(&self, _: &Message) -> io::Result<Box<dyn SnapshotSink>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Observer for Counter {
    fn stream_opened(&self, _: u64, _: StreamKind) {
        self.count(&self.streams);
    }
}

struct Unasked;

impl Endpoints for Unasked {
    fn members(&self) -> Vec<MemberInfo> {
        Vec::new()
    }

    fn version(&self) -> VersionInfo {
        VersionInfo { etcdserver: String::new(), etcdcluster: String::new(), storage: String::new() }
    }

    fn promote(&self, _: u64, _: Option<String>) -> Answer<Vec<MemberInfo>, PromoteError> {
        Box::pin(async { Err(PromoteError::NotFound) })
    }

    fn renew_lease(&self, _: i64) -> Answer<i64, LeaseError> {
        Box::pin(async { Err(LeaseError::NotFound) })
    }

    fn lease_time_to_live(
        &self,
        _: pb::LeaseTimeToLiveRequest,
    ) -> Answer<pb::LeaseTimeToLiveResponse, LeaseError> {
        Box::pin(async { Err(LeaseError::NotFound) })
    }

    fn downgrade_enabled(&self) -> Answer<bool, String> {
        Box::pin(async { Ok(false) })
    }

    fn hash_kv(&self, _: i64) -> Answer<HashKv, HashError> {
        Box::pin(async { Err(HashError::Future) })
    }
}

/// A member on a port of its own.
async fn member(id: u64) -> (Transport, Arc<Counter>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let identity = Identity {
        cluster_id: 1,
        member_id: id,
        version: Version::new(3, 7, 0),
        peer_urls: vec![url.clone()],
    };
    let counter = Arc::new(Counter::default());
    let timing = Timing::for_election(Duration::from_secs(1));
    let tokio = tokio::runtime::Handle::current();
    let transport = Transport::new(identity, timing, counter.clone(), counter.clone(), tokio);
    let server = PeerServer::new(transport.clone(), Arc::new(Unasked));
    tokio::spawn(server.serve(PeerListener::Tcp(listener), std::future::pending()));
    (transport, counter, url)
}

fn loopback(c: &mut Criterion) {
    const MESSAGES: u64 = 1000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (near, at_near, far, at_far) = runtime.block_on(async {
        let (a, at_a, url_a) = member(1).await;
        let (b, at_b, url_b) = member(2).await;
        a.add_peer(2, &[url_b]).expect("its URL");
        b.add_peer(1, &[url_a]).expect("its URL");
        at_a.until(&at_a.streams, 2).await;
        at_b.until(&at_b.streams, 2).await;
        (a, at_a, b, at_b)
    });
    for entries in [1, 64] {
        let messages = appends(MESSAGES, entries);
        let mut group = c.benchmark_group(format!("loopback/{entries} entries"));
        group.throughput(Throughput::Elements(MESSAGES));
        group.bench_function("burst of 1000 appends", |b| {
            b.iter(|| {
                let before = at_far.received.load(Ordering::Acquire);
                near.send(messages.iter().cloned());
                runtime.block_on(at_far.until(&at_far.received, before + MESSAGES));
            });
        });
        group.finish();
    }
    let one = Message { from: 1, term: 5, ..Message::new(MessageType::Heartbeat, 2) };
    let back = Message { from: 2, term: 5, ..Message::new(MessageType::HeartbeatResp, 1) };
    c.bench_function("loopback/there and back", |b| {
        b.iter(|| {
            let heard = at_far.received.load(Ordering::Acquire);
            let answered = at_near.received.load(Ordering::Acquire);
            runtime.block_on(async {
                near.send([one.clone()]);
                at_far.until(&at_far.received, heard + 1).await;
                far.send([back.clone()]);
                at_near.until(&at_near.received, answered + 1).await;
            });
        });
    });
}

criterion_group!(benches, streams, loopback);
criterion_main!(benches);
