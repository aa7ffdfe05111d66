//! Building the key index from the file at start.
//!
//! Threads read rows straight from mapped pages, each a part of the history, and note down what the index needs, parted
//! by key; then each thread sorts the notes of a part of the keys and builds its piece of the tree. A part is small
//! enough for a processor's cache, where sorting does not wait for memory. Values are never copied or even looked at. The
//! result does not depend on the number of threads.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::file::Image;
use crate::index::{Change, IndexBuilder};
use crate::schema::Table;
use crate::store::LeaseKey;
use crate::{Error, KeyValueRef, Result, Revision, RowKey, kv};

/// Pieces of work per thread: enough that no thread is left with much more than the others.
const PIECES_PER_THREAD: usize = 4;
/// Rows in a part of the keys, about.
const PART_ROWS: i64 = 16 << 10;
/// Most parts: finding a row's part must stay cheap.
const PARTS_MAX: usize = 256;
/// Rows per part that are looked at to cut the keys into parts of about the same size.
const SAMPLES_PER_PART: usize = 4;

/// Highest revision and version that a file may hold: no store that only counts up ever gets there.
pub(crate) const REVISION_MAX: i64 = 1 << 62;

/// What was found in the file.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) index: IndexBuilder,
    pub(crate) lease_keys: Vec<LeaseKey>,
    /// Main revision of the newest row; 0 if there is none.
    pub(crate) last_main: i64,
}

/// What the index needs of some rows.
#[derive(Debug, Default)]
struct Notes {
    /// The keys of all rows, back to back.
    keys: Vec<u8>,
    rows: Vec<Note>,
}

/// What the index needs of one row.
#[derive(Clone, Copy, Debug)]
struct Note {
    /// Where its key ends in the keys; it starts where the one before ends.
    key_end: usize,
    change: Change,
    create: i64,
    version: i64,
    lease: i64,
}

/// A row to be sorted.
#[derive(Clone, Copy, Debug)]
struct Item<'a> {
    /// Eight bytes of the key.
    prefix: u64,
    key: &'a [u8],
    note: &'a Note,
}

impl Notes {
    fn push(&mut self, change: Change, kv: &KeyValueRef<'_>) {
        self.keys.extend_from_slice(kv.key);
        let KeyValueRef { create_revision, version, lease, .. } = *kv;
        self.rows.push(Note { key_end: self.keys.len(), change, create: create_revision, version, lease });
    }

    fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let mut start = 0;
        self.rows.iter().map(move |note| {
            let key = &self.keys[start..note.key_end];
            start = note.key_end;
            Item { prefix: 0, key, note }
        })
    }
}

/// Reads all rows with `threads` threads; 0 for one per processor.
pub(crate) fn restore(image: &Image, threads: usize) -> Result<Restored> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let Some((first, last_main)) = bounds(image)? else {
        return Ok(Restored::default());
    };
    let pieces = if threads == 1 { 1 } else { threads * PIECES_PER_THREAD };
    let rows = last_main.saturating_sub(first);
    let parts = usize::try_from(rows / PART_ROWS).unwrap_or(PARTS_MAX).clamp(pieces, PARTS_MAX.max(pieces));
    let pivots = pivots(image, first, last_main, parts)?;
    let segments = segments(first, last_main, pieces);
    let read =
        in_parallel(threads, segments.len(), |i| read_segment(image, segments[i], last_main, &pivots))?;
    let read = Mutex::new(read);
    let built = in_parallel(threads, pivots.len() + 1, |part| {
        let mine: Vec<_> = read.lock().iter_mut().map(|segment| std::mem::take(&mut segment[part])).collect();
        build_part(&mine)
    })?;
    let mut restored = Restored { last_main, ..Restored::default() };
    for (index, lease_keys) in built {
        restored.index.append(index);
        restored.lease_keys.extend(lease_keys);
    }
    Ok(restored)
}

/// Runs `task` for 0 to `tasks` on `threads` threads; the results in order, or the error of the first that failed.
fn in_parallel<T: Send>(
    threads: usize,
    tasks: usize,
    task: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let results: Vec<Mutex<Option<Result<T>>>> = (0..tasks).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= tasks {
                return;
            }
            *results[i].lock() = Some(task(i));
        }
    };
    if threads <= 1 || tasks <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads.min(tasks) {
                scope.spawn(work);
            }
        });
    }
    results.into_iter().map(|result| result.into_inner().expect("every task was run")).collect()
}

fn row_key(key: &[u8]) -> Result<RowKey> {
    RowKey::decode(key).ok_or_else(|| Error::record(Table::Key.name(), key, "the key is not a revision"))
}

/// Main revisions of the first and the last row.
fn bounds(image: &Image) -> Result<Option<(i64, i64)>> {
    let first = image.first_from(Table::Key, &RowKey::put(Revision::new(1, 0)).encode())?;
    let last = image.last(Table::Key)?;
    match (first, last) {
        (Some((first, _)), Some((last, _))) => {
            Ok(Some((row_key(first)?.revision.main, row_key(last)?.revision.main)))
        }
        _ => Ok(None),
    }
}

/// Intervals of main revisions, first included, last excluded.
fn segments(first: i64, last: i64, parts: usize) -> Vec<(i64, i64)> {
    let (span, parts) = (i128::from(last) - i128::from(first) + 1, parts as i128);
    let at = |i: i128| (i128::from(first) + span * i / parts) as i64;
    (0..parts)
        .map(|i| (at(i), if i + 1 == parts { i64::MAX } else { at(i + 1) }))
        .filter(|(a, b)| a < b)
        .collect()
}

/// Keys that cut the rows into `parts` parts of about the same number of rows.
fn pivots(image: &Image, first: i64, last: i64, parts: usize) -> Result<Vec<Vec<u8>>> {
    if parts == 1 {
        return Ok(Vec::new());
    }
    let mut samples = Vec::new();
    for (from, _) in segments(first, last, parts * SAMPLES_PER_PART) {
        if let Some((key, row)) =
            image.first_from(Table::Key, &RowKey::put(Revision::new(from, 0)).encode())?
        {
            samples.push(kv::user_key(row).map_err(|e| Error::row(key, e))?);
        }
    }
    samples.sort_unstable();
    let mut pivots: Vec<_> = (1..parts).map(|i| samples[samples.len() * i / parts].to_vec()).collect();
    // A key is in one part, however often it was sampled.
    pivots.dedup();
    Ok(pivots)
}

/// Reads rows and notes them down in the parts between the pivots, where they stay in the order of revisions.
///
/// Everything that follows relies on rows that rise up to `last`, so rows that do not are refused.
fn read_segment(image: &Image, (from, to): (i64, i64), last: i64, pivots: &[Vec<u8>]) -> Result<Vec<Notes>> {
    let mut parts: Vec<Notes> = (0..=pivots.len()).map(|_| Notes::default()).collect();
    let mut result = Ok(());
    let mut before = Revision::new(from, -1);
    image.scan(Table::Key, &RowKey::put(Revision::new(from, 0)).encode(), |key, row| {
        let noted = row_key(key).and_then(|RowKey { revision, tombstone }| {
            if revision.main >= to {
                return Ok(ControlFlow::Break(()));
            }
            if revision <= before || revision.main > last {
                let what = format!("it stands between {before} and the last revision {last}");
                return Err(Error::record(Table::Key.name(), key, what));
            }
            before = revision;
            let kv = row_value(key, row)?;
            let part = pivots.partition_point(|pivot| &pivot[..] <= kv.key);
            parts[part].push(Change { main: revision.main, sub: sub(key, revision)?, tombstone }, &kv);
            Ok(ControlFlow::Continue(()))
        });
        noted.unwrap_or_else(|error| {
            result = Err(error);
            ControlFlow::Break(())
        })
    })?;
    result.map(|()| parts)
}

fn sub(key: &[u8], revision: Revision) -> Result<u32> {
    u32::try_from(revision.sub).map_err(|_| {
        Error::record(Table::Key.name(), key, format!("sub revision {} is too large", revision.sub))
    })
}

/// A row's pair, with numbers that can be counted on from without overflow.
fn row_value<'a>(key: &[u8], row: &'a [u8]) -> Result<KeyValueRef<'a>> {
    let kv = KeyValueRef::decode(row).map_err(|e| Error::row(key, e))?;
    let KeyValueRef { create_revision, version, .. } = kv;
    if [create_revision, version].iter().all(|number| (0..=REVISION_MAX).contains(number)) {
        return Ok(kv);
    }
    let what = format!("create revision {create_revision} or version {version} is out of range");
    Err(Error::record(Table::Key.name(), key, what))
}

/// Builds the piece of the index for one part of the keys from the notes of all segments.
fn build_part(notes: &[Notes]) -> Result<(IndexBuilder, Vec<LeaseKey>)> {
    let mut items = Vec::with_capacity(notes.iter().map(|notes| notes.rows.len()).sum());
    notes.iter().for_each(|notes| items.extend(notes.items()));
    sort(&mut items, 0);
    let (mut index, mut lease_keys, mut changes) = (IndexBuilder::default(), Vec::new(), Vec::new());
    for rows in items.chunk_by(|a, b| a.key == b.key) {
        changes.clear();
        for Item { note: Note { change, .. }, .. } in rows {
            // A key that is dead cannot die: later tombstones say nothing.
            if !(change.tombstone && changes.last().is_some_and(|before: &Change| before.tombstone)) {
                changes.push(*change);
            }
        }
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        index.push(first.key, first.note.create, first.note.version, &changes);
        if !last.note.change.tombstone && last.note.lease != 0 {
            lease_keys.push(LeaseKey { lease: last.note.lease, key: Bytes::copy_from_slice(last.key) });
        }
    }
    Ok((index, lease_keys))
}

/// Slices below this length are sorted by comparing keys.
const SMALL: usize = 24;

/// Sorts rows by key from the byte `depth` on (they agree before it), then by revision.
///
/// Eight bytes of each key at a time are copied beside the row and compared as one number: comparing keys in place would
/// wait for memory at each comparison.
fn sort(items: &mut [Item<'_>], depth: usize) {
    if items.len() < SMALL || items.iter().all(|item| item.key.len() <= depth) {
        return sort_small(items, depth);
    }
    for item in items.iter_mut() {
        item.prefix = prefix(&item.key[depth.min(item.key.len())..]);
    }
    items.sort_unstable_by_key(|item| item.prefix);
    for same in items.chunk_by_mut(|a, b| a.prefix == b.prefix) {
        // Where a key ends inside these eight bytes its padding looks like zeros of another.
        if same.len() > 1 && same.iter().any(|item| item.key.len() < depth + 8) {
            sort_small(same, depth);
        } else if same.len() > 1 {
            sort(same, depth + 8);
        }
    }
}

fn sort_small(items: &mut [Item<'_>], depth: usize) {
    let rest = |key: &'_ [u8]| -> usize { depth.min(key.len()) };
    items.sort_unstable_by(|a, b| {
        let keys = a.key[rest(a.key)..].cmp(&b.key[rest(b.key)..]);
        let at = |item: &Item<'_>| (item.note.change.main, item.note.change.sub);
        keys.then_with(|| at(a).cmp(&at(b)))
    });
}

fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_sorted_by_key_and_revision(
            keys in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..20), 0..300),
        ) {
            let mut notes = Notes::default();
            for (main, key) in keys.iter().enumerate() {
                let change = Change { main: main as i64, sub: 0, tombstone: false };
                notes.push(change, &KeyValueRef { key, ..KeyValueRef::default() });
            }
            let mut items: Vec<_> = notes.items().collect();
            sort(&mut items, 0);
            let mut expected: Vec<_> = keys.iter().enumerate().map(|(main, key)| (&key[..], main as i64)).collect();
            expected.sort_unstable();
            prop_assert_eq!(items.iter().map(|item| (item.key, item.note.change.main)).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn segments_cover_every_revision_once(first in 1i64..50, len in 0i64..100, parts in 1usize..9) {
            let segments = segments(first, first + len, parts);
            prop_assert_eq!(segments[0].0, first);
            prop_assert_eq!(segments[segments.len() - 1].1, i64::MAX);
            prop_assert!(segments.windows(2).all(|pair| pair[0].1 == pair[1].0));
        }
    }
}
