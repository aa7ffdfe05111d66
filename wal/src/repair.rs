//! Making a log whose last write was cut off writable again.

use std::path::{Path, PathBuf};

use stanchion_disk::{Disk, File, OpenOptions};

use crate::error::{Error, Result, Torn};

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// The segment that was cut.
    pub path: PathBuf,
    /// Its length now, in bytes: the end of the last sound record.
    pub offset: u64,
    /// What stood there.
    pub torn: Torn,
    /// The copy of the segment as it was before.
    pub copy: PathBuf,
}

/// Copies the segment to `<name>.broken`, then cuts it off at `offset`. Both are durable on return.
pub(crate) fn cut_off(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    offset: u64,
    torn: Torn,
) -> Result<Repair> {
    let copy = PathBuf::from(format!("{}.broken", path.display()));
    copy_file(disk, path, file, &copy)?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    }
    file.set_len(offset).map_err(|e| Error::io("cut off", path, e))?;
    file.sync_data().map_err(|e| Error::io("sync", path, e))?;
    Ok(Repair { path: path.to_owned(), offset, torn, copy })
}

fn copy_file(disk: &dyn Disk, path: &Path, file: &dyn File, copy: &Path) -> Result<()> {
    let target =
        disk.open(copy, OpenOptions::create().truncate()).map_err(|e| Error::io("create", copy, e))?;
    let mut block = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let n = file.read_at(&mut block, offset).map_err(|e| Error::io("read", path, e))?;
        if n == 0 {
            break;
        }
        target.write_all_at(&block[..n], offset).map_err(|e| Error::io("write", copy, e))?;
        offset += n as u64;
    }
    target.sync_all().map_err(|e| Error::io("sync", copy, e))
}
