//! Building the key index from the file at start.
//!
//! Threads read rows straight from mapped pages, each a part of the history, and hand them on by key; then each thread
//! sorts the rows of a part of the keys and builds its piece of the tree. Values are never copied. The result does not
//! depend on the number of threads.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::file::Image;
use crate::index::{Change, IndexBuilder};
use crate::range::decode;
use crate::schema::Table;
use crate::store::LeaseKey;
use crate::{Error, Result, Revision, RowKey, kv};

/// Parts per thread: enough that no thread is left with much more than the others.
const PARTS_PER_THREAD: usize = 4;
/// Rows that are looked at to cut the keys into parts of about the same size.
const SAMPLES: i64 = 512;

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

/// A row in the file.
#[derive(Clone, Copy, Debug)]
struct Item<'a> {
    /// Eight bytes of the key, for sorting.
    prefix: u64,
    key: &'a [u8],
    row: &'a [u8],
    change: Change,
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
    let parts = if threads == 1 { 1 } else { threads * PARTS_PER_THREAD };
    let pivots = pivots(image, first, last_main, parts)?;
    let segments = segments(first, last_main, parts);
    let read =
        in_parallel(threads, segments.len(), |i| read_segment(image, segments[i], last_main, &pivots))?;
    let read = Mutex::new(read);
    let built = in_parallel(threads, pivots.len() + 1, |part| {
        let mut items = Vec::new();
        let mine: Vec<_> = read.lock().iter_mut().map(|segment| std::mem::take(&mut segment[part])).collect();
        mine.into_iter().for_each(|some| items.extend(some));
        build_part(items)
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
    for (from, _) in segments(first, last, SAMPLES as usize) {
        if let Some((key, row)) =
            image.first_from(Table::Key, &RowKey::put(Revision::new(from, 0)).encode())?
        {
            samples.push(kv::user_key(row).map_err(|e| Error::row(key, e))?);
        }
    }
    samples.sort_unstable();
    let mut pivots: Vec<_> = (1..parts).map(|i| samples[samples.len() * i / parts].to_vec()).collect();
    pivots.dedup();
    Ok(pivots)
}

/// Reads rows and sorts them into the parts between the pivots; within a part they stay in the order of revisions.
///
/// Everything that follows relies on rows that rise up to `last`, so rows that do not are refused.
fn read_segment<'a>(
    image: &'a Image,
    (from, to): (i64, i64),
    last: i64,
    pivots: &[Vec<u8>],
) -> Result<Vec<Vec<Item<'a>>>> {
    let mut parts: Vec<Vec<Item<'a>>> = (0..=pivots.len()).map(|_| Vec::new()).collect();
    let mut failure = None;
    let mut before = Revision::new(from, -1);
    image.scan(Table::Key, &RowKey::put(Revision::new(from, 0)).encode(), |key, row| {
        match item(key, row) {
            Ok(item) if item.change.main >= to => return ControlFlow::Break(()),
            Ok(item) => {
                let revision = item.change.revision();
                if revision <= before || revision.main > last {
                    let what = format!("it stands between {before} and the last revision {last}");
                    failure = Some(Error::record(Table::Key.name(), key, what));
                    return ControlFlow::Break(());
                }
                before = revision;
                parts[pivots.partition_point(|pivot| &pivot[..] <= item.key)].push(item);
            }
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    match failure {
        Some(failure) => Err(failure),
        None => Ok(parts),
    }
}

fn item<'a>(key: &[u8], row: &'a [u8]) -> Result<Item<'a>> {
    let RowKey { revision, tombstone } = row_key(key)?;
    let sub = u32::try_from(revision.sub).map_err(|_| {
        Error::record(Table::Key.name(), key, format!("sub revision {} is too large", revision.sub))
    })?;
    let user_key = kv::user_key(row).map_err(|e| Error::row(key, e))?;
    Ok(Item { prefix: 0, key: user_key, row, change: Change { main: revision.main, sub, tombstone } })
}

fn build_part(mut items: Vec<Item<'_>>) -> Result<(IndexBuilder, Vec<LeaseKey>)> {
    sort(&mut items, 0);
    let (mut index, mut lease_keys, mut changes) = (IndexBuilder::default(), Vec::new(), Vec::new());
    for rows in items.chunk_by(|a, b| a.key == b.key) {
        changes.clear();
        for item in rows {
            if let Some(&Change { main, sub, tombstone }) = changes.last() {
                if (main, sub) >= (item.change.main, item.change.sub) {
                    let key = item.change.row_key().encode();
                    return Err(Error::record(Table::Key.name(), &key, "two rows have this revision"));
                }
                if tombstone && item.change.tombstone {
                    continue;
                }
            }
            changes.push(item.change);
        }
        let (first, last) = (&rows[0], &rows[rows.len() - 1]);
        let born = decode(first.row, first.change.revision())?;
        // Counting on from here must not overflow, whatever the file says.
        for number in [born.create_revision, born.version] {
            if !(0..=REVISION_MAX).contains(&number) {
                let what = format!("create revision {} or version {}", born.create_revision, born.version);
                return Err(Error::record(
                    Table::Key.name(),
                    &first.change.row_key().encode(),
                    what + " is out of range",
                ));
            }
        }
        index.push(first.key, born.create_revision, born.version, &changes);
        let newest = if rows.len() == 1 { born } else { decode(last.row, last.change.revision())? };
        if !last.change.tombstone && newest.lease != 0 {
            lease_keys.push(LeaseKey { lease: newest.lease, key: Bytes::copy_from_slice(last.key) });
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
        keys.then_with(|| (a.change.main, a.change.sub).cmp(&(b.change.main, b.change.sub)))
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
            let change = |main| Change { main: main as i64, sub: 0, tombstone: false };
            let mut items: Vec<_> = keys
                .iter()
                .enumerate()
                .map(|(main, key)| Item { prefix: 0, key, row: b"", change: change(main) })
                .collect();
            sort(&mut items, 0);
            let mut expected: Vec<_> = keys.iter().enumerate().map(|(main, key)| (&key[..], main as i64)).collect();
            expected.sort_unstable();
            prop_assert_eq!(items.iter().map(|item| (item.key, item.change.main)).collect::<Vec<_>>(), expected);
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
