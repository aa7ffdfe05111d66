//! What a million watchers weigh, by an allocator that counts.

use std::alloc::System;

use stanchion_watch::{Hub, KeyRange, Options};
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
        let stream = stanchion_watch::StreamId(u64::from(n / 1_000));
        let range = KeyRange::new(format!("key/{n:08}").as_bytes(), b"").unwrap();
        hub.create(stream, 0, range, Options::default()).unwrap();
        while hub.poll(stream).is_some() {}
    }
    // Other tests of this binary allocate beside this one: little, against 250 megabytes here.
    let each = allocated().saturating_sub(before) / WATCHERS as usize;
    assert!((60..=250).contains(&each), "{each} bytes for each watcher");
}
