//! Databases received from another member: written as a stream, put in place at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stanchion_disk::{Disk, File, OpenOptions};

use crate::error::{Error, Result};
use crate::{Snapshotter, name};

/// Bytes that may be written before they are synced. One sync of a whole database at its end would keep the disk from
/// everybody else for seconds.
const UNSYNCED_MAX: u64 = 2 << 20;

/// A database on its way in. Bytes go to a temporary file as they come; memory stays bounded by the caller's pieces, and
/// what the disk owes by 2 MiB.
/// Dropping it unfinished removes the file; after a crash [`Snapshotter::open`] does.
#[derive(Debug)]
pub struct Receiver {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    temp: PathBuf,
    file: Option<Arc<dyn File>>,
    index: u64,
    written: u64,
    synced: u64,
}

impl Receiver {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, index: u64) -> Result<Self> {
        let mut number = 0_u64;
        loop {
            let temp = dir.join(format!("tmp{number:06}"));
            match disk.open(&temp, OpenOptions::create_new()) {
                Ok(file) => {
                    let dir = dir.to_owned();
                    return Ok(Self { disk, dir, temp, file: Some(file), index, written: 0, synced: 0 });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(Error::io("create", &temp)(e)),
            }
        }
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// [`Error::Io`]; the receiver may be dropped and the database asked for again.
    pub fn write(&mut self, piece: &[u8]) -> Result<()> {
        if let Some(file) = &self.file {
            file.write_all_at(piece, self.written).map_err(Error::io("write", &self.temp))?;
            self.written += piece.len() as u64;
            if self.written - self.synced >= UNSYNCED_MAX {
                file.sync_data().map_err(Error::io("sync", &self.temp))?;
                self.synced = self.written;
            }
        }
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes the database durable under its name and returns its path. One of the same index is replaced.
    ///
    /// # Errors
    /// [`Error::WrongSize`] when fewer or more bytes came than were announced, [`Error::Io`]; either way the
    /// temporary file is gone and what was in place before is untouched.
    pub fn finish(mut self, announced_bytes: u64) -> Result<PathBuf> {
        if self.written != announced_bytes {
            return Err(Error::WrongSize {
                index: self.index,
                expected: announced_bytes,
                found: self.written,
            });
        }
        if let Some(file) = &self.file {
            file.sync_all().map_err(Error::io("sync", &self.temp))?;
        }
        let path = self.dir.join(name::database(self.index));
        self.disk.rename(&self.temp, &path).map_err(Error::io("rename", &self.temp))?;
        self.file = None;
        self.disk.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))?;
        Ok(path)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: what stays is removed at the next start.
            let _ = self.disk.remove_file(&self.temp);
        }
    }
}

impl Snapshotter {
    /// Starts to receive the database of the snapshot at `index`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn receive_database(&self, index: u64) -> Result<Receiver> {
        Receiver::new(Arc::clone(&self.disk), &self.dir, index)
    }

    /// The received database of the snapshot at `index`.
    ///
    /// # Errors
    /// [`Error::NoDatabase`] when it is not there, [`Error::Io`].
    pub fn database(&self, index: u64) -> Result<PathBuf> {
        let path = self.dir.join(name::database(index));
        if self.disk.exists(&path).map_err(Error::io("look up", &path))? {
            Ok(path)
        } else {
            Err(Error::NoDatabase { index, path })
        }
    }

    /// Puts the received database of `index` in the place of `target`, in the same directory, durably.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], [`Error::Io`].
    pub fn install_database(&self, index: u64, target: &str) -> Result<PathBuf> {
        let from = self.database(index)?;
        let to = self.dir.join(target);
        self.disk.rename(&from, &to).map_err(Error::io("rename", &from))?;
        self.disk.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))?;
        Ok(to)
    }

    /// Removes received databases of snapshots older than `index`; returns their names.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_databases_below(&self, index: u64) -> Result<Vec<String>> {
        self.remove_where(|name| name::database_index(name).is_some_and(|found| found < index))
    }
}
