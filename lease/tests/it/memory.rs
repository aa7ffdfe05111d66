//! What a million leases weigh, by an allocator that counts.

use std::alloc::System;

use stanchion_lease::{Config, Lessor};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes in use.
fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn a_million_leases_take_at_most_200_bytes_each() {
    const LEASES: i64 = 1_000_000;
    let mut lessor = Lessor::new(Config { checkpoint_interval_ms: Some(300_000), ..Config::default() });
    let before = allocated();
    lessor.promote(0, 0);
    for id in 1..=LEASES {
        lessor.grant(0, id, 3_600).unwrap();
    }
    // Other tests of this binary allocate beside this one: kilobytes, against 200 megabytes here.
    let each = allocated().saturating_sub(before) / LEASES as usize;
    assert!((40..=200).contains(&each), "{each} bytes for each lease");
}
