//! The bytes of the format: meta pages, page headers, element headers.
//!
//! Pure functions over byte slices; no page cache, no file, no transaction lives here. Integers are little-endian.

/// Longest key in bytes.
pub const MAX_KEY_SIZE: usize = 32768;
/// Longest value in bytes.
pub const MAX_VALUE_SIZE: usize = (1 << 31) - 2;

/// Bytes of a page header, and of a bucket header.
pub(crate) const HEADER_SIZE: usize = 16;
/// Bytes of one element header, leaf or branch.
pub(crate) const ELEMENT_SIZE: usize = 16;
/// `Meta::freelist` when no freelist is stored.
pub(crate) const NO_FREELIST: u64 = u64::MAX;
/// Leaf element flag: the value is a bucket.
pub(crate) const BUCKET_FLAG: u32 = 1;

pub(crate) const FLAG_BRANCH: u16 = 0x01;
pub(crate) const FLAG_LEAF: u16 = 0x02;
pub(crate) const FLAG_META: u16 = 0x04;
pub(crate) const FLAG_FREELIST: u16 = 0x10;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of the meta fields including the checksum.
const META_SIZE: usize = 64;
/// Bytes a meta page needs: header and fields. Smaller than a disk sector, so it is never torn.
pub(crate) const META_PAGE_BYTES: usize = HEADER_SIZE + META_SIZE;

const _: () = assert!(size_of::<usize>() == 8, "offsets into the map are file offsets: 64-bit targets only");

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A page header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    /// Pages that follow the first one and belong to it.
    pub(crate) overflow: u32,
}

impl Header {
    /// Reads the first 16 bytes of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self {
            id: u64_at(bytes, 0),
            flags: u16_at(bytes, 8),
            count: u16_at(bytes, 10),
            overflow: u32_at(bytes, 12),
        }
    }

    pub(crate) fn encode(self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        out[..8].copy_from_slice(&self.id.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..].copy_from_slice(&self.overflow.to_le_bytes());
        out
    }
}

/// The two header words of a bucket: root page (0: the bucket is inline) and sequence number.
pub(crate) fn bucket_header(root: u64, sequence: u64) -> [u8; HEADER_SIZE] {
    let mut out = [0; HEADER_SIZE];
    out[..8].copy_from_slice(&root.to_le_bytes());
    out[8..].copy_from_slice(&sequence.to_le_bytes());
    out
}

/// A meta page's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes per page.
    pub page_size: u32,
    /// Page at the root of the top-level tree, whose leaf elements are buckets.
    pub root: u64,
    /// Sequence number of the top level; unused by everybody, kept as found.
    pub sequence: u64,
    /// First page of the stored freelist; `u64::MAX` when none is stored.
    pub freelist: u64,
    /// First page id never used; the file holds at least this many pages.
    pub high_water: u64,
    /// Transaction that wrote this page.
    pub txid: u64,
}

/// Why a meta page is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaFault {
    Magic,
    Version(u32),
    Checksum { found: u64, expected: u64 },
}

impl Meta {
    /// Reads a meta page from its first [`META_PAGE_BYTES`] bytes.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, MetaFault> {
        if page.len() < META_PAGE_BYTES {
            return Err(MetaFault::Magic);
        }
        let fields = &page[HEADER_SIZE..META_PAGE_BYTES];
        if u32_at(fields, 0) != MAGIC {
            return Err(MetaFault::Magic);
        }
        let version = u32_at(fields, 4);
        if version != VERSION {
            return Err(MetaFault::Version(version));
        }
        let (found, expected) = (u64_at(fields, 56), fnv1a(&fields[..56]));
        if found != expected {
            return Err(MetaFault::Checksum { found, expected });
        }
        Ok(Self {
            page_size: u32_at(fields, 8),
            root: u64_at(fields, 16),
            sequence: u64_at(fields, 24),
            freelist: u64_at(fields, 32),
            high_water: u64_at(fields, 40),
            txid: u64_at(fields, 48),
        })
    }

    /// A whole meta page with this page id in its header.
    pub(crate) fn encode(&self, id: u64) -> Vec<u8> {
        let mut page = vec![0; self.page_size as usize];
        page[..HEADER_SIZE].copy_from_slice(&Header { id, flags: FLAG_META, count: 0, overflow: 0 }.encode());
        let fields = &mut page[HEADER_SIZE..META_PAGE_BYTES];
        fields[..4].copy_from_slice(&MAGIC.to_le_bytes());
        fields[4..8].copy_from_slice(&VERSION.to_le_bytes());
        fields[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        let words = [self.root, self.sequence, self.freelist, self.high_water, self.txid];
        for (i, word) in words.iter().enumerate() {
            fields[16 + i * 8..24 + i * 8].copy_from_slice(&word.to_le_bytes());
        }
        let sum = fnv1a(&fields[..56]);
        fields[56..64].copy_from_slice(&sum.to_le_bytes());
        page
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest meta page of a database written by etcd 3.6.14, first 80 bytes.
    const ETCD_META: [u8; 80] = [
        0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0, 0, 0x10, 0, 0, 0,
        0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0x1a, 0, 0, 0, 0, 0, 0, 0, 0x5c, 0xbb, 0x72, 0x57, 0x99, 0xb1, 0xe3,
        0x06,
    ];

    #[test]
    fn a_meta_page_of_etcd_is_read_and_written_to_the_byte() {
        let meta = Meta::decode(&ETCD_META).unwrap();
        let expected =
            Meta { page_size: 4096, root: 2, sequence: 0, freelist: NO_FREELIST, high_water: 7, txid: 26 };
        assert_eq!(meta, expected);
        assert_eq!(meta.encode(0)[..80], ETCD_META);
    }

    #[test]
    fn any_flipped_bit_of_a_meta_page_is_seen() {
        for bit in HEADER_SIZE * 8..META_PAGE_BYTES * 8 {
            let mut page = ETCD_META;
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&page).is_err(), "bit {bit}");
        }
    }
}
