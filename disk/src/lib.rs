#![doc = include_str!("../README.md")]
//!
//! # The contract
//!
//! Storage engines in this workspace never call `std::fs`: they take a [`Disk`] and get [`File`]s from it.
//! [`RealDisk`] passes each call on to one system call. A simulated disk takes the same calls and models what
//! real disks do when the power fails.
//!
//! What lives here: the two traits, their plain data types and their implementations. What may not: any knowledge
//! of what the files contain.
//!
//! # Durability rules every implementation keeps
//!
//! | after | survives a power cut |
//! |---|---|
//! | `write_at` | nothing is promised: any subset of the written 512-byte sectors may be there |
//! | [`File::sync_data`] | the file's contents and its length |
//! | [`File::sync_all`] | the same, and its other metadata |
//! | [`Disk::open`] with `create`, [`Disk::rename`], [`Disk::remove_file`], [`Disk::create_dir`] | nothing until [`Disk::sync_dir`] on the parent directory |
//!
//! After a failed sync nothing is known about the bytes written since the last good one: the caller must stop using
//! the file (the kernel may have dropped the dirty pages and report success the next time).

mod map;
mod real;
mod sim;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use map::Map;
pub use real::RealDisk;
pub use sim::{Faults, Latency, PowerCut, SimDisk};

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Open for reading and writing; `false` opens read-only.
    pub write: bool,
    /// Create the file if it is missing (needs `write`).
    pub create: bool,
    /// Fail with [`io::ErrorKind::AlreadyExists`] if it exists (needs `create`).
    pub exclusive: bool,
    /// Cut an existing file to length 0 (needs `write`).
    pub truncate: bool,
    /// Permission bits of a file created here, before the umask; 0 stands for `0o600`.
    pub mode: u32,
}

impl OpenOptions {
    /// Read an existing file.
    #[must_use]
    pub fn read() -> Self {
        Self::default()
    }

    /// Read and write an existing file.
    #[must_use]
    pub fn write() -> Self {
        Self { write: true, ..Self::default() }
    }

    /// Read and write; create the file if it is missing.
    #[must_use]
    pub fn create() -> Self {
        Self { write: true, create: true, ..Self::default() }
    }

    /// Read and write a file that must not exist yet.
    #[must_use]
    pub fn create_new() -> Self {
        Self { write: true, create: true, exclusive: true, ..Self::default() }
    }

    /// The same, with these permission bits for a file that is created.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// The same, with an existing file cut to length 0.
    #[must_use]
    pub fn truncate(self) -> Self {
        Self { truncate: true, ..self }
    }
}

/// What [`Disk::metadata`] tells of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes (0 for a directory).
    pub len: u64,
    /// The path is a directory.
    pub is_dir: bool,
    /// Unix permission bits (`0o7777` mask).
    pub mode: u32,
}

/// The kind of an advisory lock. The two kinds do not see each other, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Open-file-description write lock over the whole file (`fcntl F_OFD_SETLK`); etcd's WAL segments.
    OfdExclusive,
    /// `flock(LOCK_EX)`; a bbolt database opened for writing.
    FlockExclusive,
    /// `flock(LOCK_SH)`; a bbolt database opened read-only.
    FlockShared,
}

/// A file system, or a simulation of one.
///
/// Paths are used as given: relative ones are relative to the process (real) or the root (simulated).
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens or creates a file.
    ///
    /// # Errors
    /// As the operating system: not found, already exists, no permission, no space, …
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>>;

    /// Length and kind of a path.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such path.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Names (not paths) in a directory, sorted bytewise; `.` and `..` left out. Names that are not UTF-8 are skipped.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or as the operating system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes one directory; its parent must exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or as the operating system.
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Renames a file or directory, replacing an existing file.
    ///
    /// # Errors
    /// As the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Open handles and maps of it stay usable.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or as the operating system.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all in it.
    ///
    /// # Errors
    /// As the operating system.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory's entries (creations, renames, removals) durable.
    ///
    /// # Errors
    /// As the operating system; after an error the state of the entries is unknown.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether the path exists; any error but "not found" is returned.
    ///
    /// # Errors
    /// As [`Disk::metadata`], without not-found.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes a directory and its missing parents. Each new directory's parent is synced.
    ///
    /// # Errors
    /// As [`Disk::create_dir`]; [`io::ErrorKind::AlreadyExists`] only when the path is a file.
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        if self.exists(path)? {
            let is_dir = self.metadata(path)?.is_dir;
            return if is_dir { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) };
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent, mode)?;
        }
        match self.create_dir(path, mode) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    /// Reads a whole file into memory. Only for files whose size the caller has bounded.
    ///
    /// # Errors
    /// As [`Disk::open`] and [`File::read_exact_at`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenOptions::read())?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// An open file. All reads and writes carry their position; the handle has no cursor.
///
/// Dropping the last handle closes the file and releases its locks.
#[expect(clippy::len_without_is_empty, reason = "a fallible length has no use for an `is_empty` beside it")]
pub trait File: fmt::Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file, 0 beyond it.
    ///
    /// # Errors
    /// As the operating system.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bufs`, one after the other, from `offset` on.
    ///
    /// # Errors
    /// As the operating system ([`io::ErrorKind::StorageFull`] when there is no space); a part may have been written.
    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes contents and length durable (`fdatasync`).
    ///
    /// # Errors
    /// After an error nothing written since the last good sync is known: stop using the file.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and all metadata durable (`fsync`).
    ///
    /// # Errors
    /// As [`File::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Reserves space for `offset..offset + len` and extends the length to its end; new bytes read as zero
    /// (`fallocate`, mode 0). Where the file system has no such call the file is only extended.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`], or as the operating system.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Cuts or extends the file; new bytes read as zero and need not have space reserved.
    ///
    /// # Errors
    /// As the operating system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// As the operating system.
    fn len(&self) -> io::Result<u64>;

    /// Takes an advisory lock without waiting; `false` when another handle holds it.
    ///
    /// # Errors
    /// As the operating system, without "would block".
    fn try_lock(&self, kind: LockKind) -> io::Result<bool>;

    /// Releases the lock of this kind; later writers may take it.
    ///
    /// # Errors
    /// As the operating system.
    fn unlock(&self, kind: LockKind) -> io::Result<()>;

    /// Maps the first `len` bytes read-only and shared: later writes to the file show in the map. `len` may exceed
    /// the file's length; bytes beyond the end must not be touched until the file has grown over them.
    ///
    /// # Errors
    /// As the operating system.
    fn map(&self, len: usize) -> io::Result<Map>;

    /// Reads exactly `buf.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file is shorter, or as [`File::read_at`].
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let n = self.read_at(&mut buf[done..], offset + done as u64)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += n;
        }
        Ok(())
    }

    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// As [`File::write_vectored_at`].
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_at(&[io::IoSlice::new(buf)], offset)
    }
}
