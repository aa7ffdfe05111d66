//! The directory of a log: which segments there are, whether they are complete, which may be removed.

use std::path::Path;
use std::sync::Arc;

use stanchion_disk::{Disk, File, LockKind, OpenOptions};

use crate::error::{Error, Result};
use crate::name::SegmentName;

/// The segments in a directory, in order. Other files are passed over.
///
/// # Errors
/// [`Error::NotALog`] when there is none, [`Error::MissingSegments`] when the sequence has a hole.
pub(crate) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentName>> {
    let names = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let mut segments: Vec<SegmentName> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.sort_unstable();
    if segments.is_empty() {
        return Err(Error::NotALog { dir: dir.to_owned() });
    }
    Ok(segments)
}

/// Fails unless the sequence numbers go up by one from segment to segment.
pub(crate) fn check_sequence(dir: &Path, segments: &[SegmentName]) -> Result<()> {
    for pair in segments.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if before.seq == after.seq {
            return Err(Error::DoubledSegment { dir: dir.to_owned(), seq: after.seq });
        }
        if before.seq + 1 != after.seq {
            return Err(Error::MissingSegments {
                dir: dir.to_owned(),
                first_seq: before.seq + 1,
                last_seq: after.seq - 1,
                found: after.to_string(),
            });
        }
    }
    Ok(())
}

/// The segments from the one that holds `index` on.
pub(crate) fn segments_from(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Vec<SegmentName>> {
    let mut segments = segments(disk, dir)?;
    let first = segments.iter().rposition(|name| name.index <= index).ok_or_else(|| {
        Error::SnapshotNotCovered { dir: dir.to_owned(), index, oldest: segments[0].to_string() }
    })?;
    segments.drain(..first);
    check_sequence(dir, &segments)?;
    Ok(segments)
}

/// Opens a file for writing and takes the lock by which etcd, too, claims a segment.
pub(crate) fn open_locked(disk: &dyn Disk, path: &Path, options: OpenOptions) -> Result<Arc<dyn File>> {
    let file = disk.open(path, options).map_err(|e| Error::io("open", path, e))?;
    match file.try_lock(LockKind::OfdExclusive) {
        Ok(true) => Ok(file),
        Ok(false) => Err(Error::Locked { path: path.to_owned() }),
        Err(e) => Err(Error::io("lock", path, e)),
    }
}

/// Whether the directory exists and holds a log (at least one segment).
///
/// # Errors
/// As the file system, without not-found.
pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| SegmentName::parse(name).is_some())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("list", dir, e)),
    }
}

/// Removes the oldest segments until `keep` are left, and returns the names of those it removed.
///
/// Stops at the first one that is locked: a segment that an open log still needs is never removed
/// (see [`Wal::release_to`](crate::Wal::release_to)).
///
/// # Errors
/// As the file system, and [`Error::NotALog`].
pub fn purge(disk: &dyn Disk, dir: &Path, keep: usize) -> Result<Vec<SegmentName>> {
    let segments = segments(disk, dir)?;
    let mut removed = Vec::new();
    for &name in segments.iter().take(segments.len().saturating_sub(keep.max(1))) {
        let path = dir.join(name.to_string());
        // The lock is held until the file is gone, so that nobody opens it for writing meanwhile.
        let _lock = match open_locked(disk, &path, OpenOptions::write()) {
            Ok(file) => file,
            Err(Error::Locked { .. }) => break,
            Err(error) => return Err(error),
        };
        disk.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        // One by one: a power cut that kept a later removal and lost an earlier one would leave a hole.
        disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        removed.push(name);
    }
    Ok(removed)
}
