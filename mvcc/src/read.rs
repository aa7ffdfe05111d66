//! Read transactions: one image of the store, unmoved by whatever is written beside it.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use stanchion_bolt::Finder;

use crate::buffer::{Buffer, Row};
use crate::file::Image;
use crate::hash::{Crc, Kept, KvHash, KvHasher};
use crate::index::KeyIndex;
use crate::range::{self, RowBytes, RowSource};
use crate::schema::{ReadRecords, Table, meta_is_outside_hash};
use crate::{Error, KeyRange, RangeOptions, RangeResult, Result, Revision, RowKey};

/// An image of the store at its current revision, which also reads every revision down to the compact revision.
///
/// Holding one keeps old pages of the file and old nodes of the index alive, but stops nobody. It is `Send` and `Sync`,
/// and clones share the image. Rows and revisions never change under it; records of other buckets
/// ([`ReadRecords`]) may show changes made later.
#[derive(Clone, Debug)]
pub struct ReadTxn {
    pub(crate) index: KeyIndex,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
    pub(crate) rows: RowImage,
}

/// The rows of a [`ReadTxn`]: the file, then what is being committed, then what has been written since.
#[derive(Clone, Debug)]
pub(crate) struct RowImage {
    pub(crate) image: Arc<Image>,
    pub(crate) frozen: Option<Arc<Buffer>>,
    pub(crate) active: Arc<Buffer>,
}

impl RowImage {
    /// The buffers that may hold rows or records, newest first.
    fn buffers(&self) -> impl DoubleEndedIterator<Item = &Arc<Buffer>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// Visits the rows with main revisions from `from` to `to` in order until the visitor breaks.
    pub(crate) fn scan(
        &self,
        from: i64,
        to: i64,
        mut visit: impl FnMut(RowKey, RowBytes<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let (mut failure, mut done) = (None, false);
        let start = RowKey::put(Revision::new(from.max(0), 0)).encode();
        self.image.scan(Table::Key, &start, |key, value| {
            let Some(row) = RowKey::decode(key) else {
                failure = Some(Error::record(Table::Key.name(), key, "the key is not a revision"));
                return ControlFlow::Break(());
            };
            if row.revision.main > to || visit(row, RowBytes::Mapped(value)).is_break() {
                done = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        for buffer in self.buffers().rev() {
            let mut next = Revision::new(from.max(0), 0);
            while !done {
                let some = buffer.rows_from(next);
                let Some(last) = some.last() else { break };
                next = Revision::new(last.key.revision.main, last.key.revision.sub + 1);
                for Row { key, value } in some {
                    if key.revision.main > to || visit(key, RowBytes::Buffered(value)).is_break() {
                        done = true;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl RowImage {
    /// The value of a row that is not in the file yet.
    #[inline]
    pub(crate) fn buffered(&self, key: RowKey) -> Result<Option<Bytes>> {
        let revision = key.revision;
        match self.buffers().find(|buffer| revision.main >= buffer.first_main()) {
            Some(buffer) => Ok(Some(buffer.row(revision).ok_or(Error::MissingRow { revision })?)),
            None => Ok(None),
        }
    }

    /// Looks up the bucket of rows once, for many rows.
    pub(crate) fn reader(&self) -> Result<RowReader<'_>> {
        Ok(RowReader { rows: self, finder: self.image.bucket(Table::Key)?.map(|bucket| bucket.finder()) })
    }
}

/// Finds rows of a [`RowImage`]. Keys that were written one after the other have their rows in one page.
#[derive(Clone, Debug)]
pub(crate) struct RowReader<'a> {
    rows: &'a RowImage,
    finder: Option<Finder<'a>>,
}

impl<'a> RowReader<'a> {
    /// The value of a row, a tombstone's too.
    #[inline]
    pub(crate) fn row_of(&self, key: RowKey) -> Result<RowBytes<'a>> {
        if let Some(buffered) = self.rows.buffered(key)? {
            return Ok(RowBytes::Buffered(buffered));
        }
        let image = &*self.rows.image;
        let found = self.finder.as_ref().map_or(Ok(None), |finder| image.find(finder, &key.encode()))?;
        found.map(RowBytes::Mapped).ok_or(Error::MissingRow { revision: key.revision })
    }
}

impl Image {
    /// The value of a row, as the file has it.
    pub(crate) fn row(&self, key: RowKey) -> Result<&[u8]> {
        self.get(Table::Key, &key.encode())?.ok_or(Error::MissingRow { revision: key.revision })
    }
}

impl RowSource for RowReader<'_> {
    #[inline]
    fn row(&self, revision: Revision) -> Result<RowBytes<'_>> {
        self.row_of(RowKey::put(revision))
    }
}

impl ReadRecords for RowImage {
    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        match self.buffers().find_map(|buffer| buffer.record(table, key)) {
            Some(buffered) => Ok(buffered),
            None => FileRecords { image: &self.image }.record(table, key),
        }
    }

    fn records(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>> {
        let file = FileRecords { image: &self.image };
        let mut all: std::collections::BTreeMap<Bytes, Bytes> = file.records(table)?.into_iter().collect();
        for buffer in self.buffers().rev() {
            for (key, value) in buffer.records_of(table) {
                match value {
                    Some(value) => all.insert(key, value),
                    None => all.remove(&key),
                };
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// The records of a view's file alone: what [`ReadTxn::write_file_to`] copies, without what waits for a commit.
#[derive(Clone, Copy, Debug)]
pub struct FileRecords<'a> {
    image: &'a Image,
}

impl ReadRecords for FileRecords<'_> {
    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.image.get(table, key)?.map(Bytes::copy_from_slice))
    }

    fn records(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>> {
        let mut all = Vec::new();
        self.image.scan(table, b"", |key, value| {
            all.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }
}

impl ReadRecords for ReadTxn {
    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        self.rows.record(table, key)
    }

    fn records(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>> {
        self.rows.records(table)
    }
}

/// The main revision that a request's `revision` means, if it may be read.
pub(crate) fn readable(requested: i64, current: i64, compacted: i64) -> Result<i64> {
    if requested > current {
        return Err(Error::Future { requested, current });
    }
    if requested <= 0 {
        return Ok(current);
    }
    if requested < compacted {
        return Err(Error::Compacted { requested, compacted });
    }
    Ok(requested)
}

/// As [`readable`], with the rule for ranges inside transactions: only 0 means the current revision.
pub(crate) fn readable_in_txn(requested: i64, current: i64, compacted: i64) -> Result<i64> {
    if requested > current {
        return Err(Error::Future { requested, current });
    }
    if requested == 0 {
        return Ok(current);
    }
    if requested < compacted {
        return Err(Error::Compacted { requested, compacted });
    }
    // On a store that was never compacted -1 passes for readable, and like all negative numbers means the current one.
    Ok(if requested < 0 { current } else { requested })
}

impl ReadTxn {
    /// The newest revision of this image.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.current
    }

    /// The revision of the last accepted compaction; -1 if there was none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// The encoded `KeyValue` of `key` at `revision` (0 or less: the current one).
    ///
    /// # Errors
    /// [`Error::Future`], [`Error::Compacted`], or the file's.
    pub fn get(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>> {
        let main = readable(revision, self.current, self.compacted)?;
        let Some(at) = self.index.get(key, main) else {
            return Ok(None);
        };
        Ok(Some(match self.rows.reader()?.row_of(RowKey::put(at))? {
            RowBytes::Mapped(bytes) => Bytes::copy_from_slice(bytes),
            RowBytes::Buffered(bytes) => bytes,
        }))
    }

    /// The pairs of a range.
    ///
    /// # Errors
    /// [`Error::Future`], [`Error::Compacted`], or the file's.
    pub fn range(&self, range: KeyRange<'_>, options: &RangeOptions) -> Result<RangeResult> {
        let main = readable(options.revision, self.current, self.compacted)?;
        range::read(&self.index, &self.rows.reader()?, range, main, self.current, options)
    }

    /// Number of keys of a range at `revision` (0 or less: the current one): O(log n) at the current revision, a
    /// little more at a recent one.
    ///
    /// # Errors
    /// [`Error::Future`] or [`Error::Compacted`].
    pub fn count(&self, range: KeyRange<'_>, revision: i64) -> Result<u64> {
        let options = RangeOptions { revision, count_only: true, ..RangeOptions::default() };
        Ok(self.range(range, &options)?.count)
    }

    /// The revision that a range inside a transaction reads at: there, 0 alone means the current revision.
    ///
    /// # Errors
    /// [`Error::Future`] or [`Error::Compacted`].
    pub fn check_revision_in_txn(&self, revision: i64) -> Result<i64> {
        readable_in_txn(revision, self.current, self.compacted)
    }

    /// Create revision, last revision and version of `key` now.
    #[must_use]
    pub fn meta(&self, key: &[u8]) -> Option<crate::KeyMeta> {
        self.index.meta(key, self.current)
    }

    /// The hash of all keys at `revision` (0: the current one), computed from the rows. See
    /// [`Store::hash_kv`](crate::Store::hash_kv) for the answer that members give each other.
    ///
    /// # Errors
    /// [`Error::Future`], [`Error::Compacted`], or the file's.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash> {
        let (current, compacted) = (self.current, self.compacted);
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        if revision > 0 && revision < compacted {
            return Err(Error::Compacted { requested: revision, compacted });
        }
        let main = if revision == 0 { current } else { revision };
        let (mut kept, any) = Kept::for_hash(&self.index, main, compacted);
        let mut hasher = KvHasher::new(main, compacted);
        self.rows.scan(0, main, |key, value| {
            hasher.row(key, &value, || !any || kept.contains(key.revision));
            ControlFlow::Continue(())
        })?;
        Ok(hasher.finish())
    }

    /// CRC-32C over all bucket names, keys and values of the file, but for the records in which members may differ.
    /// It sees the file alone: [commit](crate::Store::commit) first.
    ///
    /// # Errors
    /// The file's.
    pub fn hash_file(&self) -> Result<u32> {
        self.hash_buckets(|bucket, key| bucket != Table::Meta.name().as_bytes() || !meta_is_outside_hash(key))
    }

    /// As [`hash_file`](Self::hash_file) with nothing left out: the hash that tools show for a snapshot.
    ///
    /// # Errors
    /// The file's.
    pub fn hash_snapshot(&self) -> Result<u32> {
        self.hash_buckets(|_, _| true)
    }

    /// Streams a copy of the file: a snapshot for another member, or a backup. It has what was committed when this image
    /// was taken, so [commit](crate::Store::commit) first. Writers go on; returns the copy's length.
    ///
    /// # Errors
    /// From reading the file, or from `out`.
    pub fn write_file_to(&self, out: &mut dyn std::io::Write) -> Result<u64> {
        Ok(self.rows.image.write_to(out)?)
    }

    /// The records of the file alone, as [`write_file_to`](Self::write_file_to) copies them.
    #[must_use]
    pub fn file(&self) -> FileRecords<'_> {
        FileRecords { image: &self.rows.image }
    }

    /// Length in bytes of the copy that [`write_file_to`](Self::write_file_to) makes.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.rows.image.size()
    }

    fn hash_buckets(&self, counts: impl Fn(&[u8], &[u8]) -> bool) -> Result<u32> {
        let mut crc = Crc::new();
        for bucket in self.rows.image.buckets()? {
            crc.update(&bucket);
            self.rows.image.scan_bucket(&bucket, b"", |key, value| {
                if counts(&bucket, key) {
                    crc.update(key);
                    crc.update(value);
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(crc.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stanchion_disk::SimDisk;

    use super::*;
    use crate::index::Change;
    use crate::{Put, Store, StoreOptions};

    #[test]
    fn a_row_that_the_index_names_and_the_file_lacks_is_an_error_with_its_revision() {
        let disk = Arc::new(SimDisk::new(1));
        let (store, _) = Store::open(disk, Path::new("db"), &StoreOptions::default()).expect("a new store");
        let mut txn = store.write();
        txn.put(Put::new(b"k", b"v")).expect("a put");
        assert_eq!(txn.end().revision, 2);
        store.commit().expect("a commit");
        let mut view = store.read();
        view.index.apply(b"lost", Change { main: 2, sub: 5, tombstone: false });
        let expected = "the row of revision 2.5 is in the key index but not in the file";
        let error = view.get(b"lost", 0).expect_err("there is no such row");
        assert_eq!(error.to_string(), expected);
        let error = view.range(KeyRange::ALL, &RangeOptions::default()).expect_err("nor in a range");
        assert_eq!(error.to_string(), expected);
    }
}
