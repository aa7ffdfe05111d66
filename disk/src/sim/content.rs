//! The bytes of one simulated file: sparse, cheap to copy, and mappable.
//!
//! A file's bytes live in 4 KiB chunks that copies share until they are written. Once somebody maps the file they
//! move to an anonymous kernel file (memfd), because a map must show later writes; from then on reads and writes go
//! there. Holes read as zero and cost nothing in either form.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::Map;

pub(super) const CHUNK: u64 = 4096;

type Chunk = [u8; CHUNK as usize];

/// Sparse bytes of a given length.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    chunks: BTreeMap<u64, Arc<Chunk>>,
    len: u64,
}

impl Sparse {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        for (chunk, within, at, part) in pieces(offset, n) {
            match self.chunks.get(&chunk) {
                Some(bytes) => buf[at..at + part].copy_from_slice(&bytes[within..within + part]),
                None => buf[at..at + part].fill(0),
            }
        }
        n
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for (chunk, within, at, part) in pieces(offset, bytes.len()) {
            let target = self.chunks.entry(chunk).or_insert_with(|| Arc::new([0; CHUNK as usize]));
            Arc::make_mut(target)[within..within + part].copy_from_slice(&bytes[at..at + part]);
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.chunks.split_off(&len.div_ceil(CHUNK));
            let within = (len % CHUNK) as usize;
            if let (true, Some(chunk)) = (within > 0, self.chunks.get_mut(&(len / CHUNK))) {
                Arc::make_mut(chunk)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

/// `(chunk, offset in the chunk, offset in the buffer, length)` of each piece of a range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = offset + done as u64;
        let within = (position % CHUNK) as usize;
        let part = (CHUNK as usize - within).min(len - done);
        let piece = (position / CHUNK, within, done, part);
        done += part;
        Some(piece)
    })
}

/// What readers of a file see now: the page cache.
#[derive(Debug)]
pub(super) enum Cache {
    Sparse(Sparse),
    Mapped(fs::File),
}

impl Cache {
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Sparse(sparse) => Ok(sparse.len()),
            Self::Mapped(file) => Ok(file.metadata()?.len()),
        }
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Sparse(sparse) => Ok(sparse.read(buf, offset)),
            Self::Mapped(file) => {
                let n = usize::try_from(file.metadata()?.len().saturating_sub(offset)).unwrap_or(usize::MAX);
                let n = n.min(buf.len());
                file.read_exact_at(&mut buf[..n], offset)?;
                Ok(n)
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Sparse(sparse) => {
                sparse.write(bytes, offset);
                Ok(())
            }
            Self::Mapped(file) => file.write_all_at(bytes, offset),
        }
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        match self {
            Self::Sparse(sparse) => {
                sparse.set_len(len);
                Ok(())
            }
            Self::Mapped(file) => file.set_len(len),
        }
    }

    /// A map that shows every later write through this cache.
    pub(super) fn map(&mut self, len: usize) -> io::Result<Map> {
        if let Self::Sparse(sparse) = self {
            *self = Self::Mapped(to_memfd(sparse)?);
        }
        let Self::Mapped(file) = self else {
            return Err(io::Error::other("a mapped file has its bytes in a memfd"));
        };
        memmap2::MmapOptions::new().len(len).map_raw_read_only(&*file).map(Map::new)
    }

    /// A copy that shares nothing with this one: maps of the original do not show its writes.
    pub(super) fn copy(&self) -> io::Result<Sparse> {
        match self {
            Self::Sparse(sparse) => Ok(sparse.clone()),
            Self::Mapped(file) => from_file(file),
        }
    }

    /// Replaces all bytes, as readers and maps see them.
    pub(super) fn replace(&mut self, with: &Sparse) -> io::Result<()> {
        match self {
            Self::Sparse(sparse) => *sparse = with.clone(),
            Self::Mapped(file) => {
                // Never cut to 0 first: a reader of a map would find no page there and be killed.
                let len = file.metadata()?.len();
                if len > 0 {
                    use rustix::fs::FallocateFlags;
                    let zeroed = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    rustix::fs::fallocate(&*file, zeroed, 0, len)?;
                }
                fill(file, with)?;
            }
        }
        Ok(())
    }
}

fn to_memfd(sparse: &Sparse) -> io::Result<fs::File> {
    let file = fs::File::from(rustix::fs::memfd_create("simulated-file", rustix::fs::MemfdFlags::CLOEXEC)?);
    fill(&file, sparse)?;
    Ok(file)
}

fn fill(file: &fs::File, sparse: &Sparse) -> io::Result<()> {
    file.set_len(sparse.len)?;
    for (chunk, bytes) in &sparse.chunks {
        let offset = chunk * CHUNK;
        let n = usize::try_from(sparse.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        file.write_all_at(&bytes[..n], offset)?;
    }
    Ok(())
}

/// Reads the parts of the file that are not holes.
fn from_file(file: &fs::File) -> io::Result<Sparse> {
    let mut sparse = Sparse { chunks: BTreeMap::new(), len: file.metadata()?.len() };
    let mut offset = 0;
    while offset < sparse.len {
        let Ok(data) = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) else { break };
        let mut chunk = data / CHUNK;
        let hole = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(data))?;
        while chunk * CHUNK < hole {
            let mut bytes = [0; CHUNK as usize];
            let n = usize::try_from(sparse.len - chunk * CHUNK).unwrap_or(usize::MAX).min(bytes.len());
            file.read_exact_at(&mut bytes[..n], chunk * CHUNK)?;
            sparse.chunks.insert(chunk, Arc::new(bytes));
            chunk += 1;
        }
        offset = hole;
    }
    Ok(sparse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_read_as_zero_and_cutting_clears_the_tail() {
        let mut sparse = Sparse::default();
        sparse.write(b"abc", 5000);
        sparse.set_len(64_000_000);
        let mut buf = [9; 8];
        assert_eq!(sparse.read(&mut buf, 4998), 8);
        assert_eq!(&buf, b"\0\0abc\0\0\0");
        sparse.set_len(5001);
        sparse.set_len(6000);
        assert_eq!(sparse.read(&mut buf, 5000), 8);
        assert_eq!(&buf, b"a\0\0\0\0\0\0\0");
        assert_eq!(sparse.chunks.len(), 1);
        assert_eq!(sparse.read(&mut buf, 7000), 0);
    }

    #[test]
    fn a_mapped_cache_reads_and_copies_like_a_sparse_one() {
        let mut cache = Cache::Sparse(Sparse::default());
        cache.write(b"xyz", 100_000).unwrap();
        let map = cache.map(100_003).unwrap();
        assert_eq!(map.len(), 100_003);
        cache.write(b"tail", 100_001).unwrap();
        let copy = cache.copy().unwrap();
        let (mut a, mut b) = ([0; 16], [0; 16]);
        assert_eq!(cache.read(&mut a, 99_995).unwrap(), 10);
        assert_eq!(copy.read(&mut b, 99_995), 10);
        assert_eq!((&a, copy.len()), (&b, 100_005));
        cache.replace(&Sparse::default()).unwrap();
        assert_eq!(cache.len().unwrap(), 0);
    }
}
