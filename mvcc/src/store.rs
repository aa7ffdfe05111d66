//! The store: what is shared between the writer, the readers, the committer and the compactor.
//!
//! # Who holds which lock
//!
//! | lock | holder | for how long |
//! |---|---|---|
//! | `writer` | a write transaction; the freezing of the buffer; one leaf's compaction | microseconds, or the transaction |
//! | `published` (write) | the end of a write transaction, one leaf's compaction, the two ends of a commit | about a microsecond |
//! | `published` (read) | whoever takes an image; a point read's look into the index | less |
//! | `committer` | one commit, one step of a compaction or of shrinking | a disk sync |
//!
//! They are taken in the order `compactor`, `committer`, `writer`, `published`. No disk sync happens under `writer` or
//! `published`, so neither readers nor the writer ever wait for the disk.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use stanchion_disk::Disk;

use crate::buffer::{Buffer, RowArena};
use crate::compact::{Queue, Running};
use crate::file::{File, FileOptions};
use crate::hash::KvHash;
use crate::index::KeyIndex;
use crate::read::{ReadTxn, RowImage, readable};
use crate::schema::{self, Applied};
use crate::write::WriteTxn;
use crate::{Error, Result, RowKey, restore};

/// Compaction hashes that are kept.
const HASHES_KEPT: usize = 10;

/// How to open a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Threads that read the file at start; 0 for one per processor.
    pub restore_threads: usize,
    /// Open for reading only: nothing is created, and write transactions cannot be committed.
    pub read_only: bool,
    /// Bytes to map at first, so that a growing file is mapped anew less often; 0 for the file's size.
    pub initial_map_size: u64,
    /// Sync the file at every commit. Without it a power cut may leave any state.
    pub sync: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { restore_threads: 0, read_only: false, initial_map_size: 0, sync: true }
    }
}

/// What [`Store::open`] found in the file.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The last raft entry whose effects are in the file: replay starts after it.
    pub applied: Applied,
    /// Current revision.
    pub revision: i64,
    /// Revision of the last accepted compaction, -1 if there was none.
    pub compact_revision: i64,
    /// Number of keys that live.
    pub keys: u64,
    /// Which keys are attached to which leases, in key order.
    pub lease_keys: Vec<LeaseKey>,
}

/// A key and the lease that it is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseKey {
    /// The lease's id, not 0.
    pub lease: i64,
    /// The key.
    pub key: Bytes,
}

/// A multi-version key-value store. All methods take `&self`; share it in an `Arc`.
#[derive(Debug)]
pub struct Store {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) published: RwLock<Published>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) committer: Mutex<Committing>,
    pub(crate) compactions: Mutex<Queue>,
    pub(crate) compactor: Mutex<Option<Running>>,
    pub(crate) hashes: Mutex<VecDeque<KvHash>>,
}

/// What readers see.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) index: KeyIndex,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
    pub(crate) rows: RowImage,
}

/// What the one writer knows beside that.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) applied: Applied,
    /// The applied entry that the last frozen buffer took along.
    pub(crate) applied_frozen: Applied,
    /// Changes made since the buffer was frozen; see [`Store::pending`].
    pub(crate) pending: usize,
    pub(crate) rows: RowArena,
}

/// What the one committer knows.
#[derive(Debug, Default)]
pub(crate) struct Committing {
    pub(crate) poisoned: bool,
}

impl Store {
    /// Opens the file at `path`, creates it if it is missing, and builds the key index from it.
    ///
    /// # Errors
    /// A file that cannot be opened, whose storage version is unknown, or whose records cannot be read.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, options: &StoreOptions) -> Result<(Self, Recovered)> {
        let file_options = FileOptions {
            read_only: options.read_only,
            initial_map_size: options.initial_map_size,
            sync: options.sync,
        };
        let file = File::open(disk, path, &file_options)?;
        let image = Arc::new(file.image()?);
        let mut rows = RowImage { image, frozen: None, active: Arc::new(Buffer::new(i64::MAX)) };
        schema::check_storage_version(&rows, path)?;
        let applied = schema::applied(&rows)?;
        let finished = schema::finished_compaction(&rows)?;
        let scheduled = schema::scheduled_compaction(&rows)?;
        let restored = restore::restore(&rows.image, options.restore_threads)?;

        let compact_revision = finished.unwrap_or(-1).max(scheduled.unwrap_or(-1));
        let revision = restored.last_main.max(compact_revision).max(1);
        if revision > restore::REVISION_MAX {
            return Err(Error::RevisionRange { found: revision, max: restore::REVISION_MAX });
        }
        let index = restored.index.finish(revision);
        rows.active = Arc::new(Buffer::new(revision + 1));
        let recovered = Recovered {
            applied,
            revision,
            compact_revision,
            keys: index.count_live(crate::KeyRange::ALL),
            lease_keys: restored.lease_keys,
        };
        let store = Self {
            path: path.to_path_buf(),
            file,
            published: RwLock::new(Published { index, current: revision, compacted: compact_revision, rows }),
            writer: Mutex::new(Writer { applied, applied_frozen: applied, ..Writer::default() }),
            committer: Mutex::default(),
            compactions: Mutex::new(Queue::recovered(finished, scheduled)),
            compactor: Mutex::default(),
            hashes: Mutex::default(),
        };
        Ok((store, recovered))
    }

    /// An image of the store as it is now.
    #[must_use]
    pub fn read(&self) -> ReadTxn {
        let published = self.published.read();
        ReadTxn {
            index: published.index.clone(),
            current: published.current,
            compacted: published.compacted,
            rows: published.rows.clone(),
        }
    }

    /// Begins a write transaction; waits for another one to end.
    #[must_use]
    pub fn write(&self) -> WriteTxn<'_> {
        WriteTxn::new(self, self.writer.lock())
    }

    /// The encoded `KeyValue` of one key at `revision` (0 or less: the current one). The cheapest read: unlike an image
    /// it leaves nothing for the writer to copy.
    ///
    /// # Errors
    /// [`Error::Future`], [`Error::Compacted`], or the file's.
    pub fn get(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>> {
        let (row, image) = {
            let published = self.published.read();
            let main = readable(revision, published.current, published.compacted)?;
            let Some(at) = published.index.get(key, main) else {
                return Ok(None);
            };
            let row = RowKey::put(at);
            // What is in memory is taken at once; the file may make us wait, so it is read without the lock.
            if let Some(buffered) = published.rows.buffered(row)? {
                return Ok(Some(buffered));
            }
            (row, published.rows.image.clone())
        };
        Ok(Some(Bytes::copy_from_slice(image.row(row)?)))
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.published.read().current
    }

    /// The revision of the last accepted compaction; -1 if there was none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.published.read().compacted
    }

    /// Number of keys that live now.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.published.read().index.count_live(crate::KeyRange::ALL)
    }

    /// Number of keys in the index, dead ones that are not compacted yet included; walks the index.
    #[must_use]
    pub fn indexed_key_count(&self) -> usize {
        self.read().index.len()
    }

    /// The last applied raft entry, committed to the file or not.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.writer.lock().applied
    }

    /// Remembers an applied entry that has no effect on the store; it reaches the file with the next commit.
    /// An entry with effects says so in its [write transaction](WriteTxn::set_applied).
    pub fn set_applied(&self, applied: Applied) {
        self.writer.lock().applied = applied;
    }

    /// The hash that members give each other for `revision` (0: the current one): that of the compaction at exactly
    /// this revision if it is among the last ten that this process ran, else one computed now.
    ///
    /// # Errors
    /// [`Error::Future`], [`Error::Compacted`], or the file's.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash> {
        let stored = self.hashes.lock().iter().find(|hash| hash.revision == revision).copied();
        match stored {
            Some(hash) => Ok(hash),
            None => self.read().hash_kv(revision),
        }
    }

    /// The hashes of the last ten compactions of this process, by rising revision.
    #[must_use]
    pub fn compaction_hashes(&self) -> Vec<KvHash> {
        self.hashes.lock().iter().copied().collect()
    }

    pub(crate) fn keep_hash(&self, hash: KvHash) {
        let mut hashes = self.hashes.lock();
        hashes.push_back(hash);
        if hashes.len() > HASHES_KEPT {
            hashes.pop_front();
        }
    }

    /// Bytes of the file up to its highest page: what the quota counts.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// Bytes of the file that are in use; the rest is free pages.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.file.size_in_use()
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn check_compaction(&self, requested: i64) -> Result<()> {
        let published = self.published.read();
        let (current, compacted) = (published.current, published.compacted);
        if requested <= compacted {
            return Err(Error::Compacted { requested, compacted });
        }
        if requested > current {
            return Err(Error::Future { requested, current });
        }
        Ok(())
    }
}
