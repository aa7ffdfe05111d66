#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod codec;
mod database;
mod error;
mod name;

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use stanchion_disk::{Disk, OpenOptions};

pub use database::Receiver;
pub use error::{Damage, Error, Result};

/// No snapshot file is larger: the payload holds a cluster's membership, not its data.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Permissions of the directory of snapshots, as etcd's: nobody but the owner may look in. Whoever makes the directory
/// before [`Snapshotter::open`] does, to put another file there, needs the same.
pub const DIR_MODE: u32 = 0o700;

/// Permissions of snapshot files before the umask, as etcd's.
const FILE_MODE: u32 = 0o666;

/// A snapshot read from its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Raft term of the last entry the snapshot covers.
    pub term: u64,
    /// Raft index of the last entry the snapshot covers.
    pub index: u64,
    /// The encoded `raftpb.Snapshot`.
    pub data: Bytes,
}

/// A file that could not be used and was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its name before `.broken` was appended.
    pub name: String,
    /// What is wrong with it.
    pub damage: Damage,
}

/// A directory of snapshots.
///
/// Invariant: a name that ends in `.snap` or `.snap.db` belongs to a file that was complete and durable when it got
/// the name, if this crate wrote it.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Snapshotter {
    /// Opens a directory, making it if need be, and removes what a crash left half written. Returns their names too.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<(Self, Vec<String>)> {
        let dir = dir.into();
        disk.create_dir_all(&dir, DIR_MODE).map_err(Error::io("create", &dir))?;
        let this = Self { disk, dir };
        let removed = this.remove_where(name::is_orphan)?;
        Ok((this, removed))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Saves a snapshot durably and returns its path. `data` is the encoded `raftpb.Snapshot` of this term and index.
    ///
    /// The bytes are written and synced under a temporary name, renamed, and the directory is synced: a crash leaves
    /// the whole file or none.
    ///
    /// # Errors
    /// [`Error::NoData`], [`Error::Io`]; nothing that was saved before is touched.
    pub fn save(&self, term: u64, index: u64, data: &[u8]) -> Result<PathBuf> {
        if data.is_empty() {
            return Err(Error::NoData { term, index });
        }
        let name = name::snapshot(term, index);
        let temp = self.dir.join(format!("tmp-{name}"));
        let path = self.dir.join(name);
        self.write_durably(&temp, data)
            .and_then(|()| self.disk.rename(&temp, &path).map_err(Error::io("rename", &temp)))
            .inspect_err(|_| {
                // Best effort: what stays is removed at the next start.
                let _ = self.disk.remove_file(&temp);
            })?;
        self.sync_dir()?;
        Ok(path)
    }

    fn write_durably(&self, temp: &Path, data: &[u8]) -> Result<()> {
        let options = OpenOptions::create().truncate().mode(FILE_MODE);
        let file = self.disk.open(temp, options).map_err(Error::io("create", temp))?;
        let header = codec::header(data);
        file.write_vectored_at(&[IoSlice::new(&header), IoSlice::new(data)], 0)
            .map_err(Error::io("write", temp))?;
        file.sync_all().map_err(Error::io("sync", temp))
    }

    /// The newest snapshot that can be read, and the broken files met on the way. Those are renamed to `.broken`.
    ///
    /// # Errors
    /// [`Error::Io`]; a file that cannot be read is not a broken one.
    pub fn load_newest(&self) -> Result<(Option<Snapshot>, Vec<Broken>)> {
        self.load_where(|_| true)
    }

    /// The newest snapshot whose `(term, index)` is in `records`, as the log's snapshot records name them: a file
    /// without a record in the log is an orphan of a crash and must not be used.
    ///
    /// # Errors
    /// As [`Snapshotter::load_newest`].
    pub fn load_newest_of(&self, records: &[(u64, u64)]) -> Result<(Option<Snapshot>, Vec<Broken>)> {
        self.load_where(|snapshot| records.contains(&(snapshot.term, snapshot.index)))
    }

    fn load_where(&self, wanted: impl Fn(&Snapshot) -> bool) -> Result<(Option<Snapshot>, Vec<Broken>)> {
        let mut broken = Vec::new();
        for name in self.list()?.into_iter().rev().filter(|name| name::is_snapshot(name)) {
            match self.load(&name)? {
                Ok(snapshot) if wanted(&snapshot) => return Ok((Some(snapshot), broken)),
                Ok(_) => {}
                Err(damage) => {
                    self.set_aside(&name)?;
                    broken.push(Broken { name, damage });
                }
            }
        }
        Ok((None, broken))
    }

    fn load(&self, name: &str) -> Result<std::result::Result<Snapshot, Damage>> {
        let path = self.dir.join(name);
        let size = self.disk.metadata(&path).map_err(Error::io("look up", &path))?.len;
        if size > FILE_BYTES_MAX {
            return Ok(Err(Damage::TooLarge { size }));
        }
        let bytes = self.disk.read(&path).map_err(Error::io("read", &path))?;
        Ok(decode(bytes.into()))
    }

    fn set_aside(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        self.disk
            .rename(&path, &self.dir.join(format!("{name}.broken")))
            .map_err(Error::io("set aside", &path))?;
        self.sync_dir()
    }

    /// Removes snapshot files beyond the newest `keep`; 0 keeps all. Returns the names removed.
    ///
    /// Received databases are left alone, where etcd counts them, too: an older one may still wait to be installed.
    /// [`Snapshotter::remove_databases_below`] knows better.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn purge(&self, keep: usize) -> Result<Vec<String>> {
        if keep == 0 {
            return Ok(Vec::new());
        }
        let names = self.list()?;
        let doomed: Vec<_> = names.iter().rev().filter(|name| name::is_snapshot(name)).skip(keep).collect();
        self.remove_where(|name| doomed.iter().any(|d| *d == name))
    }

    fn remove_where(&self, doomed: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for name in self.list()?.into_iter().filter(|name| doomed(name)) {
            let path = self.dir.join(&name);
            match self.disk.remove_file(&path) {
                Ok(()) => removed.push(name),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("remove", &path)(e)),
            }
        }
        if !removed.is_empty() {
            self.sync_dir()?;
        }
        Ok(removed)
    }

    fn list(&self) -> Result<Vec<String>> {
        self.disk.list(&self.dir).map_err(Error::io("list", &self.dir))
    }

    fn sync_dir(&self) -> Result<()> {
        self.disk.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }
}

/// Reads the bytes of a snapshot file.
///
/// # Errors
/// What is wrong with them. Arbitrary bytes give an error or a snapshot, nothing else.
pub fn decode(file: Bytes) -> std::result::Result<Snapshot, Damage> {
    let data = codec::decode(&file)?;
    let (term, index) = codec::term_and_index(&data)?;
    Ok(Snapshot { term, index, data })
}
