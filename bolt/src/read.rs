//! Read transactions.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use crate::backup;
use crate::cursor::{Bucket, Cursor, Range};
use crate::db::Shared;
use crate::error::Result;
use crate::memory::Memory;
use crate::snapshot::Snapshot;
use crate::tree::Root;

/// A read transaction: the database as one commit left it, for as long as this value lives.
///
/// It neither blocks the writer nor is blocked by it, may move between threads and be shared by them. While it
/// lives, the pages it can see are not reused, so the file grows by what is rewritten meanwhile.
///
/// Keys and values are borrowed from it; the compiler refuses their use after its end:
///
/// ```compile_fail,E0505
/// # use stanchion_bolt::{Db, Error, Options};
/// # let db = Db::open(std::sync::Arc::new(stanchion_disk::SimDisk::new(1)), "db", Options::default())?;
/// # db.update::<_, Error>(|tx| tx.create_bucket("b")?.put("k", "v"))?;
/// let tx = db.begin_read()?;
/// let value = tx.bucket("b")?.expect("a bucket").get(b"k")?;
/// drop(tx);
/// assert_eq!(value, Some(&b"v"[..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct ReadTx {
    shared: Arc<Shared>,
    memory: Memory,
    /// The bucket that was found first: most readers ask for one bucket, again and again.
    first: OnceLock<Found>,
}

/// A top-level bucket whose name was looked up.
#[derive(Debug)]
struct Found {
    name: Box<[u8]>,
    root: Root,
    sequence: u64,
}

impl ReadTx {
    pub(crate) fn new(shared: Arc<Shared>, snapshot: Arc<Snapshot>) -> Self {
        Self { shared, memory: Memory::new(snapshot), first: OnceLock::new() }
    }

    /// The top level, whose entries are buckets.
    #[must_use]
    pub fn root(&self) -> Bucket<'_> {
        let meta = &self.memory.snapshot.meta;
        Bucket::stored(&self.memory, Root::Page(meta.root), meta.sequence)
    }

    /// A top-level bucket. The one that is asked for first is found at once from then on.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn bucket(&self, name: impl AsRef<[u8]>) -> Result<Option<Bucket<'_>>> {
        let name = name.as_ref();
        if let Some(first) = self.first.get()
            && *first.name == *name
        {
            return Ok(Some(Bucket::stored(&self.memory, first.root, first.sequence)));
        }
        let found = self.root().bucket(name)?;
        if let Some(bucket) = &found {
            self.first.get_or_init(|| Found {
                name: name.into(),
                root: bucket.root(),
                sequence: bucket.sequence(),
            });
        }
        Ok(found)
    }

    /// Cursor over the top-level buckets.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        self.root().cursor()
    }

    /// The top-level buckets, in order.
    #[must_use]
    pub fn buckets(&self) -> Range<'_> {
        self.root().iter()
    }

    /// Id of the commit it sees.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.memory.snapshot.meta.txid
    }

    /// Bytes of the database in this transaction: high-water mark times page size, and the length of a backup.
    #[must_use]
    pub fn size(&self) -> u64 {
        let meta = &self.memory.snapshot.meta;
        meta.high_water * u64::from(meta.page_size)
    }

    /// Bytes of [`Self::size`] in pages that were not free when the commit was made.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        let snapshot = &self.memory.snapshot;
        self.size().saturating_sub(snapshot.free_pages * u64::from(snapshot.meta.page_size))
    }

    /// Streams a consistent copy of the database, [`Self::size`] bytes, while writers go on. Returns its length.
    ///
    /// # Errors
    /// [`crate::Error::Io`] from reading, [`crate::Error::Copy`] from `writer`.
    pub fn write_to<W: Write + ?Sized>(&self, writer: &mut W) -> Result<u64> {
        backup::write_to(&self.shared, &self.memory.snapshot, writer)
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.memory.snapshot
    }
}

impl Drop for ReadTx {
    fn drop(&mut self) {
        self.shared.end_read(&self.memory.snapshot);
    }
}
