//! What the benches write, and where.

use std::path::PathBuf;
use std::sync::Arc;

use stanchion_disk::{Disk, RealDisk};
use stanchion_wal::{ENTRY_NORMAL, EntryRef, HardState, Options, Wal};

/// A directory to measure in.
pub(crate) fn place() -> tempfile::TempDir {
    let base = std::env::var_os("WAL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(base).expect("a directory to measure in")
}

/// The disk to measure.
pub(crate) fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// A hard state as etcd's.
pub(crate) fn state() -> HardState {
    HardState { term: 1, vote: 0x1122_3344_5566_7788, commit: 1 }
}

/// Bytes that do not compress, the same in every run.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Batches of equal entries with rising indexes.
pub(crate) struct Load {
    data: Vec<u8>,
    batch: u64,
    /// Index of the next entry.
    pub(crate) next: u64,
}

impl Load {
    /// Entries of this many bytes of data, this many at once.
    pub(crate) fn new(entry_len: usize, batch: u64) -> Self {
        Self { data: noise(entry_len), batch, next: 1 }
    }

    /// The next batch.
    pub(crate) fn batch(&mut self) -> Vec<EntryRef<'_>> {
        let first = self.next;
        self.next += self.batch;
        (first..self.next).map(|index| EntryRef::new(index, 1, ENTRY_NORMAL, &self.data)).collect()
    }
}

/// Bytes that one batch takes in a segment.
pub(crate) fn batch_len(load: &mut Load) -> usize {
    let place = place();
    let mut wal = Wal::create(disk(), place.path().join("wal"), b"", Options::default()).expect("create");
    let before = wal.tail().1;
    wal.append(&state(), &load.batch()).expect("append");
    load.next = 1;
    (wal.tail().1 - before) as usize
}
