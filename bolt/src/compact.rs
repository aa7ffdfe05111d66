//! Compaction: a copy without free pages and without gaps, in a new file.

use std::path::Path;
use std::sync::Arc;

use stanchion_disk::Disk;

use crate::cursor::Bucket;
use crate::db::{Db, Options};
use crate::error::{Error, Result};
use crate::read::ReadTx;
use crate::write::{BucketMut, WriteTx};

/// How full the pages of a compacted file are.
const FILL_PERCENT: f64 = 0.9;
/// Deepest nesting that is copied; deeper files are made by hand.
const MAX_NESTING: usize = 256;

impl ReadTx {
    /// Writes everything in this transaction into a new database at `path`, in transactions of about
    /// `transaction_bytes` (0: a single one), and returns it open.
    ///
    /// # Errors
    /// [`Error::Io`] with "already exists" where there is a file, and all that opening, reading and writing can give.
    /// After an error the new file is unfinished: remove it.
    pub fn compact_to(
        &self,
        disk: Arc<dyn Disk>,
        path: impl AsRef<Path>,
        options: Options,
        transaction_bytes: u64,
    ) -> Result<Db> {
        let path = path.as_ref();
        if disk.exists(path).map_err(|source| Error::Io {
            operation: "look for",
            path: path.to_path_buf(),
            source,
        })? {
            let source = std::io::ErrorKind::AlreadyExists.into();
            return Err(Error::Io { operation: "create", path: path.to_path_buf(), source });
        }
        // A damaged file in which buckets contain each other would never end.
        self.bucket_stats()?;
        let db = Db::open(disk, path, options)?;
        let limit = if transaction_bytes == 0 { u64::MAX } else { transaction_bytes };
        let mut copy = Copy { db: &db, tx: Some(db.begin_write()?), written: 0, limit, path: Vec::new() };
        copy.bucket(&self.root())?;
        copy.tx.take().expect("a transaction is open between calls").commit()?;
        Ok(db)
    }
}

struct Copy<'db> {
    db: &'db Db,
    /// Open between calls.
    tx: Option<WriteTx>,
    written: u64,
    limit: u64,
    /// Names of the bucket being copied, from the top.
    path: Vec<Vec<u8>>,
}

impl Copy<'_> {
    /// Copies the entries of a bucket that exists at `self.path`, and its sequence number.
    fn bucket(&mut self, from: &Bucket<'_>) -> Result<()> {
        if self.path.len() > MAX_NESTING {
            return Err(Error::corrupt(
                from.root_page(),
                format!("buckets nested deeper than {MAX_NESTING}"),
            ));
        }
        let mut entries = from.iter().peekable();
        while let Some(entry) = entries.peek() {
            if let Ok((name, None)) = entry {
                let name = *name;
                let nested =
                    from.bucket(name)?.ok_or_else(|| Error::BucketNotFound { name: name.to_vec() })?;
                with_bucket(open(&mut self.tx), &self.path, |parent| parent.create_bucket(name).map(|_| ()))?;
                self.path.push(name.to_vec());
                let sequence = nested.sequence();
                with_bucket(open(&mut self.tx), &self.path, |bucket| {
                    bucket.set_sequence(sequence);
                    Ok(())
                })?;
                self.bucket(&nested)?;
                self.path.pop();
                entries.next();
                continue;
            }
            self.values(&mut entries)?;
        }
        Ok(())
    }

    /// Copies values up to the next nested bucket or the size of a transaction.
    fn values(&mut self, entries: &mut std::iter::Peekable<crate::cursor::Range<'_>>) -> Result<()> {
        let room = self.limit.saturating_sub(self.written);
        let mut written = 0;
        with_bucket(open(&mut self.tx), &self.path, |bucket| {
            bucket.set_fill_percent(FILL_PERCENT);
            while written < room && !matches!(entries.peek(), None | Some(Ok((_, None)))) {
                let Some(entry) = entries.next() else { break };
                let (key, value) = entry?;
                let value = value.unwrap_or_default();
                bucket.put(key, value)?;
                written += (key.len() + value.len()) as u64;
            }
            Ok(())
        })?;
        self.written += written;
        if self.written >= self.limit {
            self.tx.take().expect("a transaction is open between calls").commit()?;
            self.tx = Some(self.db.begin_write()?);
            self.written = 0;
        }
        Ok(())
    }
}

fn open(tx: &mut Option<WriteTx>) -> &mut WriteTx {
    tx.as_mut().expect("a transaction is open between calls")
}

/// Runs `work` on the bucket at a path; the empty path is the top level.
pub(crate) fn with_bucket(
    tx: &mut WriteTx,
    path: &[Vec<u8>],
    work: impl FnOnce(&mut BucketMut<'_>) -> Result<()>,
) -> Result<()> {
    let mut bucket = tx.root_mut();
    for name in path {
        bucket = bucket.into_bucket(name)?;
    }
    work(&mut bucket)
}
