//! A branch or leaf page as it lies in the map (or as an inline bucket's image): bounds-checked reading.

use crate::error::{Error, Result};
use crate::format::{BUCKET_FLAG, ELEMENT_SIZE, FLAG_BRANCH, FLAG_LEAF, HEADER_SIZE, Header, u32_at, u64_at};
use crate::search::Keys;

/// A branch or leaf page. The element array lies within the page; keys and values are checked when they are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    /// Header, elements and data, with overflow pages.
    bytes: &'a [u8],
    /// Position of the first byte, in the terms of [`crate::memory::Memory`].
    base: u64,
    header: Header,
}

/// A leaf element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafElement<'a> {
    pub(crate) flags: u32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> Page<'a> {
    /// Checks type and element count. `bytes` is the whole page.
    pub(crate) fn new(bytes: &'a [u8], base: u64, header: Header) -> Result<Self> {
        let page = Self { bytes, base, header };
        match header.flags {
            FLAG_BRANCH if header.count == 0 => Err(page.fault("branch page without elements")),
            FLAG_BRANCH | FLAG_LEAF => {
                if HEADER_SIZE + usize::from(header.count) * ELEMENT_SIZE > bytes.len() {
                    return Err(page.fault(format!(
                        "{} elements do not fit into {} bytes",
                        header.count,
                        bytes.len()
                    )));
                }
                Ok(page)
            }
            flags => Err(page.fault(format!("type {flags:#x}, expected branch (0x1) or leaf (0x2)"))),
        }
    }

    /// The leaf image of an inline bucket: `bytes` is what follows the bucket header.
    pub(crate) fn inline(bytes: &'a [u8], base: u64) -> Result<Self> {
        if bytes.len() < HEADER_SIZE {
            return Err(Error::corrupt(
                0,
                format!("inline bucket of {} bytes has no page header", bytes.len()),
            ));
        }
        let page = Self::new(bytes, base, Header::decode(bytes))?;
        if !page.is_leaf() {
            return Err(page.fault("inline bucket is not a leaf"));
        }
        Ok(page)
    }

    #[inline]
    pub(crate) fn is_leaf(&self) -> bool {
        self.header.flags == FLAG_LEAF
    }

    pub(crate) fn id(&self) -> u64 {
        self.header.id
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.header.count)
    }

    /// Pages it occupies.
    pub(crate) fn pages(&self) -> u64 {
        u64::from(self.header.overflow) + 1
    }

    /// Bytes in use: headers, keys and values.
    pub(crate) fn used(&self) -> Result<usize> {
        let mut used = HEADER_SIZE + self.len() * ELEMENT_SIZE;
        for i in 0..self.len() {
            used += self.key(i)?.len();
            if self.is_leaf() {
                used += self.leaf(i)?.value.len();
            }
        }
        Ok(used)
    }

    /// Element `i` of a leaf page (`i < len`).
    #[inline]
    pub(crate) fn leaf(&self, i: usize) -> Result<LeafElement<'a>> {
        debug_assert!(self.is_leaf());
        let at = HEADER_SIZE + i * ELEMENT_SIZE;
        let element = &self.bytes[at..at + ELEMENT_SIZE];
        let start = at + u32_at(element, 4) as usize;
        let middle = start + u32_at(element, 8) as usize;
        let end = middle + u32_at(element, 12) as usize;
        if end > self.bytes.len() {
            return Err(self.outside(i, end));
        }
        Ok(LeafElement {
            flags: u32_at(element, 0),
            key: &self.bytes[start..middle],
            value: &self.bytes[middle..end],
        })
    }

    /// Whether leaf element `i` is a bucket; touches the element array only.
    pub(crate) fn is_bucket(&self, i: usize) -> bool {
        u32_at(self.bytes, HEADER_SIZE + i * ELEMENT_SIZE) & BUCKET_FLAG != 0
    }

    /// Key of element `i` (`i < len`).
    #[inline]
    pub(crate) fn key(&self, i: usize) -> Result<&'a [u8]> {
        let at = HEADER_SIZE + i * ELEMENT_SIZE;
        let element = &self.bytes[at..at + ELEMENT_SIZE];
        let shift = if self.is_leaf() { 4 } else { 0 };
        let start = at + u32_at(element, shift) as usize;
        let end = start + u32_at(element, shift + 4) as usize;
        self.bytes.get(start..end).ok_or_else(|| self.outside(i, end))
    }

    /// Child page of branch element `i` (`i < len`).
    pub(crate) fn child(&self, i: usize) -> u64 {
        debug_assert!(!self.is_leaf());
        u64_at(self.bytes, HEADER_SIZE + i * ELEMENT_SIZE + 8)
    }

    /// Position of a slice of this page's bytes, in the terms of `base`.
    pub(crate) fn position(&self, part: &[u8]) -> u64 {
        self.base + (part.as_ptr().addr() - self.bytes.as_ptr().addr()) as u64
    }

    #[cold]
    fn outside(&self, i: usize, end: usize) -> Error {
        self.fault(format!("element {i} ends at byte {end} of {}", self.bytes.len()))
    }

    pub(crate) fn fault(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.header.id, what)
    }
}

impl<'a> Keys<'a> for Page<'a> {
    #[inline]
    fn count(self) -> usize {
        self.len()
    }

    #[inline]
    fn key_at(self, i: usize) -> Result<&'a [u8]> {
        self.key(i)
    }
}
