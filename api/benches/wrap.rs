//! What a log entry costs: wrapping a request's bytes against decoding and encoding it again.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use prost::Message;
use stanchion_api::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use stanchion_api::raft_request::{RaftRequest, RequestKind, wrap};

fn put(value: usize) -> Bytes {
    let put = PutRequest {
        key: Bytes::from_static(b"/registry/pods/a"),
        value: vec![7; value].into(),
        ..Default::default()
    };
    put.encode_to_vec().into()
}

fn entries(c: &mut Criterion) {
    let header = RequestHeader { id: 0x1234_5678_9abc, ..Default::default() };
    for size in [256, 65_536] {
        let raw = put(size);
        c.bench_function(&format!("wrap/{size}"), |b| b.iter(|| wrap(&header, RequestKind::Put, &raw)));
        c.bench_function(&format!("re-encode/{size}"), |b| {
            b.iter(|| {
                let put = PutRequest::decode(raw.clone()).expect("own bytes");
                InternalRaftRequest { header: Some(header.clone()), put: Some(put), ..Default::default() }
                    .encode_to_vec()
            });
        });
        let entry = wrap(&header, RequestKind::Put, &raw);
        c.bench_function(&format!("parse/{size}"), |b| {
            b.iter_batched(
                || entry.clone(),
                |e| RaftRequest::parse(e).expect("own bytes"),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, entries);
criterion_main!(benches);
