//! [`SimDisk`]: a disk in memory that fails as real disks do, and always the same way under one seed.
//!
//! What a power cut leaves of changes that were not synced, file by file and directory by directory:
//!
//! - all of them, none, or any subset of the 512-byte sectors written, in any order, with one of the lengths the file
//!   had since its last sync;
//! - a prefix of a directory's creations, renames and removals; a rename is never seen half done. Syncing a file does
//!   not make its name durable, and syncing a directory does not make its files' bytes durable.
//!
//! Paths are made of plain names: `..` is refused, since nothing in this workspace needs it.
//!
//! A test that wants every crash counts the changes of one run ([`SimDisk::changes`]), then repeats the run with
//! [`SimDisk::crash_at`] for each number up to it. [`SimDisk::after_power_cut`] may be asked many times, with other
//! seeds, for other survivors of the same crash.

mod content;
mod faults;
mod file;
mod locks;
mod random;
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

pub use faults::{Faults, Latency, PowerCut};

use crate::{Disk, File, LockKind, Map, Metadata, OpenOptions};
use file::FileData;
use locks::Locks;
use random::Random;
use tree::{Content, Dir, NodeId, Tree};

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    locks: Locks,
    random: Random,
    faults: Faults,
    changes: u64,
    crash_at: Option<u64>,
    crashed: bool,
    elapsed_nanos: u64,
    next_handle: u64,
}

/// What a call does, for counting, faults and latency.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Sync,
    Name,
}

impl SimDisk {
    /// An empty disk; every choice it makes follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_tree(Tree::new(), seed, Faults::default())
    }

    fn with_tree(tree: Tree, seed: u64, faults: Faults) -> Self {
        let state = State {
            tree,
            locks: Locks::default(),
            random: Random::new(seed),
            faults,
            changes: 0,
            crash_at: None,
            crashed: false,
            elapsed_nanos: 0,
            next_handle: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// The calls so far that change files or names or make them durable; each is a point at which to crash.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Cuts the power in the middle of the `n`-th change (counted from 1 over the disk's life): it may be done in
    /// part, its caller sees [`PowerCut`], and so does every later call.
    pub fn crash_at(&self, n: u64) {
        self.state.lock().crash_at = Some(n);
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.state.lock().crashed = true;
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// A new disk with what survives if the power is cut now, chosen by `seed`. This one stays as it is.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let state = self.state.lock();
        let mut random = Random::new(seed);
        let tree = state.tree.survivor(&mut random);
        Self::with_tree(tree, random.next(), Faults { read_only: false, ..state.faults.clone() })
    }

    /// An independent copy of the running disk, without open handles and locks.
    ///
    /// # Errors
    /// The operating system failed to copy a mapped file.
    pub fn fork(&self, seed: u64) -> io::Result<Self> {
        let state = self.state.lock();
        Ok(Self::with_tree(state.tree.fork()?, seed, state.faults.clone()))
    }

    /// Turns over one bit of a file, in memory and on the medium. Positions beyond its end are ignored.
    ///
    /// # Errors
    /// There is no such file.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u32) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.tree.find(path)?;
        state.tree.file(id)?.flip_bit(offset, bit)
    }

    /// Virtual time that all calls took together.
    #[must_use]
    pub fn elapsed_nanos(&self) -> u64 {
        self.state.lock().elapsed_nanos
    }

    /// Space in use, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// Starts a call that does not crash the disk by itself.
    fn begin(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.begin(call)?;
        Ok(state)
    }
}

fn errno(errno: rustix::io::Errno) -> io::Error {
    errno.into()
}

impl State {
    fn begin(&mut self, call: Call) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other(PowerCut));
        }
        let latency = self.faults.latency;
        let (nanos, rate) = match call {
            Call::Read => (latency.read_nanos, self.faults.read_error),
            Call::Name => (latency.write_nanos, self.faults.name_error),
            // When these fail they have effects all the same; their callers draw the fault.
            Call::Write => (latency.write_nanos, 0.0),
            Call::Sync => (latency.sync_nanos, 0.0),
        };
        self.elapsed_nanos += nanos;
        if self.faults.read_only && matches!(call, Call::Write | Call::Name) {
            return Err(errno(rustix::io::Errno::ROFS));
        }
        if self.random.chance(rate) {
            return Err(errno(rustix::io::Errno::IO));
        }
        Ok(())
    }

    /// Counts a change whose effects are in memory; the power may go before it is done.
    fn changed(&mut self) -> io::Result<()> {
        self.changes += 1;
        if self.crash_at == Some(self.changes) {
            self.crashed = true;
            return Err(io::Error::other(PowerCut));
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        self.tree.files().map(FileData::allocated_bytes).sum()
    }

    /// How many bytes of a range, from its start, the budget has space for.
    fn room(&mut self, id: NodeId, offset: u64, len: u64) -> io::Result<u64> {
        let Some(budget) = self.faults.space_bytes else { return Ok(len) };
        let left = budget.saturating_sub(self.used_bytes());
        Ok(self.tree.file(id)?.fitting(offset, len, left))
    }

    /// How many bytes of a write are put down, and the error that ends it there.
    fn write_fault(&mut self, id: NodeId, offset: u64, len: u64) -> io::Result<(u64, Option<io::Error>)> {
        let room = self.room(id, offset, len)?;
        let rate = self.faults.write_error;
        if self.random.chance(rate) {
            let done = self.random.below(room + 1);
            return Ok((done, Some(errno(rustix::io::Errno::IO))));
        }
        let error = (room < len).then(|| errno(rustix::io::Errno::NOSPC));
        Ok((room, error))
    }

    /// Draws whether a read of `len` bytes finds a turned bit, and turns it.
    fn read_fault(&mut self, id: NodeId, offset: u64, len: u64) -> io::Result<()> {
        let rate = self.faults.bit_flip;
        if len > 0 && self.random.chance(rate) {
            let (at, bit) = (offset + self.random.below(len), self.random.below(8) as u32);
            self.tree.file(id)?.flip_bit(at, bit)?;
        }
        Ok(())
    }
}

/// File positions are signed on the system-call interface; beyond its range there is no file.
fn check_range(offset: u64, len: u64, beyond: rustix::io::Errno) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(errno(beyond)),
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let mut state = self.begin(Call::Read)?;
        if options.write && state.faults.read_only {
            return Err(errno(rustix::io::Errno::ROFS));
        }
        let id = match state.tree.find(path) {
            Ok(_) if options.exclusive => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(id) => {
                let file = state.tree.file(id)?;
                if options.truncate {
                    file.set_len(0)?;
                    state.changed()?;
                }
                id
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && options.create => {
                let rate = state.faults.name_error;
                if state.random.chance(rate) {
                    return Err(errno(rustix::io::Errno::IO));
                }
                let (dir, name) = state.tree.parent(path)?;
                let mode = if options.mode == 0 { 0o600 } else { options.mode };
                let id = state.tree.create(dir, name, Content::File(FileData::new()), mode)?;
                state.changed()?;
                id
            }
            Err(e) => return Err(e),
        };
        state.tree.node_mut(id)?.handles += 1;
        state.next_handle += 1;
        let handle = state.next_handle;
        Ok(Arc::new(SimFile { disk: self.clone(), id, handle, writable: options.write }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.begin(Call::Read)?;
        let node = state.tree.node(state.tree.find(path)?)?;
        Ok(match &node.content {
            Content::File(file) => Metadata { len: file.cache.len()?, is_dir: false, mode: node.mode },
            Content::Dir(_) => Metadata { len: 0, is_dir: true, mode: node.mode },
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.begin(Call::Read)?;
        let id = state.tree.find(dir)?;
        Ok(state.tree.dir(id)?.names.keys().cloned().collect())
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut state = self.begin(Call::Name)?;
        if state.tree.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (dir, name) = state.tree.parent(path)?;
        state.tree.create(dir, name, Content::Dir(Dir::default()), mode)?;
        state.changed()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Name)?;
        let source = state.tree.find(from)?;
        if to.starts_with(from) && to != from {
            // A directory cannot move into itself.
            return Err(errno(rustix::io::Errno::INVAL));
        }
        let (from, to) = (state.tree.parent(from)?, state.tree.parent(to)?);
        if from == to {
            return Ok(());
        }
        if let Some(&target) = state.tree.dir(to.0)?.names.get(to.1) {
            match (&state.tree.node(source)?.content, &state.tree.node(target)?.content) {
                (Content::File(_), Content::File(_)) => {}
                (Content::Dir(_), Content::Dir(dir)) if dir.names.is_empty() => {}
                (_, Content::Dir(dir)) if !dir.names.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (_, Content::Dir(_)) => return Err(io::ErrorKind::IsADirectory.into()),
                (Content::Dir(_), _) => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        state.tree.rename(from, to)?;
        state.changed()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Name)?;
        let id = state.tree.find(path)?;
        state.tree.file(id)?;
        let (dir, name) = state.tree.parent(path)?;
        state.tree.unlink(dir, name)?;
        state.changed()
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let names = self.list(path)?;
        for name in names {
            let inner = path.join(name);
            if self.metadata(&inner)?.is_dir {
                self.remove_dir_all(&inner)?
            } else {
                self.remove_file(&inner)?
            }
        }
        let mut state = self.begin(Call::Name)?;
        let (dir, name) = state.tree.parent(path)?;
        state.tree.unlink(dir, name)?;
        state.changed()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Sync)?;
        let id = state.tree.find(dir)?;
        state.tree.dir(id)?;
        // A crash during the sync finds the names still unsynced.
        state.changed()?;
        let rate = state.faults.sync_error;
        if state.random.chance(rate) {
            return Err(errno(rustix::io::Errno::IO));
        }
        state.tree.sync_dir(id)
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: NodeId,
    handle: u64,
    writable: bool,
}

impl SimFile {
    fn begin_change(&self) -> io::Result<MutexGuard<'_, State>> {
        if !self.writable {
            return Err(errno(rustix::io::Errno::BADF));
        }
        self.disk.begin(Call::Write)
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        check_range(offset, 0, rustix::io::Errno::INVAL)?;
        let mut state = self.disk.begin(Call::Read)?;
        let n = state.tree.file(self.id)?.cache.read(buf, offset)?;
        state.read_fault(self.id, offset, n as u64)?;
        state.tree.file(self.id)?.cache.read(&mut buf[..n], offset)
    }

    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8>;
        let whole: &[u8] = match bufs {
            [one] => one,
            many => {
                bytes = many.iter().map(|buf| &**buf).collect::<Vec<&[u8]>>().concat();
                &bytes
            }
        };
        check_range(offset, whole.len() as u64, rustix::io::Errno::INVAL)?;
        let mut state = self.begin_change()?;
        let (done, error) = state.write_fault(self.id, offset, whole.len() as u64)?;
        state.tree.file(self.id)?.write(&whole[..done as usize], offset)?;
        state.changed()?;
        error.map_or(Ok(()), Err)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.begin(Call::Sync)?;
        // A crash during the sync finds the bytes still unsynced.
        state.changed()?;
        let rate = state.faults.sync_error;
        if state.random.chance(rate) {
            state.tree.file(self.id)?.drop_dirty()?;
            return Err(errno(rustix::io::Errno::IO));
        }
        state.tree.file(self.id)?.sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Err(errno(rustix::io::Errno::INVAL));
        }
        check_range(offset, len, rustix::io::Errno::FBIG)?;
        let mut state = self.begin_change()?;
        if state.room(self.id, offset, len)? < len {
            return Err(errno(rustix::io::Errno::NOSPC));
        }
        state.tree.file(self.id)?.allocate(offset, len)?;
        state.changed()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        check_range(len, 0, rustix::io::Errno::INVAL)?;
        let mut state = self.begin_change()?;
        state.tree.file(self.id)?.set_len(len)?;
        state.changed()
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.begin(Call::Read)?;
        state.tree.file(self.id)?.cache.len()
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        let mut state = self.disk.begin(Call::Read)?;
        Ok(state.locks.try_lock(self.id, self.handle, kind))
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        let mut state = self.disk.begin(Call::Read)?;
        state.locks.unlock(self.id, self.handle, kind);
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        let mut state = self.disk.begin(Call::Read)?;
        state.tree.file(self.id)?.cache.map(len)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        state.locks.release(self.id, self.handle);
        if let Ok(node) = state.tree.node_mut(self.id) {
            node.handles -= 1;
        }
    }
}
