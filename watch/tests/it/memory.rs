//! What a million watchers weigh, by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use stanchion_watch::{Hub, KeyRange, Options};

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
fn a_million_watchers_on_distinct_keys_take_at_most_250_bytes_each() {
    const WATCHERS: u32 = 1_000_000;
    let mut hub = Hub::new(1, Hub::STREAM_CAPACITY);
    let before = ALLOCATED.load(Ordering::Relaxed);
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
    let each = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before) / WATCHERS as usize;
    assert!((60..=250).contains(&each), "{each} bytes for each watcher");
}
