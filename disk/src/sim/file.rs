//! One simulated file: what readers see, what is durable, and what lies between the two.
//!
//! Invariant: applying all of `pending`, in order, to `durable` gives the bytes of `cache`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::content::{CHUNK, Cache, Sparse};
use super::random::Random;

/// Disks write sectors of this size atomically; anything larger can be torn.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

#[derive(Debug)]
pub(super) struct FileData {
    pub(super) cache: Cache,
    durable: Sparse,
    pending: Vec<Change>,
    allocated: Extents,
}

impl FileData {
    pub(super) fn new() -> Self {
        Self::with(Sparse::default(), Extents::default())
    }

    fn with(bytes: Sparse, allocated: Extents) -> Self {
        Self { cache: Cache::Sparse(bytes.clone()), durable: bytes, pending: Vec::new(), allocated }
    }

    /// How many bytes of a range, from its start, have space or find it in the `left` bytes that are free.
    pub(super) fn fitting(&self, offset: u64, len: u64, left: u64) -> u64 {
        if self.allocated.missing(offset, len) <= left {
            return len;
        }
        // The first chunk that has no space and finds none ends it.
        let (mut at, mut left) = (offset, left);
        while at < offset + len {
            let next = (at / CHUNK + 1) * CHUNK;
            let needed = self.allocated.missing(at, next - at);
            if needed > left {
                break;
            }
            left -= needed;
            at = next;
        }
        (at - offset).min(len)
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated.bytes()
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.cache.write(bytes, offset)?;
        self.allocated.add(offset, bytes.len() as u64);
        self.pending.push(Change::Write { offset, bytes: bytes.into() });
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.cache.set_len(len)?;
        self.allocated.cut(len);
        self.pending.push(Change::SetLen(len));
        Ok(())
    }

    /// `fallocate`: reserves the range and extends the file over it.
    pub(super) fn allocate(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.allocated.add(offset, len);
        let end = offset + len;
        if end > self.cache.len()? {
            self.cache.set_len(end)?;
            self.pending.push(Change::SetLen(end));
        }
        Ok(())
    }

    /// Everything becomes durable.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// A failed sync: the dirty pages are gone, readers see what was durable.
    pub(super) fn drop_dirty(&mut self) -> io::Result<()> {
        self.pending.clear();
        self.allocated.cut(self.durable.len());
        self.cache.replace(&self.durable)
    }

    /// Turns one bit over, in the cache and on the medium.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u32) -> io::Result<()> {
        let mut byte = [0];
        if self.cache.read(&mut byte, offset)? == 1 {
            self.cache.write(&[byte[0] ^ 1 << (bit % 8)], offset)?;
        }
        if self.durable.read(&mut byte, offset) == 1 {
            self.durable.write(&[byte[0] ^ 1 << (bit % 8)], offset);
        }
        // A write that becomes durable later must not heal the bit.
        for change in &mut self.pending {
            if let Change::Write { offset: start, bytes } = change
                && let Some(at) = offset.checked_sub(*start)
                && let Some(byte) = Arc::make_mut(bytes).get_mut(at as usize)
            {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    /// A copy for another disk, at rest or after a power cut.
    pub(super) fn survivor(&self, random: &mut Random) -> Self {
        let mut bytes = self.durable.clone();
        match random.below(4) {
            0 => {}
            1 => self.pending.iter().for_each(|change| apply(&mut bytes, change)),
            _ => self.keep_some(&mut bytes, random),
        }
        let mut allocated = self.allocated.clone();
        allocated.cut(bytes.len());
        Self::with(bytes, allocated)
    }

    /// Each sector of each write is kept or lost by itself, in whatever order the disk liked; the length is one the
    /// file had at some time since the last sync. A sector is kept as the page cache held it after the write, so
    /// what an older write put into the same sector comes with it.
    fn keep_some(&self, bytes: &mut Sparse, random: &mut Random) {
        let lengths_kept = random.below(self.pending.len() as u64 + 1) as usize;
        let mut len = bytes.len();
        let mut cached = self.durable.clone();
        for (i, change) in self.pending.iter().enumerate() {
            apply(&mut cached, change);
            match change {
                Change::Write { offset, bytes: written } => {
                    keep_some_sectors(bytes, &cached, *offset, written.len() as u64, random);
                    if i < lengths_kept {
                        len = len.max(offset + written.len() as u64);
                    }
                }
                Change::SetLen(new) if i < lengths_kept => {
                    bytes.set_len(*new);
                    len = *new;
                }
                Change::SetLen(_) => {}
            }
        }
        bytes.set_len(len);
    }

    /// A copy of the running state, durable and pending parts apart.
    pub(super) fn fork(&self) -> io::Result<Self> {
        Ok(Self {
            cache: Cache::Sparse(self.cache.copy()?),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            allocated: self.allocated.clone(),
        })
    }
}

fn apply(bytes: &mut Sparse, change: &Change) {
    match change {
        Change::Write { offset, bytes: written } => bytes.write(written, *offset),
        Change::SetLen(len) => bytes.set_len(*len),
    }
}

/// Copies some of the sectors that `offset..offset + len` touches, whole, from the page cache.
fn keep_some_sectors(bytes: &mut Sparse, cached: &Sparse, offset: u64, len: u64, random: &mut Random) {
    let mut sector = [0; SECTOR];
    for number in offset / SECTOR as u64..(offset + len).div_ceil(SECTOR as u64) {
        if random.below(2) == 0 {
            let start = number * SECTOR as u64;
            let n = cached.read(&mut sector, start);
            bytes.write(&sector[..n], start);
        }
    }
}

/// The ranges of a file that have space, in whole chunks: start → end.
#[derive(Clone, Debug, Default)]
struct Extents(BTreeMap<u64, u64>);

impl Extents {
    fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    fn missing(&self, offset: u64, len: u64) -> u64 {
        let (start, end) = whole_chunks(offset, len);
        let covered: u64 = self
            .0
            .range(..end)
            .rev()
            .take_while(|&(_, &e)| e > start)
            .map(|(&s, &e)| e.min(end) - s.max(start))
            .sum();
        (end - start).saturating_sub(covered)
    }

    fn add(&mut self, offset: u64, len: u64) {
        let (mut start, mut end) = whole_chunks(offset, len);
        while let Some((&s, &e)) = self.0.range(..=end).next_back().filter(|&(_, &e)| e >= start) {
            self.0.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        if end > start {
            self.0.insert(start, end);
        }
    }

    fn cut(&mut self, len: u64) {
        let limit = len.div_ceil(CHUNK) * CHUNK;
        self.0.split_off(&limit);
        if let Some(end) = self.0.values_mut().next_back() {
            *end = limit.min(*end);
        }
    }
}

fn whole_chunks(offset: u64, len: u64) -> (u64, u64) {
    if len == 0 { (offset, offset) } else { (offset / CHUNK * CHUNK, (offset + len).div_ceil(CHUNK) * CHUNK) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_merge_and_count() {
        let mut extents = Extents::default();
        extents.add(0, 1);
        extents.add(3 * CHUNK, CHUNK);
        assert_eq!(extents.missing(0, 4 * CHUNK), 2 * CHUNK);
        extents.add(CHUNK, 2 * CHUNK);
        assert_eq!((extents.bytes(), extents.0.len()), (4 * CHUNK, 1));
        assert_eq!(extents.missing(CHUNK + 1, 5), 0);
        extents.cut(CHUNK + 1);
        assert_eq!(extents.bytes(), 2 * CHUNK);
    }

    #[test]
    fn survivors_hold_synced_bytes_and_only_whole_sectors_of_the_rest() {
        let mut file = FileData::new();
        file.write(&[1; 2048], 0).unwrap();
        file.sync();
        file.write(&[2; 2048], 0).unwrap();
        file.write(&[3; 1024], 2048).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let survivor = file.survivor(&mut Random::new(seed));
            let mut buf = vec![9; 4096];
            let n = survivor.cache.read(&mut buf, 0).unwrap();
            assert!(n == 2048 || n == 3072, "length {n}");
            for sector in buf[..n].chunks(SECTOR) {
                assert!(sector.iter().all(|b| *b == sector[0]), "a sector is written as a whole");
            }
            assert!(buf[..2048].iter().all(|b| matches!(b, 1 | 2)));
            assert!(buf[2048..n].iter().all(|b| matches!(b, 0 | 3)));
            seen.insert(buf);
        }
        assert!(seen.len() > 30, "{} different survivors", seen.len());
    }

    #[test]
    fn a_kept_sector_brings_the_older_write_to_it_along() {
        let mut file = FileData::new();
        file.write(&[0; 512], 0).unwrap();
        file.sync();
        file.write(&[1; 10], 0).unwrap();
        file.write(&[2; 10], 20).unwrap();
        let mut both = 0;
        for seed in 0..200 {
            let mut buf = [9; 512];
            file.survivor(&mut Random::new(seed)).cache.read(&mut buf, 0).unwrap();
            assert!(buf[20] == 0 || buf[0] == 1, "seed {seed}: the second write came without the first");
            both += u32::from(buf[20] == 2);
        }
        assert!((40..160).contains(&both), "{both}");
    }

    #[test]
    fn a_sync_does_not_heal_a_flipped_bit() {
        let mut file = FileData::new();
        file.write(b"abc", 0).unwrap();
        file.flip_bit(1, 0).unwrap();
        file.sync();
        let (mut cached, mut durable) = ([0; 3], [0; 3]);
        file.cache.read(&mut cached, 0).unwrap();
        file.durable.read(&mut durable, 0);
        assert_eq!((&cached, &durable), (b"acc", b"acc"));
    }
}
