//! The write buffer: what has been applied but is not in the file yet.
//!
//! A buffer is filled while it is *active* and written to the file while it is *frozen*. Readers hold on to the buffers
//! of their view, so a row never disappears between the buffer and the file.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;

use crate::schema::Table;
use crate::{KeyValueRef, Revision, RowKey};

/// Rows per chunk: growing never moves more than one chunk's headers.
const CHUNK_LEN: usize = 1024;

/// A row on its way to the file.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: RowKey,
    pub(crate) value: Bytes,
}

/// Records of the other buckets: `None` is a deletion.
pub(crate) type Records = BTreeMap<(Table, Bytes), Option<Bytes>>;

/// Bytes of rows that share one allocation.
const ARENA_LEN: usize = 16 << 10;
/// A row above this length has an allocation of its own: it would waste what is left of a shared one.
const ARENA_ROW_MAX: usize = ARENA_LEN / 8;

/// Where new rows get their memory: small ones share an allocation, which lives until the last of them is let go.
///
/// Rows come and go in the order of revisions, so a shared allocation dies about when each of its rows would; whoever
/// keeps a single small row for long keeps up to 16 KiB.
#[derive(Debug, Default)]
pub(crate) struct RowArena {
    room: BytesMut,
}

impl RowArena {
    /// The encoded form of `kv`.
    pub(crate) fn encode(&mut self, kv: &KeyValueRef<'_>) -> Bytes {
        let len = kv.encoded_len();
        if len > ARENA_ROW_MAX {
            return kv.encode();
        }
        if self.room.capacity() < len {
            self.room = BytesMut::with_capacity(ARENA_LEN);
        }
        kv.encode_to(&mut self.room);
        self.room.split().freeze()
    }
}

/// Rows and records waiting for one commit.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Rows of this main revision and above are here, or in a later buffer.
    first_main: i64,
    rows: RwLock<Rows>,
    records: RwLock<Records>,
}

/// Invariant: every chunk but the last is full; revisions rise.
#[derive(Debug, Default)]
struct Rows {
    chunks: Vec<Vec<Row>>,
    len: usize,
}

impl Rows {
    fn lower_bound(&self, revision: Revision) -> usize {
        let chunk = self.chunks.partition_point(|chunk| chunk[chunk.len() - 1].key.revision < revision);
        let inside = self
            .chunks
            .get(chunk)
            .map_or(0, |chunk| chunk.partition_point(|row| row.key.revision < revision));
        chunk * CHUNK_LEN + inside
    }

    fn get(&self, i: usize) -> Option<&Row> {
        self.chunks.get(i / CHUNK_LEN)?.get(i % CHUNK_LEN)
    }
}

impl Buffer {
    /// An empty buffer for rows from `first_main` on.
    pub(crate) fn new(first_main: i64) -> Self {
        Self { first_main, rows: RwLock::default(), records: RwLock::default() }
    }

    pub(crate) fn first_main(&self) -> i64 {
        self.first_main
    }

    /// Number of rows and records.
    pub(crate) fn len(&self) -> usize {
        self.rows.read().len + self.records.read().len()
    }

    /// Takes the rows of a finished write transaction.
    pub(crate) fn push_rows(&self, new: impl IntoIterator<Item = Row>) {
        let mut rows = self.rows.write();
        for row in new {
            if rows.len.is_multiple_of(CHUNK_LEN) {
                rows.chunks.push(Vec::with_capacity(CHUNK_LEN));
            }
            rows.len += 1;
            rows.chunks.last_mut().expect("a chunk was pushed").push(row);
        }
    }

    /// Takes records of a finished write transaction; later ones replace earlier ones.
    pub(crate) fn push_records(&self, new: Records) {
        if !new.is_empty() {
            self.records.write().extend(new);
        }
    }

    /// The value of a row.
    pub(crate) fn row(&self, revision: Revision) -> Option<Bytes> {
        let rows = self.rows.read();
        let row = rows.get(rows.lower_bound(revision))?;
        (row.key.revision == revision).then(|| row.value.clone())
    }

    /// Some of the rows from `from` on, in order; none when there are no more.
    pub(crate) fn rows_from(&self, from: Revision) -> Vec<Row> {
        let rows = self.rows.read();
        let start = rows.lower_bound(from);
        (start..).map_while(|i| rows.get(i).cloned()).take(CHUNK_LEN).collect()
    }

    /// Visits all rows in order, stopping at the first error. The buffer must be frozen: nobody else waits for it.
    pub(crate) fn for_each_row<E>(&self, visit: impl FnMut(&Row) -> Result<(), E>) -> Result<(), E> {
        self.rows.read().chunks.iter().flatten().try_for_each(visit)
    }

    /// The record's new value, `Some(None)` if it is deleted, or `None` if this buffer does not know it.
    pub(crate) fn record(&self, table: Table, key: &[u8]) -> Option<Option<Bytes>> {
        self.records.read().get(&(table, Bytes::copy_from_slice(key))).cloned()
    }

    /// All records of a bucket that this buffer changes.
    pub(crate) fn records_of(&self, table: Table) -> Vec<(Bytes, Option<Bytes>)> {
        let records = self.records.read();
        records
            .range((table, Bytes::new())..)
            .take_while(|((of, _), _)| *of == table)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }

    /// A copy of all records; for the commit of a frozen buffer.
    pub(crate) fn records(&self) -> Records {
        self.records.read().clone()
    }
}
