//! The database handle: opening, the shared state of transactions, beginning them.
//!
//! What lives here may lock; nothing here reads trees.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stanchion_disk::{Disk, File, LockKind};

use crate::error::{Error, Result};
use crate::format::Meta;
use crate::freelist::Freelist;
use crate::map::Map;
use crate::memory::Arena;
use crate::node::Spare;
use crate::open;
use crate::read::ReadTx;
use crate::scan;
use crate::shrink::Progress;
use crate::snapshot::Snapshot;
use crate::sync::{Condvar, Mutex};
use crate::write::WriteTx;

/// How a database is opened. The default creates it if missing, waits for the lock for ever, stores no freelist.
#[derive(Clone, Debug)]
pub struct Options {
    /// Open an existing file for reading; several processes may do so at once.
    pub read_only: bool,
    /// How long to wait for another handle's file lock; `None` waits for ever, zero tries once.
    pub lock_timeout: Option<Duration>,
    /// Map at least this many bytes at once: spares new maps while the file grows. Costs address space only.
    pub initial_map_size: u64,
    /// Write the freelist with every commit. A commit then writes 8 bytes per free page, as the format demands;
    /// without it the free pages are found by a scan when the file is opened (as etcd runs it).
    pub sync_freelist: bool,
    /// Bytes per page of a file created here: a power of two from 1 KiB to 16 MiB. Existing files keep theirs.
    pub page_size: u32,
    /// Never sync. A power cut may then destroy the file; for bulk loads that can be repeated.
    pub no_sync: bool,
    /// Permission bits of a file created here.
    pub mode: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            lock_timeout: None,
            initial_map_size: 0,
            sync_freelist: false,
            page_size: 4096,
            no_sync: false,
            mode: 0o600,
        }
    }
}

impl Options {
    /// The defaults, read-only.
    #[must_use]
    pub fn read_only() -> Self {
        Self { read_only: true, ..Self::default() }
    }
}

/// An open database. Clones are handles of the same one; the file is closed and its lock released when the last
/// handle and the last transaction are gone.
#[derive(Clone, Debug)]
pub struct Db {
    shared: Arc<Shared>,
}

/// What all handles and transactions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    state: Mutex<State>,
    /// The write side; away while a write transaction has it.
    writer: Mutex<Option<Writer>>,
    writer_back: Condvar,
}

#[derive(Debug)]
struct State {
    current: Arc<Snapshot>,
    /// Open read transactions by the commit they see.
    readers: BTreeMap<u64, Readers>,
    poisoned: bool,
}

/// The read transactions that see one commit.
#[derive(Clone, Copy, Debug, Default)]
struct Readers {
    count: usize,
    high_water: u64,
}

/// What only the writer touches.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) freelist: Freelist,
    /// Buffers kept from commit to commit.
    pub(crate) arena: Arena,
    pub(crate) spare: Spare,
    pub(crate) buffer: Vec<u8>,
    pub(crate) shrink: Progress,
    /// High-water mark of the meta page that is not the newest.
    pub(crate) older_mark: u64,
    /// The file is longer than it needs to be and shall be cut.
    pub(crate) cut: bool,
}

/// Figures of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbStats {
    /// Bytes per page.
    pub page_size: u32,
    /// Id of the last commit.
    pub txid: u64,
    /// Pages below the high-water mark.
    pub pages: u64,
    /// Pages that the next transaction may use.
    pub free_pages: u64,
    /// Pages that become free when readers end.
    pub pending_pages: u64,
    /// Open read transactions.
    pub open_readers: usize,
    /// The oldest commit that a reader sees.
    pub oldest_reader: Option<u64>,
    /// Length of the map in bytes.
    pub map_size: u64,
}

impl Db {
    /// Opens a database, and creates it where that is allowed and there is none.
    ///
    /// A writable open finds the free pages by visiting the tree's pages once, and refuses a file in which a page is used
    /// twice or stands in the stored freelist although it is in use.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Locked`], and what makes a file unusable: [`Error::NotBolt`], [`Error::Version`],
    /// [`Error::Checksum`], [`Error::PageSize`], [`Error::TooShort`], [`Error::Corrupt`].
    pub fn open(disk: Arc<dyn Disk>, path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let file = open::open_file(&*disk, &path, &options)?;
        let meta = open::read_metas(&*file, &path)?;
        let io = |operation, source| Error::Io { operation, path: path.clone(), source };
        let map = open::map(&*file, meta, options.initial_map_size).map_err(|e| io("map", e))?;
        let mut snapshot = Snapshot::new(meta, Arc::new(map), 0, 0);
        let mut freelist = Freelist::default();
        if !options.read_only {
            freelist = Freelist::new(scan::free_pages(&snapshot)?);
            snapshot.free_pages = freelist.free.count();
        }
        // Nobody has looked at the other meta page: it may count every page of the file.
        let older_mark = file.len().map_err(|e| io("get the length of", e))? / u64::from(meta.page_size);
        let cut = older_mark - meta.high_water > 2 * open::MAX_FILE_STEP / u64::from(meta.page_size);
        let writer = Writer { freelist, older_mark, cut, ..Writer::default() };
        let state = State { current: Arc::new(snapshot), readers: BTreeMap::new(), poisoned: false };
        let shared = Shared {
            file,
            path,
            options,
            state: Mutex::new(state),
            writer: Mutex::new(Some(writer)),
            writer_back: Condvar::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins a read transaction on the newest commit.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn begin_read(&self) -> Result<ReadTx> {
        let snapshot = self.shared.begin_read()?;
        Ok(ReadTx::new(Arc::clone(&self.shared), snapshot))
    }

    /// Begins the write transaction; waits while another one is open. A thread that has one open must not call it.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Poisoned`].
    pub fn begin_write(&self) -> Result<WriteTx> {
        if self.shared.options.read_only {
            return Err(Error::ReadOnly);
        }
        let mut slot = self.shared.writer.lock();
        let writer = loop {
            if let Some(writer) = slot.take() {
                break writer;
            }
            slot = self.shared.writer_back.wait(slot);
        };
        drop(slot);
        WriteTx::begin(Arc::clone(&self.shared), writer)
    }

    /// Runs `read` in a read transaction.
    ///
    /// # Errors
    /// As [`Self::begin_read`] and `read`.
    pub fn view<T, E: From<Error>>(&self, read: impl FnOnce(&ReadTx) -> Result<T, E>) -> Result<T, E> {
        read(&self.begin_read()?)
    }

    /// Runs `write` in a write transaction and commits it; an error rolls it back.
    ///
    /// # Errors
    /// As [`Self::begin_write`], `write` and [`WriteTx::commit`].
    pub fn update<T, E: From<Error>>(
        &self,
        write: impl FnOnce(&mut WriteTx) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tx = self.begin_write()?;
        let out = write(&mut tx)?;
        tx.commit()?;
        Ok(out)
    }

    /// The path it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Whether it was opened read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.shared.options.read_only
    }

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file_len(&self) -> Result<u64> {
        self.shared.file.len().map_err(|e| self.shared.io("get the length of", e))
    }

    /// Current figures.
    #[must_use]
    pub fn stats(&self) -> DbStats {
        self.shared.stats()
    }
}

impl Shared {
    pub(crate) fn io(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Io { operation, path: self.path.clone(), source }
    }

    /// The newest commit; registers nothing, so only the writer may look at its pages.
    pub(crate) fn current(&self) -> Result<Arc<Snapshot>> {
        let state = self.state.lock();
        if state.poisoned { Err(Error::Poisoned) } else { Ok(Arc::clone(&state.current)) }
    }

    fn begin_read(&self) -> Result<Arc<Snapshot>> {
        let mut state = self.state.lock();
        if state.poisoned {
            return Err(Error::Poisoned);
        }
        let snapshot = Arc::clone(&state.current);
        let readers = state.readers.entry(snapshot.meta.txid).or_default();
        *readers = Readers { count: readers.count + 1, high_water: snapshot.meta.high_water };
        Ok(snapshot)
    }

    pub(crate) fn end_read(&self, snapshot: &Snapshot) {
        let mut state = self.state.lock();
        let txid = snapshot.meta.txid;
        let readers = state.readers.get_mut(&txid).expect("a reader is registered until it ends");
        readers.count -= 1;
        if readers.count == 0 {
            state.readers.remove(&txid);
        }
    }

    /// The commits that readers see, ascending.
    pub(crate) fn readers(&self) -> Vec<u64> {
        self.state.lock().readers.keys().copied().collect()
    }

    /// High-water mark of the newest commit, and the highest that a reader sees (0 without readers).
    pub(crate) fn marks(&self) -> (u64, u64) {
        let state = self.state.lock();
        let readers = state.readers.values().map(|r| r.high_water).max();
        (state.current.meta.high_water, readers.unwrap_or(0))
    }

    /// Makes a commit visible to new transactions.
    pub(crate) fn publish(&self, meta: Meta, map: Arc<Map>, free_pages: u64, pending_pages: u64) {
        let snapshot = Arc::new(Snapshot::new(meta, map, free_pages, pending_pages));
        self.state.lock().current = snapshot;
    }

    pub(crate) fn poison(&self) {
        self.state.lock().poisoned = true;
    }

    pub(crate) fn give_back(&self, writer: Writer) {
        *self.writer.lock() = Some(writer);
        self.writer_back.notify_one();
    }

    fn stats(&self) -> DbStats {
        let state = self.state.lock();
        let (current, meta) = (&state.current, state.current.meta);
        DbStats {
            page_size: meta.page_size,
            txid: meta.txid,
            pages: meta.high_water,
            free_pages: current.free_pages,
            pending_pages: current.pending_pages,
            open_readers: state.readers.values().map(|r| r.count).sum(),
            oldest_reader: state.readers.keys().next().copied(),
            map_size: current.map().len() as u64,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let kind = if self.options.read_only { LockKind::FlockShared } else { LockKind::FlockExclusive };
        // Closing the file releases the lock as well; an error here changes nothing.
        let _ = self.file.unlock(kind);
    }
}
