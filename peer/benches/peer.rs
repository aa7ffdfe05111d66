//! What a stream costs: appends into bytes and back, for both framings.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stanchion_peer::codec::{StreamDecoder, StreamEncoder, StreamKind};
use stanchion_raft::{Entry, Message, MessageType};

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

criterion_group!(benches, streams);
criterion_main!(benches);
