//! The file under the store: a bolt file with a fixed set of buckets.
//!
//! What lives here: every use of `bolt`. What may not: what the records mean.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stanchion_bolt::{Bucket, BucketMut, Db, Finder, Options, ReadTx, WriteTx};
use stanchion_disk::Disk;

use crate::schema::Table;
use crate::shrink::ShrinkStep;

/// How long another process may keep the file locked before opening it is given up.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Rows arrive in rising order, so a page that is split need not leave room in its lower half.
const ROWS_FILL: f64 = 0.9;

/// An error of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// From the file engine.
    #[error("{}: {source}", path.display())]
    Bolt {
        /// The file.
        path: PathBuf,
        /// What the engine says.
        source: stanchion_bolt::Error,
    },
    /// Where a record is expected there is a bucket.
    #[error("bucket {bucket} has a bucket {} where a record belongs", key.escape_ascii())]
    NestedBucket {
        /// Bucket name.
        bucket: String,
        /// Name of the nested bucket.
        key: Vec<u8>,
    },
}

/// Key and value.
pub(crate) type Record<'a> = (&'a [u8], &'a [u8]);

/// How to open a [`File`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileOptions {
    pub(crate) read_only: bool,
    pub(crate) initial_map_size: u64,
    pub(crate) sync: bool,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct File {
    db: Db,
}

/// The file as one commit left it.
#[derive(Debug)]
pub(crate) struct Image {
    tx: ReadTx,
    path: PathBuf,
}

/// A transaction that is on its way into the file.
#[derive(Debug)]
pub(crate) struct FileTxn<'f> {
    tx: WriteTx,
    file: &'f File,
}

fn fault(path: &Path) -> impl Fn(stanchion_bolt::Error) -> FileError {
    move |source| FileError::Bolt { path: path.to_path_buf(), source }
}

impl File {
    /// Opens the file; one that may be written gets all buckets that it does not have yet.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &Path, options: &FileOptions) -> Result<Self, FileError> {
        let mut bolt = if options.read_only { Options::read_only() } else { Options::default() };
        bolt.initial_map_size = options.initial_map_size;
        bolt.no_sync = !options.sync;
        bolt.lock_timeout = Some(LOCK_TIMEOUT);
        let file = Self { db: Db::open(disk, path, bolt).map_err(fault(path))? };
        if !options.read_only {
            file.create_buckets()?;
        }
        Ok(file)
    }

    fn create_buckets(&self) -> Result<(), FileError> {
        let fault = fault(self.db.path());
        let tx = self.db.begin_read().map_err(&fault)?;
        let mut missing = Vec::new();
        for table in Table::ALL {
            if tx.bucket(table.name()).map_err(&fault)?.is_none() {
                missing.push(table);
            }
        }
        drop(tx);
        if missing.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin_write().map_err(&fault)?;
        for table in missing {
            tx.create_bucket(table.name()).map_err(&fault)?;
        }
        tx.commit().map_err(&fault)
    }

    /// The file as it is now; its pages are not reused while the image lives.
    pub(crate) fn image(&self) -> Result<Image, FileError> {
        let path = self.db.path().to_path_buf();
        let tx = self.db.begin_read().map_err(fault(&path))?;
        // What a transaction finds first it finds again without a search: let that be the rows.
        tx.bucket(Table::Key.name()).map_err(fault(&path))?;
        Ok(Image { tx, path })
    }

    pub(crate) fn write(&self) -> Result<FileTxn<'_>, FileError> {
        let tx = self.db.begin_write().map_err(fault(self.db.path()))?;
        Ok(FileTxn { tx, file: self })
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.db.is_read_only()
    }

    /// One bounded step of making the file shorter.
    pub(crate) fn shrink_step(&self, pages: u64) -> Result<ShrinkStep, FileError> {
        let report = self.db.shrink_step(pages).map_err(fault(self.db.path()))?;
        Ok(ShrinkStep {
            pages_moved: report.moved + report.joined,
            file_size: report.file_pages * u64::from(self.db.stats().page_size),
            done: report.done,
            waits_for_readers: report.waiting_for_readers,
        })
    }

    /// Bytes up to the highest page in use.
    pub(crate) fn size(&self) -> u64 {
        let stats = self.db.stats();
        stats.pages * u64::from(stats.page_size)
    }

    /// Bytes in pages that are not free.
    pub(crate) fn size_in_use(&self) -> u64 {
        let stats = self.db.stats();
        (stats.pages - stats.free_pages) * u64::from(stats.page_size)
    }
}

impl Image {
    /// The bucket of a table; `None` if the file, opened for reading only, does not have it.
    pub(crate) fn bucket(&self, table: Table) -> Result<Option<Bucket<'_>>, FileError> {
        self.tx.bucket(table.name()).map_err(fault(&self.path))
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, FileError> {
        match self.bucket(table)? {
            Some(bucket) => bucket.get(key).map_err(fault(&self.path)),
            None => Ok(None),
        }
    }

    /// As [`get`](Self::get), for many keys of one bucket.
    #[inline]
    pub(crate) fn find<'a>(&'a self, finder: &Finder<'a>, key: &[u8]) -> Result<Option<&'a [u8]>, FileError> {
        finder.get(key).map_err(fault(&self.path))
    }

    /// Visits the records of a table from the key `from` on, until the visitor breaks.
    pub(crate) fn scan<'a>(
        &'a self,
        table: Table,
        from: &[u8],
        visit: impl FnMut(&'a [u8], &'a [u8]) -> ControlFlow<()>,
    ) -> Result<(), FileError> {
        self.scan_bucket(table.name().as_bytes(), from, visit)
    }

    /// As [`scan`](Self::scan), for any bucket of the file.
    pub(crate) fn scan_bucket<'a>(
        &'a self,
        name: &[u8],
        from: &[u8],
        mut visit: impl FnMut(&'a [u8], &'a [u8]) -> ControlFlow<()>,
    ) -> Result<(), FileError> {
        let fault = fault(&self.path);
        let Some(bucket) = self.tx.bucket(name).map_err(&fault)? else {
            return Ok(());
        };
        let mut cursor = bucket.cursor();
        let mut next = cursor.seek(from).map_err(&fault)?;
        while let Some((key, value)) = next {
            if visit(key, plain(name, key, value)?).is_break() {
                break;
            }
            next = cursor.next().map_err(&fault)?;
        }
        Ok(())
    }

    /// The names of all buckets, in order.
    pub(crate) fn buckets(&self) -> Result<Vec<Vec<u8>>, FileError> {
        let names = self.tx.buckets().map(|entry| entry.map(|(name, _)| name.to_vec()));
        names.collect::<Result<_, _>>().map_err(fault(&self.path))
    }

    /// The first record at or above `from`.
    pub(crate) fn first_from(&self, table: Table, from: &[u8]) -> Result<Option<Record<'_>>, FileError> {
        let mut first = None;
        self.scan(table, from, |key, value| {
            first = Some((key, value));
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    pub(crate) fn last(&self, table: Table) -> Result<Option<Record<'_>>, FileError> {
        let Some(bucket) = self.bucket(table)? else {
            return Ok(None);
        };
        match bucket.cursor().last().map_err(fault(&self.path))? {
            Some((key, value)) => Ok(Some((key, plain(table.name().as_bytes(), key, value)?))),
            None => Ok(None),
        }
    }

    /// Streams a copy of the file as this image sees it; returns its length.
    pub(crate) fn write_to(&self, out: &mut dyn std::io::Write) -> Result<u64, FileError> {
        self.tx.write_to(out).map_err(fault(&self.path))
    }

    /// Length of the copy that [`write_to`](Self::write_to) makes.
    pub(crate) fn size(&self) -> u64 {
        self.tx.size()
    }
}

/// The value of an entry that is no nested bucket.
fn plain<'a>(bucket: &[u8], key: &[u8], value: Option<&'a [u8]>) -> Result<&'a [u8], FileError> {
    value.ok_or_else(|| FileError::NestedBucket {
        bucket: String::from_utf8_lossy(bucket).into_owned(),
        key: key.to_vec(),
    })
}

impl FileTxn<'_> {
    /// The bucket of rows, for many changes.
    pub(crate) fn rows(&mut self) -> Result<RowsMut<'_>, FileError> {
        let path = self.file.db.path();
        let mut bucket = self.tx.bucket_mut(Table::Key.name()).map_err(fault(path))?;
        bucket.set_fill_percent(ROWS_FILL);
        Ok(RowsMut { bucket, path })
    }

    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), FileError> {
        let put = |tx: &mut WriteTx| tx.bucket_mut(table.name())?.put(key, value);
        put(&mut self.tx).map_err(fault(self.file.db.path()))
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), FileError> {
        let delete = |tx: &mut WriteTx| tx.bucket_mut(table.name())?.delete(key).map(drop);
        delete(&mut self.tx).map_err(fault(self.file.db.path()))
    }

    pub(crate) fn commit(self) -> Result<(), FileError> {
        self.tx.commit().map_err(fault(self.file.db.path()))
    }
}

/// The bucket of rows inside a [`FileTxn`].
#[derive(Debug)]
pub(crate) struct RowsMut<'t> {
    bucket: BucketMut<'t>,
    path: &'t Path,
}

impl RowsMut<'_> {
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), FileError> {
        self.bucket.put(key, value).map_err(fault(self.path))
    }

    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<(), FileError> {
        self.bucket.delete(key).map(drop).map_err(fault(self.path))
    }
}
