//! What a million watchers weigh, by an allocator that counts.

use std::alloc::System;

use bytes::Bytes;
use stanchion_watch::{Event, EventKind, Hub, KeyRange, Options, ResponseKind, StreamId};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes in use.
fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn a_million_watchers_on_distinct_keys_take_at_most_250_bytes_each() {
    const WATCHERS: u32 = 1_000_000;
    let mut hub = Hub::new(1, Hub::STREAM_CAPACITY);
    let before = allocated();
    for n in 0..WATCHERS {
        if n % 1_000 == 0 {
            hub.open();
        }
        let stream = StreamId(u64::from(n / 1_000));
        let range = KeyRange::new(format!("key/{n:08}").as_bytes(), b"").unwrap();
        hub.create(stream, 0, range, Options::default()).unwrap();
        while hub.poll(stream).is_some() {}
    }
    // Other tests of this binary allocate beside this one: little, against 250 megabytes here.
    let each = allocated().saturating_sub(before) / WATCHERS as usize;
    assert!((60..=250).contains(&each), "{each} bytes for each watcher");
}

#[test]
fn a_publication_to_100_000_watchers_of_one_key_does_not_copy_the_event() {
    const WATCHERS: usize = 100_000;
    const EVENT_LEN: usize = 1 << 20;
    let mut hub = Hub::new(0, Hub::STREAM_CAPACITY);
    let streams: Vec<StreamId> = (0..WATCHERS).map(|_| hub.open()).collect();
    for stream in &streams {
        hub.create(*stream, 0, KeyRange::new(b"key", b"").unwrap(), Options::default()).unwrap();
        while hub.poll(*stream).is_some() {}
    }
    let encoded = Bytes::from(vec![0; EVENT_LEN]);
    let event = Event {
        revision: 1,
        kind: EventKind::Put,
        created: true,
        key: Bytes::from_static(b"key"),
        encoded: encoded.clone(),
    };
    let before = allocated();
    hub.publish(1, [event].into());
    // A copy for each would take 100 gigabytes; a place in a queue takes a few hundred bytes.
    let each = allocated().saturating_sub(before) / WATCHERS;
    assert!(each <= 1_000, "{each} bytes for each watcher that is told");
    for stream in streams {
        let told = hub.poll(stream).unwrap();
        let ResponseKind::Events { events, .. } = told.kind else { panic!("{told:?}") };
        let shared = events.iter().all(|event| event.encoded.as_ptr() == encoded.as_ptr());
        assert!(shared, "everybody shares the same bytes");
    }
}
