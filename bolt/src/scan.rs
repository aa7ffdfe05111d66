//! Which pages are in use: a walk over everything reachable from the root, when a file is opened for writing.

use crate::error::{Error, Result};
use crate::format::FLAG_FREELIST;
use crate::freelist::{FreeRuns, Run};
use crate::page::Page;
use crate::snapshot::Snapshot;
use crate::tree::bucket_root;

/// One bit per page.
#[derive(Debug)]
pub(crate) struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    pub(crate) fn new(pages: u64) -> Self {
        Self { words: vec![0; pages.div_ceil(64) as usize] }
    }

    /// Adds a page; whether it was new.
    pub(crate) fn insert(&mut self, page: u64) -> bool {
        let (word, bit) = (&mut self.words[(page / 64) as usize], 1 << (page % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(crate) fn contains(&self, page: u64) -> bool {
        self.words[(page / 64) as usize] & 1 << (page % 64) != 0
    }
}

/// All pages from 2 to the high-water mark that no bucket reaches.
///
/// The stored freelist is not consulted: what is reachable must never be taken for free, whatever a damaged list says.
pub(crate) fn free_pages(snapshot: &Snapshot) -> Result<FreeRuns> {
    let meta = &snapshot.meta;
    let mut used = PageSet::new(meta.high_water);
    let mut open = vec![meta.root];
    if meta.freelist != crate::format::NO_FREELIST {
        let (header, _) = snapshot.header(meta.freelist)?;
        if header.flags != FLAG_FREELIST {
            return Err(Error::corrupt(
                meta.freelist,
                format!("type {:#x}, expected freelist", header.flags),
            ));
        }
        mark(&mut used, meta.freelist, u64::from(header.overflow) + 1)?;
    }
    while let Some(id) = open.pop() {
        let page = snapshot.page(id)?;
        mark(&mut used, id, page.pages())?;
        if page.is_leaf() {
            open_buckets(&page, &mut open)?;
        } else {
            open.extend((0..page.len()).map(|i| page.child(i)));
        }
    }
    let mut free = FreeRuns::default();
    let mut start = None;
    for id in 2..=meta.high_water {
        let is_free = id < meta.high_water && !used.contains(id);
        match start {
            None if is_free => start = Some(id),
            Some(first) if !is_free => {
                free.insert(Run { start: first, len: id - first })?;
                start = None;
            }
            _ => {}
        }
    }
    Ok(free)
}

fn mark(used: &mut PageSet, start: u64, len: u64) -> Result<()> {
    for page in start..start + len {
        if !used.insert(page) {
            return Err(Error::corrupt(page, "used twice"));
        }
    }
    Ok(())
}

/// Root pages of the buckets in a leaf; inline ones are checked and have none.
fn open_buckets(page: &Page<'_>, open: &mut Vec<u64>) -> Result<()> {
    for i in 0..page.len() {
        if !page.is_bucket(i) {
            continue;
        }
        let value = page.leaf(i)?.value;
        match bucket_root(value)?.0 {
            0 => no_buckets_inside(&Page::inline(&value[16..], 0)?)?,
            root => open.push(root),
        }
    }
    Ok(())
}

/// An inline bucket holds values only.
fn no_buckets_inside(page: &Page<'_>) -> Result<()> {
    match (0..page.len()).find(|&i| page.is_bucket(i)) {
        Some(i) => Err(page.fault(format!("element {i} of an inline bucket is a bucket"))),
        None => Ok(()),
    }
}
