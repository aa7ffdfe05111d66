//! Streaming a consistent image of a snapshot.

use std::io::Write;

use crate::db::Shared;
use crate::error::{Error, Result};
use crate::format::Meta;
use crate::snapshot::Snapshot;

/// Bytes read at a time.
const BLOCK: u64 = 1 << 20;

/// Two meta pages (the second one transaction older), then the pages up to the high-water mark as they lie in the
/// file. Free pages may change while they are read, which harms nobody: hence reads, never slices of the map.
pub(crate) fn write_to<W: Write + ?Sized>(
    shared: &Shared,
    snapshot: &Snapshot,
    writer: &mut W,
) -> Result<u64> {
    let meta = snapshot.meta;
    writer.write_all(&meta.encode(0)).map_err(Error::Copy)?;
    let older = Meta { txid: meta.txid.saturating_sub(1), ..meta };
    writer.write_all(&older.encode(1)).map_err(Error::Copy)?;
    let page_size = u64::from(meta.page_size);
    let end = meta.high_water * page_size;
    let mut at = 2 * page_size;
    let mut block = vec![0; BLOCK.min(end - at) as usize];
    while at < end {
        let part = &mut block[..BLOCK.min(end - at) as usize];
        shared.file.read_exact_at(part, at).map_err(|e| shared.io("read", e))?;
        writer.write_all(part).map_err(Error::Copy)?;
        at += part.len() as u64;
    }
    Ok(end)
}
