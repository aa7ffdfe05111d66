//! Reading a range: limit, filters, order and projection.
//!
//! What lives here: how an answer is put together from the index and stored rows. What may not: where rows come from,
//! and whether the revision may be read.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::index::KeyIndex;
use crate::{Error, KeyMeta, KeyRange, KeyValueRef, RangeEnd, Result, Revision, pb};

/// Protobuf field of an answer's pairs, which frames every row: see [`Rows::framed`].
const KVS_FIELD: u8 = 2;

/// What a range answer is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// Number of puts in the key's life.
    Version,
    /// Revision of the put that began the key's life.
    Create,
    /// Revision of the last put.
    Mod,
    /// The value's bytes.
    Value,
}

/// How a range answer is sorted. Equal values stand in key order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// By rising key; with another target the first `limit` + 1 keys are taken, and only these are sorted, rising.
    #[default]
    None,
    /// Rising, over the whole range.
    Ascend,
    /// Falling, over the whole range.
    Descend,
}

/// What to read of a range, and how. The default reads everything at the current revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeOptions {
    /// Main revision to read at; 0 or less is the current one.
    pub revision: i64,
    /// Most pairs to return; 0 for all.
    pub limit: usize,
    /// Return the count alone.
    pub count_only: bool,
    /// Return keys, revisions and versions without values (and without leases).
    pub keys_only: bool,
    /// What to sort by.
    pub sort_target: SortTarget,
    /// How to sort.
    pub sort_order: SortOrder,
    /// Leave out pairs outside these bounds.
    pub filter: RevisionFilter,
}

/// Inclusive bounds on revisions; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionFilter {
    /// Lowest `mod_revision`.
    pub min_mod: i64,
    /// Highest `mod_revision`.
    pub max_mod: i64,
    /// Lowest `create_revision`.
    pub min_create: i64,
    /// Highest `create_revision`.
    pub max_create: i64,
}

impl RevisionFilter {
    fn is_off(&self) -> bool {
        *self == Self::default()
    }

    fn passes(&self, meta: &KeyMeta) -> bool {
        let (modified, created) = (meta.revision.main, meta.create_revision);
        (self.min_mod == 0 || modified >= self.min_mod)
            && (self.max_mod == 0 || modified <= self.max_mod)
            && (self.min_create == 0 || created >= self.min_create)
            && (self.max_create == 0 || created <= self.max_create)
    }
}

/// The answer to a range.
#[derive(Clone, Debug, Default)]
pub struct RangeResult {
    /// The pairs.
    pub rows: Rows,
    /// Number of keys in the range at the revision read, before filters and limit.
    pub count: u64,
    /// The limit left out pairs.
    pub more: bool,
}

/// Bytes before the first row, so that what goes before the rows of an answer can be put there.
const HEADROOM: usize = 64;

/// Encoded `KeyValue` messages in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// [`HEADROOM`] and the rows; empty without rows.
    buffer: Bytes,
    /// Start and end of each message in the buffer, without its frame.
    spans: Vec<(usize, usize)>,
}

impl Rows {
    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// There are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The `i`th encoded `KeyValue`, sharing the buffer.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<Bytes> {
        let &(start, end) = self.spans.get(i)?;
        Some(self.buffer.slice(start..end))
    }

    /// The encoded `KeyValue`s in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.spans.iter().map(|&(start, end)| &self.buffer[start..end])
    }

    /// All pairs as the elements of the repeated protobuf field 2, which is `kvs` of a `RangeResponse`: a piece of the
    /// encoded answer, ready to be sent.
    #[must_use]
    pub fn framed(&self) -> &[u8] {
        self.buffer.get(HEADROOM..).unwrap_or_default()
    }

    /// `head`, then [`framed`](Self::framed), then `tail`: a whole answer. The rows stay where they are unless somebody
    /// else holds them too.
    #[must_use]
    pub fn framed_between(self, head: &[u8], tail: &[u8]) -> Bytes {
        let start = HEADROOM.checked_sub(head.len());
        match (start, self.buffer.try_into_mut()) {
            (Some(start), Ok(mut whole)) if !whole.is_empty() => {
                whole[start..HEADROOM].copy_from_slice(head);
                whole.extend_from_slice(tail);
                whole.freeze().slice(start..)
            }
            (_, buffer) => {
                let buffer = buffer.map_or_else(|shared| shared, BytesMut::freeze);
                let framed = buffer.get(HEADROOM..).unwrap_or_default();
                [head, framed, tail].concat().into()
            }
        }
    }
}

/// Bytes of a row's frame at most: tag and length.
const FRAME_MAX: usize = 11;
/// Bytes behind the rows for what comes after them in an answer.
const TAILROOM: usize = 32;
/// Bytes that are asked for at once on the word of the first row, at most.
const FORESIGHT_MAX: usize = 4 << 20;

/// Collects rows into one buffer.
#[derive(Debug, Default)]
pub(crate) struct RowsBuilder {
    buffer: BytesMut,
    spans: Vec<(usize, usize)>,
    /// Rows that are likely to come.
    expected: usize,
}

impl RowsBuilder {
    pub(crate) fn expecting(rows: usize) -> Self {
        Self { buffer: BytesMut::new(), spans: Vec::with_capacity(rows.min(1024)), expected: rows }
    }

    /// Makes room for a row. Rows of a range are often of one length, so the first one tells how much all of them take.
    fn make_room(&mut self, len: usize) {
        let needed = len + FRAME_MAX + TAILROOM;
        if self.buffer.is_empty() {
            let all = (len + FRAME_MAX).saturating_mul(self.expected).min(FORESIGHT_MAX);
            self.buffer.reserve(HEADROOM + needed.max(all + TAILROOM));
            self.buffer.put_bytes(0, HEADROOM);
        } else {
            self.buffer.reserve(needed);
        }
    }

    pub(crate) fn push(&mut self, row: &[u8]) {
        self.make_room(row.len());
        pb::put_message(&mut self.buffer, KVS_FIELD, row);
        self.spans.push((self.buffer.len() - row.len(), self.buffer.len()));
    }

    fn push_kv(&mut self, kv: &KeyValueRef<'_>) {
        let len = kv.encoded_len();
        self.make_room(len);
        self.buffer.put_u8(KVS_FIELD << 3 | 2);
        pb::put_varint(&mut self.buffer, len as u64);
        kv.encode_to(&mut self.buffer);
        self.spans.push((self.buffer.len() - len, self.buffer.len()));
    }

    pub(crate) fn finish(self) -> Rows {
        Rows { buffer: self.buffer.freeze(), spans: self.spans }
    }
}

/// A stored row's value: in the file's map, or in the write buffer.
#[derive(Clone, Debug)]
pub(crate) enum RowBytes<'a> {
    Mapped(&'a [u8]),
    Buffered(Bytes),
}

impl std::ops::Deref for RowBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Buffered(bytes) => bytes,
        }
    }
}

/// Where rows come from.
pub(crate) trait RowSource {
    /// The value of the row at `revision`, which the index says is there.
    fn row(&self, revision: Revision) -> Result<RowBytes<'_>>;
}

/// Reads `range` at the main revision `main`, which must be readable.
pub(crate) fn read(
    index: &KeyIndex,
    rows: &impl RowSource,
    range: KeyRange<'_>,
    main: i64,
    current: i64,
    options: &RangeOptions,
) -> Result<RangeResult> {
    let count = || if main == current { index.count_live(range) } else { index.count_at(range, main) };
    if options.count_only {
        return Ok(RangeResult { count: count(), ..RangeResult::default() });
    }
    let in_key_order = options.sort_target == SortTarget::Key;
    if in_key_order && options.filter.is_off() {
        return read_in_key_order(index, rows, range, main, current, options, count);
    }
    let mut found = Found::collect(index, range, main, options);
    let total = if found.complete { found.total } else { count() };
    found.sort(rows, options)?;
    let more = options.limit > 0 && found.entries.len() > options.limit;
    if more {
        found.entries.truncate(options.limit);
    }
    Ok(RangeResult { rows: found.rows(rows, options)?, count: total, more })
}

/// The usual case: nothing to sort or filter, so rows go into the answer as the walk finds them.
fn read_in_key_order(
    index: &KeyIndex,
    rows: &impl RowSource,
    range: KeyRange<'_>,
    main: i64,
    current: i64,
    options: &RangeOptions,
    count: impl Fn() -> u64,
) -> Result<RangeResult> {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let descending = options.sort_order == SortOrder::Descend;
    // Where counting is cheap and there may be many.
    let known = (main == current && range.end != RangeEnd::Single).then(&count);
    let mut out = RowsBuilder::expecting(limit.min(known.map_or(1, |count| count as usize)));
    let (mut failure, mut cut) = (None, false);
    if options.keys_only {
        index.walk_meta(range, main, descending, |key, meta| {
            if out.spans.len() == limit {
                cut = true;
                return ControlFlow::Break(());
            }
            out.push_kv(&projected(key, &meta, 0));
            ControlFlow::Continue(())
        });
    } else {
        index.walk(range, main, descending, |_, revision| {
            if out.spans.len() == limit {
                cut = true;
                return ControlFlow::Break(());
            }
            match rows.row(revision) {
                Ok(row) => {
                    out.push(&row);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let rows = out.finish();
    let count = if cut { known.unwrap_or_else(count) } else { rows.len() as u64 };
    Ok(RangeResult { rows, count, more: cut })
}

/// A pair without its value, as an answer of keys alone has it.
fn projected<'a>(key: &'a [u8], meta: &KeyMeta, lease: i64) -> KeyValueRef<'a> {
    KeyValueRef {
        key,
        create_revision: meta.create_revision,
        mod_revision: meta.revision.main,
        version: meta.version,
        value: b"",
        lease,
    }
}

/// Keys found in a range, to be sorted.
struct Found {
    keys: Vec<u8>,
    entries: Vec<Entry>,
    /// Keys seen before filtering.
    total: u64,
    /// The walk went to the end of the range, so that `total` is its count.
    complete: bool,
}

struct Entry {
    key: (usize, usize),
    meta: KeyMeta,
}

impl Found {
    fn collect(index: &KeyIndex, range: KeyRange<'_>, main: i64, options: &RangeOptions) -> Self {
        // Without order and filters the limit holds before sorting; one more tells whether there is more.
        let pushed_down =
            options.sort_order == SortOrder::None && options.filter.is_off() && options.limit > 0;
        let most = if pushed_down { options.limit + 1 } else { usize::MAX };
        let mut found = Self { keys: Vec::new(), entries: Vec::new(), total: 0, complete: true };
        index.walk_meta(range, main, false, |key, meta| {
            if found.entries.len() == most {
                found.complete = false;
                return ControlFlow::Break(());
            }
            found.total += 1;
            if options.filter.passes(&meta) {
                let start = found.keys.len();
                found.keys.extend_from_slice(key);
                found.entries.push(Entry { key: (start, found.keys.len()), meta });
            }
            ControlFlow::Continue(())
        });
        found
    }

    fn sort(&mut self, rows: &impl RowSource, options: &RangeOptions) -> Result<()> {
        let falling = options.sort_order == SortOrder::Descend;
        let directed = |ordering: Ordering| if falling { ordering.reverse() } else { ordering };
        // The entries stand in key order and the sorts are stable, so equal values stay in key order.
        match options.sort_target {
            SortTarget::Key if falling => self.entries.reverse(),
            SortTarget::Key => {}
            SortTarget::Version => self.entries.sort_by(|a, b| directed(a.meta.version.cmp(&b.meta.version))),
            SortTarget::Create => {
                self.entries.sort_by(|a, b| directed(a.meta.create_revision.cmp(&b.meta.create_revision)));
            }
            SortTarget::Mod => {
                self.entries.sort_by(|a, b| directed(a.meta.revision.main.cmp(&b.meta.revision.main)));
            }
            SortTarget::Value => self.sort_by_value(rows, directed)?,
        }
        Ok(())
    }

    fn sort_by_value(
        &mut self,
        rows: &impl RowSource,
        directed: impl Fn(Ordering) -> Ordering,
    ) -> Result<()> {
        let stored =
            self.entries.iter().map(|entry| rows.row(entry.meta.revision)).collect::<Result<Vec<_>>>()?;
        let mut values = Vec::with_capacity(stored.len());
        for (row, entry) in stored.iter().zip(self.entries.drain(..)) {
            values.push((decode(row, entry.meta.revision)?.value, entry));
        }
        values.sort_by(|a, b| directed(a.0.cmp(b.0)));
        self.entries = values.into_iter().map(|(_, entry)| entry).collect();
        Ok(())
    }

    fn rows(&self, rows: &impl RowSource, options: &RangeOptions) -> Result<Rows> {
        let mut out = RowsBuilder::expecting(self.entries.len());
        for entry in &self.entries {
            let (key, revision) = (&self.keys[entry.key.0..entry.key.1], entry.meta.revision);
            if !options.keys_only {
                out.push(&rows.row(revision)?);
            } else if options.sort_target == SortTarget::Value {
                // Sorting has read the rows, and whoever reads the row answers with its lease.
                let lease = decode(&rows.row(revision)?, revision)?.lease;
                out.push_kv(&projected(key, &entry.meta, lease));
            } else {
                out.push_kv(&projected(key, &entry.meta, 0));
            }
        }
        Ok(out.finish())
    }
}

/// Reads a row whose bytes came from the file.
pub(crate) fn decode(row: &[u8], revision: Revision) -> Result<KeyValueRef<'_>> {
    KeyValueRef::decode(row).map_err(|e| Error::row(&crate::RowKey::put(revision).encode(), e))
}
