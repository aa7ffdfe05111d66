//! A disk in memory whose power can be cut before any operation takes hold, enumerably.
//!
//! After a cut, each 512-byte sector that was written and not synced is there or not, by a seeded coin; so is a change
//! of a file's length, and each creation, rename or removal whose directory was not synced. Also a byte budget, after
//! which space is refused, and a sync that fails.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};

use stanchion_disk::{Disk, File, LockKind, Map, Metadata, OpenOptions};

const SECTOR: usize = 512;

/// A small generator; the same seed gives the same run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

#[derive(Clone, Debug)]
struct Node {
    live: Vec<u8>,
    synced: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: Vec<usize>,
    locked: bool,
    /// For a directory: its entries, those that are durable, and the changes between.
    entries: Option<Entries>,
}

#[derive(Clone, Debug, Default)]
struct Entries {
    live: BTreeMap<String, usize>,
    synced: BTreeMap<String, usize>,
    /// Each change happens as a whole or not at all: names with what they stand for then.
    changes: Vec<Vec<(String, Option<usize>)>>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    /// Operations that change something, so far.
    ops: u64,
    /// The power goes off at this one.
    cut_at: u64,
    /// The sync at this operation fails.
    fail_sync_at: u64,
    /// Bytes that files may still grow by.
    space: u64,
    read_only: bool,
}

/// The disk; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct PowerDisk(Arc<Mutex<State>>);

const ROOT: usize = 0;

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl PowerDisk {
    pub(crate) fn new() -> Self {
        let root = Node::directory(Entries::default());
        Self::with(vec![root])
    }

    fn with(nodes: Vec<Node>) -> Self {
        let never = u64::MAX;
        let state =
            State { nodes, ops: 0, cut_at: never, fail_sync_at: never, space: never, read_only: false };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Operations so far: a cut can be placed at each of them.
    pub(crate) fn ops(&self) -> u64 {
        self.state().ops
    }

    pub(crate) fn cut_power_at(&self, op: u64) {
        self.state().cut_at = op;
    }

    pub(crate) fn fail_sync_at(&self, op: u64) {
        self.state().fail_sync_at = op;
    }

    pub(crate) fn set_space(&self, bytes: u64) {
        self.state().space = bytes;
    }

    pub(crate) fn set_read_only(&self) {
        self.state().read_only = true;
    }

    /// The disk as it is found after the power has come back.
    pub(crate) fn survivor(&self, random: &mut Random) -> Self {
        let nodes = self.state().nodes.iter().map(|node| node.survivor(random)).collect();
        Self::with(nodes)
    }
}

impl Node {
    fn file() -> Self {
        Self { live: Vec::new(), synced: Vec::new(), dirty: Vec::new(), locked: false, entries: None }
    }

    fn directory(entries: Entries) -> Self {
        Self { entries: Some(entries), ..Self::file() }
    }

    fn survivor(&self, random: &mut Random) -> Self {
        if let Some(entries) = &self.entries {
            let mut left = entries.synced.clone();
            for change in entries.changes.iter().filter(|_| random.coin()) {
                apply(&mut left, change);
            }
            return Self::directory(Entries { live: left.clone(), synced: left, changes: Vec::new() });
        }
        let mut bytes = self.synced.clone();
        if self.live.len() != self.synced.len() && random.coin() {
            bytes.resize(self.live.len(), 0);
        }
        // All, none, or each for itself.
        let mood = random.below(4);
        for &sector in &self.dirty {
            let keep = match mood {
                0 => true,
                1 => false,
                _ => random.coin(),
            };
            let end = ((sector + 1) * SECTOR).min(self.live.len());
            if keep && sector * SECTOR < end {
                // A sector behind the end brings the length with it.
                bytes.resize(bytes.len().max(end), 0);
                bytes[sector * SECTOR..end].copy_from_slice(&self.live[sector * SECTOR..end]);
            }
        }
        Self { live: bytes.clone(), synced: bytes, ..Self::file() }
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.live);
        self.dirty.clear();
    }

    fn touch(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            if !self.dirty.contains(&sector) {
                self.dirty.push(sector);
            }
        }
    }
}

fn apply(entries: &mut BTreeMap<String, usize>, change: &[(String, Option<usize>)]) {
    for (name, node) in change {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    /// Counts an operation that changes something; after the one at which the power goes, nothing works.
    fn op(&mut self) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if self.ops > self.cut_at {
            return Err(power_is_off());
        }
        self.ops += 1;
        Ok(())
    }

    /// Whether the power went with the operation that was just counted.
    fn power(&self) -> io::Result<()> {
        if self.ops > self.cut_at { Err(power_is_off()) } else { Ok(()) }
    }

    fn take_space(&mut self, bytes: u64) -> io::Result<()> {
        self.space = self.space.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let entries = self.nodes[node].entries.as_ref().ok_or(io::ErrorKind::NotADirectory)?;
                node = *entries.live.get(name.to_str().unwrap()).ok_or_else(not_found)?;
            }
        }
        Ok(node)
    }

    fn split(&self, path: &Path) -> io::Result<(usize, String)> {
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn change(&mut self, dir: usize, change: Vec<(String, Option<usize>)>) -> io::Result<()> {
        let entries = self.nodes[dir].entries.as_mut().ok_or(io::ErrorKind::NotADirectory)?;
        apply(&mut entries.live, &change);
        entries.changes.push(change);
        Ok(())
    }
}

impl Disk for PowerDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let node = match state.find(path) {
            Ok(_) if options.exclusive => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(node) => {
                if options.truncate {
                    state.op()?;
                    state.nodes[node].live.clear();
                }
                node
            }
            Err(_) if options.create => {
                state.op()?;
                let (dir, name) = state.split(path)?;
                let node = state.nodes.len();
                state.nodes.push(Node::file());
                state.change(dir, vec![(name, Some(node))])?;
                node
            }
            Err(e) => return Err(e),
        };
        if options.write && state.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        state.power()?;
        Ok(Arc::new(PowerFile { disk: self.clone(), node, holds: Mutex::new(false) }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.state();
        let node = &state.nodes[state.find(path)?];
        Ok(Metadata { len: node.live.len() as u64, is_dir: node.entries.is_some(), mode: 0o600 })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let entries = state.nodes[state.find(dir)?].entries.as_ref().ok_or(io::ErrorKind::NotADirectory)?;
        Ok(entries.live.keys().cloned().collect())
    }

    fn create_dir(&self, path: &Path, _mode: u32) -> io::Result<()> {
        let mut state = self.state();
        if state.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.op()?;
        let (dir, name) = state.split(path)?;
        let node = state.nodes.len();
        state.nodes.push(Node::directory(Entries::default()));
        state.change(dir, vec![(name, Some(node))])?;
        state.power()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(from)?;
        state.op()?;
        let ((dir, old), (to_dir, new)) = (state.split(from)?, state.split(to)?);
        assert_eq!(dir, to_dir, "a log renames within one directory");
        state.change(dir, vec![(old, None), (new, Some(node))])?;
        state.power()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        state.op()?;
        let (dir, name) = state.split(path)?;
        state.change(dir, vec![(name, None)])?;
        state.power()
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(dir)?;
        state.op()?;
        state.power()?;
        let entries = state.nodes[node].entries.as_mut().ok_or(io::ErrorKind::NotADirectory)?;
        entries.synced.clone_from(&entries.live);
        entries.changes.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct PowerFile {
    disk: PowerDisk,
    node: usize,
    holds: Mutex<bool>,
}

impl File for PowerFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let rest = state.nodes[self.node].live.get(offset as usize..).unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.op()?;
        let bytes = bufs.iter().flat_map(|b| b.iter().copied()).collect::<Vec<_>>();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let growth = end.saturating_sub(state.nodes[self.node].live.len());
        if let Err(e) = state.take_space(growth as u64) {
            // What fits is written all the same.
            let fits = (bytes.len() - growth).min(bytes.len());
            let node = &mut state.nodes[self.node];
            node.live[start..start + fits].copy_from_slice(&bytes[..fits]);
            node.touch(start, start + fits);
            return Err(e);
        }
        let node = &mut state.nodes[self.node];
        let len = node.live.len().max(end);
        node.live.resize(len, 0);
        node.live[start..end].copy_from_slice(&bytes);
        node.touch(start, end);
        state.power()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.op()?;
        state.power()?;
        if state.ops > state.fail_sync_at {
            state.fail_sync_at = u64::MAX;
            return Err(io::Error::from_raw_os_error(5));
        }
        state.nodes[self.node].sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.op()?;
        let end = (offset + len) as usize;
        let growth = end.saturating_sub(state.nodes[self.node].live.len());
        state.take_space(growth as u64)?;
        let node = &mut state.nodes[self.node];
        let len = node.live.len().max(end);
        node.live.resize(len, 0);
        state.power()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.op()?;
        let node = &mut state.nodes[self.node];
        let (old, new) = (node.live.len(), len as usize);
        node.live.resize(new, 0);
        // A cut zeroes the rest of its last sector, and all behind it should the file grow again.
        node.touch(new.min(old), old.max(new));
        state.power()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().nodes[self.node].live.len() as u64)
    }

    fn try_lock(&self, _kind: LockKind) -> io::Result<bool> {
        let mut state = self.disk.state();
        let mut holds = self.holds.lock().unwrap();
        if *holds {
            return Ok(true);
        }
        let free = !state.nodes[self.node].locked;
        state.nodes[self.node].locked = true;
        *holds = free;
        Ok(free)
    }

    fn unlock(&self, _kind: LockKind) -> io::Result<()> {
        let mut holds = self.holds.lock().unwrap();
        if std::mem::take(&mut *holds) {
            self.disk.state().nodes[self.node].locked = false;
        }
        Ok(())
    }

    fn map(&self, _len: usize) -> io::Result<Map> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for PowerFile {
    fn drop(&mut self) {
        let _ = self.unlock(LockKind::OfdExclusive);
    }
}
