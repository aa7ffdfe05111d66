//! [`RealDisk`]: each call of the traits is one system call.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::{Disk, File, LockKind, Map, Metadata, OpenOptions};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(options.write)
            .create(options.create && !options.exclusive)
            .create_new(options.exclusive)
            .truncate(options.truncate)
            .mode(if options.mode == 0 { 0o600 } else { options.mode })
            .open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let meta = fs::metadata(path)?;
        let is_dir = meta.is_dir();
        Ok(Metadata { len: if is_dir { 0 } else { meta.len() }, is_dir, mode: meta.mode() & 0o7777 })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().mode(mode).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        if let [one] = bufs {
            return self.file.write_all_at(one, offset);
        }
        let mut owned: Vec<io::IoSlice<'_>> = bufs.to_vec();
        let mut rest = &mut owned[..];
        io::IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // The kernel takes at most IOV_MAX slices a call.
            let batch = &rest[..rest.len().min(libc::UIO_MAXIOV as usize)];
            match rustix::io::pwritev(&self.file, batch, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    io::IoSlice::advance_slices(&mut rest, n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        // Reserving much takes long enough for a signal to arrive.
        let reserve = || rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), offset, len);
        match rustix::io::retry_on_intr(reserve) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let end = offset + len;
                if self.file.metadata()?.len() < end { self.file.set_len(end) } else { Ok(()) }
            }
            result => result.map_err(Into::into),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        match kind {
            LockKind::OfdExclusive => match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&ofd(libc::F_WRLCK))) {
                Ok(_) => Ok(true),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
                Err(e) => Err(e.into()),
            },
            LockKind::FlockExclusive => flocked(self.file.try_lock()),
            LockKind::FlockShared => flocked(self.file.try_lock_shared()),
        }
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        match kind {
            LockKind::OfdExclusive => {
                fcntl(&self.file, FcntlArg::F_OFD_SETLK(&ofd(libc::F_UNLCK)))?;
                Ok(())
            }
            LockKind::FlockExclusive | LockKind::FlockShared => self.file.unlock(),
        }
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        memmap2::MmapOptions::new().len(len).map_raw_read_only(&self.file).map(Map::new)
    }
}

/// An OFD lock request over the whole file.
fn ofd(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn flocked(result: Result<(), fs::TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}
