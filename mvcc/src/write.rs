//! Write transactions: several operations under one main revision, visible all at once or not at all.

use bytes::Bytes;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use crate::buffer::{Records, Row};
use crate::index::{Change, KeyIndex};
use crate::range::{self, RowBytes, RowSource, RowsBuilder};
use crate::read::{ReadTxn, readable_in_txn};
use crate::schema::{self, Applied, ReadRecords, Table, WriteRecords};
use crate::store::{Store, Writer};
use crate::{
    Error, KeyMeta, KeyRange, KeyValueRef, RangeOptions, RangeResult, Result, Revision, RowKey, Rows, pb,
};

/// Most bytes of key and value together, well below what a row of the file takes.
pub const ROW_MAX: usize = 1 << 30;
/// A transaction with more changes works on a copy of the index instead of a list of changes.
const PENDING_MAX: usize = 64;

/// A put.
#[derive(Clone, Copy, Debug, Default)]
pub struct Put<'a> {
    /// The key; not empty.
    pub key: &'a [u8],
    /// The value; `None` keeps the present one.
    pub value: Option<&'a [u8]>,
    /// The lease to attach the key to, 0 for none; `None` keeps the present one.
    pub lease: Option<i64>,
    /// Return the pair as it was before.
    pub prev_kv: bool,
}

impl<'a> Put<'a> {
    /// A put of `value` without a lease.
    #[must_use]
    pub fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { key, value: Some(value), lease: Some(0), prev_kv: false }
    }
}

/// What a delete removed.
#[derive(Clone, Debug, Default)]
pub struct Deleted {
    /// Number of keys.
    pub count: u64,
    /// The pairs as they were before, in key order, if they were asked for.
    pub prev_kvs: Rows,
}

/// One change, as watchers are told and as leases need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub revision: Revision,
    /// It is a delete.
    pub delete: bool,
    /// The key, sharing the bytes of `kv`.
    pub key: Bytes,
    /// The encoded `KeyValue`: for a put the stored bytes, for a delete the key and its `mod_revision`.
    pub kv: Bytes,
    /// The put began the key's life.
    pub created: bool,
    /// Lease that the key is attached to from now on; 0 for none, and for a delete.
    pub lease: i64,
}

impl Event {
    /// The stored row. A tombstone's has the key alone, which is how its event begins.
    fn row(&self) -> Row {
        let value = if self.delete { self.kv.slice(..pb::bytes_len(&self.key)) } else { self.kv.clone() };
        Row { key: RowKey { revision: self.revision, tombstone: self.delete }, value }
    }
}

/// What a write transaction did.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The store's revision after it.
    pub revision: i64,
    /// Its changes in order; empty if it made none, and then it used no revision.
    pub events: Vec<Event>,
}

/// A write transaction.
///
/// It excludes other writers, sees its own changes, and shows nothing to readers before [`end`](Self::end). Dropping
/// it instead takes everything back, so an operation that fails in the middle leaves the store as it was.
#[derive(Debug)]
pub struct WriteTxn<'s> {
    store: &'s Store,
    writer: MutexGuard<'s, Writer>,
    /// The store's revision before.
    base: i64,
    compacted: i64,
    /// An image from before, taken when something has to be read.
    view: Option<ReadTxn>,
    changes: Changes,
    /// What was changed; an event's place is its sub revision, and its bytes begin with the stored row.
    events: Vec<Event>,
    records: Records,
    applied: Option<Applied>,
    compaction: Option<i64>,
}

/// The transaction's changes to the index.
///
/// A short transaction keeps a list that `end` applies to the shared index, in place; copying a path of the tree costs
/// more than such a transaction itself. A long one, or one that reads a range after a change, has an index of its own.
#[derive(Debug)]
enum Changes {
    Few(SmallVec<[Pending; 1]>),
    Many(KeyIndex),
}

#[derive(Debug)]
struct Pending {
    key: Bytes,
    change: Change,
    /// The key's state after the change; `None` after a tombstone.
    meta: Option<KeyMeta>,
}

impl<'s> WriteTxn<'s> {
    pub(crate) fn new(store: &'s Store, writer: MutexGuard<'s, Writer>) -> Self {
        let (base, compacted) = {
            let published = store.published.read();
            (published.current, published.compacted)
        };
        Self {
            store,
            writer,
            base,
            compacted,
            view: None,
            changes: Changes::Few(SmallVec::new()),
            events: Vec::new(),
            records: Records::new(),
            applied: None,
            compaction: None,
        }
    }

    /// The revision that the transaction sees: the one before it, plus 1 once it has changed something.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.base + i64::from(!self.events.is_empty())
    }

    /// Puts a pair; returns the encoded pair from before if it was asked for and there was one.
    ///
    /// # Errors
    /// [`Error::EmptyKey`], [`Error::TooLarge`]; [`Error::KeyNotFound`] when value or lease are to be kept and the key
    /// does not exist. The transaction is as before the call and may go on.
    pub fn put(&mut self, put: Put<'_>) -> Result<Option<Bytes>> {
        if put.key.is_empty() {
            return Err(Error::EmptyKey);
        }
        let before = self.meta(put.key);
        let reads = put.prev_kv || put.value.is_none() || put.lease.is_none();
        let prev = match before {
            Some(meta) if reads => Some(self.stored(meta.revision)?),
            _ => None,
        };
        let kept = match &prev {
            Some(row) => Some(range::decode(row, before.expect("a row has a key").revision)?),
            None if put.value.is_none() || put.lease.is_none() => {
                return Err(Error::KeyNotFound { key: Bytes::copy_from_slice(put.key) });
            }
            None => None,
        };
        let value = put.value.unwrap_or_else(|| kept.expect("checked above").value);
        let lease = put.lease.unwrap_or_else(|| kept.expect("checked above").lease);
        let len = put.key.len() + value.len();
        if len > ROW_MAX {
            return Err(Error::TooLarge { len, max: ROW_MAX });
        }
        let change = self.next_change(false)?;
        let kv = KeyValueRef {
            key: put.key,
            create_revision: before.map_or(change.main, |meta| meta.create_revision),
            mod_revision: change.main,
            version: before.map_or(1, |meta| meta.version + 1),
            value,
            lease,
        };
        let meta =
            KeyMeta { create_revision: kv.create_revision, revision: change.revision(), version: kv.version };
        let stored = self.writer.rows.encode(&kv);
        let key = key_of(&stored, put.key.len());
        self.record_change(&key, change, Some(meta));
        self.reserve_event();
        self.events.push(Event {
            revision: change.revision(),
            delete: false,
            key,
            kv: stored,
            created: before.is_none(),
            lease,
        });
        Ok(if put.prev_kv { prev } else { None })
    }

    /// Deletes all keys of `range`, in key order, each with a sub revision of its own.
    ///
    /// # Errors
    /// [`Error::EmptyKey`], [`Error::TooManyChanges`], or the file's; after the latter two the transaction must be
    /// dropped.
    pub fn delete_range(&mut self, range: KeyRange<'_>, prev_kv: bool) -> Result<Deleted> {
        if range.start.is_empty() {
            return Err(Error::EmptyKey);
        }
        let keys = self.live_keys(range);
        let mut prev_kvs = RowsBuilder::expecting(if prev_kv { keys.len() } else { 0 });
        for (key, at) in &keys {
            if prev_kv {
                prev_kvs.push(&self.stored(*at)?);
            }
            self.delete(key)?;
        }
        Ok(Deleted { count: keys.len() as u64, prev_kvs: prev_kvs.finish() })
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let change = self.next_change(true)?;
        let event = KeyValueRef { key, mod_revision: change.main, ..KeyValueRef::default() };
        let kv = self.writer.rows.encode(&event);
        let key = key_of(&kv, key.len());
        self.record_change(&key, change, None);
        self.reserve_event();
        self.events.push(Event {
            revision: change.revision(),
            delete: true,
            key,
            kv,
            created: false,
            lease: 0,
        });
        Ok(())
    }

    /// Reads a range, own changes included. A revision of 0 is what the transaction sees; others may be in the past.
    ///
    /// # Errors
    /// [`Error::Future`], [`Error::Compacted`], or the file's.
    pub fn range(&mut self, range: KeyRange<'_>, options: &RangeOptions) -> Result<RangeResult> {
        let current = self.revision();
        let main = readable_in_txn(options.revision, current, self.compacted)?;
        self.materialize();
        self.view();
        let index = match &self.changes {
            Changes::Many(index) => index,
            Changes::Few(_) => &self.view.as_ref().expect("taken above").index,
        };
        range::read(index, self, range, main, current, options)
    }

    /// The present state of a key; `None` if it does not exist.
    #[must_use]
    pub fn meta(&self, key: &[u8]) -> Option<KeyMeta> {
        match &self.changes {
            Changes::Many(index) => index.meta(key, i64::MAX),
            Changes::Few(pending) => match pending.iter().rev().find(|pending| pending.key == key) {
                Some(pending) => pending.meta,
                None => match &self.view {
                    Some(view) => view.index.meta(key, i64::MAX),
                    None => self.store.published.read().index.meta(key, i64::MAX),
                },
            },
        }
    }

    /// The encoded `KeyValue` of a key now, own changes included.
    ///
    /// # Errors
    /// The file's.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        self.meta(key).map(|meta| self.stored(meta.revision)).transpose()
    }

    /// Says which raft entry this transaction applies. Its index and term reach the file in the very commit that
    /// takes the transaction's effects there.
    pub fn set_applied(&mut self, applied: Applied) {
        self.applied = Some(applied);
    }

    /// Accepts a compaction at `revision`. From [`end`](Self::end) on, older revisions cannot be read; their rows are
    /// removed by [`Store::compaction_step`].
    ///
    /// # Errors
    /// [`Error::Compacted`] at or below the last compaction, [`Error::Future`].
    pub fn compact(&mut self, revision: i64) -> Result<()> {
        self.store.check_compaction(revision)?;
        schema::put_scheduled_compaction(self, revision);
        self.compaction = Some(revision);
        Ok(())
    }

    /// Makes everything visible at once and returns what watchers and leases must be told.
    #[must_use = "watchers and leases must be told"]
    pub fn end(mut self) -> Written {
        let revision = self.revision();
        // Whoever still shares the index makes the writer copy: our own image must not.
        self.view = None;
        self.writer.pending += self.events.len() + self.records.len();
        if let Some(applied) = self.applied {
            self.writer.applied = applied;
        }
        let records = std::mem::take(&mut self.records);
        let events = std::mem::take(&mut self.events);
        if events.is_empty() && records.is_empty() {
            return Written { revision, events };
        }
        // Readers look for rows of revisions they know only, so these can come first, outside the lock. The active
        // buffer cannot be frozen meanwhile: that takes the writer's lock.
        let active = self.store.published.read().rows.active.clone();
        active.push_rows(events.iter().map(Event::row));
        let changes = std::mem::replace(&mut self.changes, Changes::Few(SmallVec::new()));
        let mut published = self.store.published.write();
        active.push_records(records);
        let replaced = match changes {
            Changes::Many(index) => Some(std::mem::replace(&mut published.index, index)),
            Changes::Few(pending) => {
                for Pending { key, change, .. } in &pending {
                    published.index.apply(key, *change);
                }
                None
            }
        };
        published.current = revision;
        if let Some(compacted) = self.compaction {
            published.compacted = compacted;
        }
        drop(published);
        drop(replaced);
        if let Some(compacted) = self.compaction {
            self.store.queue_compaction(compacted);
        }
        Written { revision, events }
    }

    fn next_change(&self, tombstone: bool) -> Result<Change> {
        let sub = u32::try_from(self.events.len()).map_err(|_| Error::TooManyChanges { max: u32::MAX })?;
        Ok(Change { main: self.base + 1, sub, tombstone })
    }

    /// Makes room for exactly one event first: most transactions have one, and a list grows to four otherwise.
    fn reserve_event(&mut self) {
        if self.events.is_empty() {
            self.events.reserve_exact(1);
        }
    }

    fn record_change(&mut self, key: &Bytes, change: Change, meta: Option<KeyMeta>) {
        match &mut self.changes {
            Changes::Many(index) => index.apply(key, change),
            Changes::Few(pending) => {
                pending.push(Pending { key: key.clone(), change, meta });
                if pending.len() > PENDING_MAX {
                    self.materialize();
                }
            }
        }
    }

    /// Gives the transaction an index of its own if it has changed anything.
    fn materialize(&mut self) {
        if let Changes::Few(pending) = &mut self.changes
            && !pending.is_empty()
        {
            let pending = std::mem::take(pending);
            let mut index = self.view().index.clone();
            for Pending { key, change, .. } in &pending {
                index.apply(key, *change);
            }
            self.changes = Changes::Many(index);
        }
    }

    fn view(&mut self) -> &ReadTxn {
        self.view.get_or_insert_with(|| self.store.read())
    }

    fn live_keys(&mut self, range: KeyRange<'_>) -> Vec<(Vec<u8>, Revision)> {
        if range.end == crate::RangeEnd::Single {
            return self
                .meta(range.start)
                .map(|meta| (range.start.to_vec(), meta.revision))
                .into_iter()
                .collect();
        }
        self.materialize();
        self.view();
        let index = match &self.changes {
            Changes::Many(index) => index,
            Changes::Few(_) => &self.view.as_ref().expect("taken above").index,
        };
        let mut keys = Vec::new();
        index.walk(range, i64::MAX, false, |key, at| {
            keys.push((key.to_vec(), at));
            std::ops::ControlFlow::Continue(())
        });
        keys
    }

    /// The stored bytes of a row, own rows included.
    fn stored(&mut self, revision: Revision) -> Result<Bytes> {
        self.view();
        Ok(match self.row(revision)? {
            RowBytes::Mapped(bytes) => Bytes::copy_from_slice(bytes),
            RowBytes::Buffered(bytes) => bytes,
        })
    }
}

/// The key inside an encoded `KeyValue` that begins with it.
fn key_of(kv: &Bytes, key_len: usize) -> Bytes {
    let start = 1 + pb::varint_len(key_len as u64);
    kv.slice(start..start + key_len)
}

impl RowSource for WriteTxn<'_> {
    fn row(&self, revision: Revision) -> Result<RowBytes<'_>> {
        if revision.main > self.base {
            let own = usize::try_from(revision.sub).ok().and_then(|sub| self.events.get(sub));
            let own = own.ok_or(Error::MissingRow { revision })?;
            return Ok(RowBytes::Buffered(own.row().value));
        }
        let view = self.view.as_ref().expect("whoever reads rows takes an image first");
        view.rows.reader()?.row_of(RowKey::put(revision))
    }
}

impl ReadRecords for WriteTxn<'_> {
    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        match self.records.get(&(table, Bytes::copy_from_slice(key))) {
            Some(own) => Ok(own.clone()),
            None => {
                let rows = self.store.published.read().rows.clone();
                rows.record(table, key)
            }
        }
    }

    fn records(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>> {
        let rows = self.store.published.read().rows.clone();
        let mut all: std::collections::BTreeMap<_, _> = rows.records(table)?.into_iter().collect();
        for ((_, key), value) in self.records.iter().filter(|((of, _), _)| *of == table) {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        Ok(all.into_iter().collect())
    }
}

impl WriteRecords for WriteTxn<'_> {
    fn put_record(&mut self, table: Table, key: &[u8], value: Bytes) {
        self.records.insert((table, Bytes::copy_from_slice(key)), Some(value));
    }

    fn delete_record(&mut self, table: Table, key: &[u8]) {
        self.records.insert((table, Bytes::copy_from_slice(key)), None);
    }
}
