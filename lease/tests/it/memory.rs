//! What a million leases weigh, by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion_lease::{Config, Lessor};

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is handed to the system allocator unchanged; only the sizes are counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `at` came from `alloc` above with the same layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_million_leases_take_at_most_200_bytes_each() {
    const LEASES: i64 = 1_000_000;
    let mut lessor = Lessor::new(Config { checkpoint_interval_ms: Some(300_000), ..Config::default() });
    let before = ALLOCATED.load(Ordering::Relaxed);
    lessor.promote(0, 0);
    for id in 1..=LEASES {
        lessor.grant(0, id, 3_600).unwrap();
    }
    // Other tests of this binary allocate beside this one: kilobytes, against 200 megabytes here.
    let each = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before) / LEASES as usize;
    assert!((40..=200).contains(&each), "{each} bytes for each lease");
}
