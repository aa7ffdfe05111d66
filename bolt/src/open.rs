//! Opening a file: lock, creation, the choice of the meta page, the first map, and how file and map grow.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use stanchion_disk::{Disk, File, LockKind, OpenOptions};

use crate::db::Options;
use crate::error::{Error, Result};
use crate::format::{FLAG_FREELIST, FLAG_LEAF, Header, META_PAGE_BYTES, Meta, MetaFault, NO_FREELIST};
use crate::map::Map;

/// Time between two tries for a lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);
const MIN_PAGE_SIZE: u32 = 1 << 10;
const MAX_PAGE_SIZE: u32 = 1 << 24;
/// Pages of a new file: two metas, an empty freelist, an empty root leaf.
const INITIAL_PAGES: u64 = 4;
/// Smallest map, and the size beyond which maps no longer double.
const MIN_MAP: u64 = 32 << 10;
const MAP_STEP: u64 = 1 << 30;
/// Files grow by this part of their length, within these bounds in bytes. bbolt's files grow by the upper bound.
const FILE_STEP_DIVISOR: u64 = 4096;
const MIN_FILE_STEP: u64 = 64 << 10;
pub(crate) const MAX_FILE_STEP: u64 = 16 << 20;

/// Opens and locks the file, and writes the initial pages into a new one.
pub(crate) fn open_file(disk: &dyn Disk, path: &Path, options: &Options) -> Result<Arc<dyn File>> {
    let io = |operation, source| Error::Io { operation, path: path.to_path_buf(), source };
    let how = if options.read_only { OpenOptions::read() } else { OpenOptions::create().mode(options.mode) };
    let file = disk.open(path, how).map_err(|e| io("open", e))?;
    lock(&*file, path, options)?;
    if !options.read_only && is_blank(&*file, options.page_size).map_err(|e| io("read", e))? {
        check_page_size(options.page_size, path)?;
        initialise(&*file, options.page_size).map_err(|e| io("create", e))?;
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk.sync_dir(dir).map_err(|e| io("sync the directory of", e))?;
    }
    Ok(file)
}

fn lock(file: &dyn File, path: &Path, options: &Options) -> Result<()> {
    let kind = if options.read_only { LockKind::FlockShared } else { LockKind::FlockExclusive };
    let mut waited = Duration::ZERO;
    loop {
        let locked = file.try_lock(kind);
        if locked.map_err(|source| Error::Io { operation: "lock", path: path.to_path_buf(), source })? {
            return Ok(());
        }
        if options.lock_timeout.is_some_and(|limit| waited >= limit) {
            return Err(Error::Locked { path: path.to_path_buf(), waited });
        }
        let left = options.lock_timeout.map_or(LOCK_RETRY, |limit| limit - waited);
        thread::sleep(left.min(LOCK_RETRY));
        waited += left.min(LOCK_RETRY);
    }
}

/// Whether the file is empty, or a creation was cut short before a meta page was there.
fn is_blank(file: &dyn File, page_size: u32) -> io::Result<bool> {
    let len = file.len()?;
    // Whoever was cut short may have chosen smaller pages than this caller, or the largest that are usual.
    if len > INITIAL_PAGES * u64::from(page_size.max(1 << 16)) {
        return Ok(false);
    }
    let mut start = vec![0; len as usize];
    file.read_exact_at(&mut start, 0)?;
    // The metas are written last, after a sync of the other pages: all that a cut leaves is pages 2 and 3.
    Ok(start.is_empty() || (start.len() >= 2048 && start[..start.len() / 2].iter().all(|&b| b == 0)))
}

fn initialise(file: &dyn File, page_size: u32) -> io::Result<()> {
    let mut pages = vec![0; 2 * page_size as usize];
    pages[..16].copy_from_slice(&Header { id: 2, flags: FLAG_FREELIST, count: 0, overflow: 0 }.encode());
    pages[page_size as usize..page_size as usize + 16]
        .copy_from_slice(&Header { id: 3, flags: FLAG_LEAF, count: 0, overflow: 0 }.encode());
    file.write_all_at(&pages, 2 * u64::from(page_size))?;
    file.sync_data()?;
    let meta = Meta { page_size, root: 3, sequence: 0, freelist: 2, high_water: INITIAL_PAGES, txid: 0 };
    let mut metas = meta.encode(0);
    metas.extend(Meta { txid: 1, ..meta }.encode(1));
    file.write_all_at(&metas, 0)?;
    file.sync_data()
}

fn check_page_size(found: u32, path: &Path) -> Result<()> {
    if found.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&found) {
        return Ok(());
    }
    Err(Error::PageSize { path: path.to_path_buf(), found })
}

/// The newest valid meta page.
pub(crate) fn read_metas(file: &dyn File, path: &Path) -> Result<Meta> {
    let io = |source| Error::Io { operation: "read", path: path.to_path_buf(), source };
    let len = file.len().map_err(io)?;
    let at = |offset: u64| -> Result<std::result::Result<Meta, MetaFault>> {
        let mut bytes = [0; META_PAGE_BYTES];
        let n = file.read_at(&mut bytes, offset).map_err(io)?;
        Ok(Meta::decode(&bytes[..n]))
    };
    let first = at(0)?;
    let second = match first {
        Ok(meta) => {
            check_page_size(meta.page_size, path)?;
            at(u64::from(meta.page_size))?
        }
        Err(_) => find_second(&at)?,
    };
    let meta = match (first, second) {
        (Ok(a), Ok(b)) => {
            if b.txid > a.txid && b.page_size == a.page_size {
                b
            } else {
                a
            }
        }
        (Ok(a), Err(_)) => a,
        (Err(_), Ok(b)) => b,
        (Err(a), Err(b)) => return Err(unusable(path, len, a, b)),
    };
    let expected = meta.high_water.checked_mul(u64::from(meta.page_size));
    if expected.is_none_or(|n| n > len) {
        let expected = expected.unwrap_or(u64::MAX);
        return Err(Error::TooShort { path: path.to_path_buf(), len, expected });
    }
    let freelist_ok = meta.freelist == NO_FREELIST || (2..meta.high_water).contains(&meta.freelist);
    if !(2..meta.high_water).contains(&meta.root) || !freelist_ok {
        let what = format!("root {} or freelist {} outside 2..{}", meta.root, meta.freelist, meta.high_water);
        return Err(Error::corrupt(meta.txid % 2, what));
    }
    Ok(meta)
}

/// Looks for the second meta page without knowing the page size.
fn find_second(
    at: &dyn Fn(u64) -> Result<std::result::Result<Meta, MetaFault>>,
) -> Result<std::result::Result<Meta, MetaFault>> {
    let mut fault = MetaFault::Magic;
    let mut size = MIN_PAGE_SIZE;
    while size <= MAX_PAGE_SIZE {
        match at(u64::from(size))? {
            Ok(meta) if meta.page_size == size => return Ok(Ok(meta)),
            Ok(_) | Err(MetaFault::Magic) => {}
            Err(other) => fault = other,
        }
        size *= 2;
    }
    Ok(Err(fault))
}

/// The more telling of two faults.
fn unusable(path: &Path, len: u64, first: MetaFault, second: MetaFault) -> Error {
    let path = path.to_path_buf();
    let fault = if first == MetaFault::Magic { second } else { first };
    match fault {
        MetaFault::Magic => Error::NotBolt { path, len },
        MetaFault::Version(found) => Error::Version { path, found },
        MetaFault::Checksum { found, expected } => Error::Checksum { path, found, expected },
    }
}

/// Maps the file for this state, with room to grow.
pub(crate) fn map(file: &dyn File, meta: Meta, at_least: u64) -> io::Result<Map> {
    let needed = (meta.high_water * u64::from(meta.page_size)).max(file.len()?).max(at_least);
    Map::new(file, usize::try_from(map_size(needed)).map_err(io::Error::other)?)
}

/// Map length for so many bytes: doubling from 32 KiB to 1 GiB, then steps of 1 GiB.
pub(crate) fn map_size(needed: u64) -> u64 {
    if needed <= MAP_STEP {
        needed.next_power_of_two().max(MIN_MAP)
    } else {
        needed.div_ceil(MAP_STEP) * MAP_STEP
    }
}

/// Length the file is given when `needed` bytes no longer fit into it: a little more than that, so that few commits
/// change the length, which makes their sync dearer.
pub(crate) fn file_size(needed: u64) -> u64 {
    needed + (needed / FILE_STEP_DIVISOR).clamp(MIN_FILE_STEP, MAX_FILE_STEP)
}
