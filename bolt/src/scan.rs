//! Which pages are free when a file is opened for writing: those in its stored freelist, or, in a file without one,
//! those that a walk over everything reachable from the root does not reach.

use crate::check::freelist_ids;
use crate::error::{Error, Result};
use crate::format::NO_FREELIST;
use crate::free_set::{FreeSet, Run};
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

/// The free pages of a file that nobody has open.
pub(crate) fn free_pages(snapshot: &Snapshot) -> Result<FreeSet> {
    if snapshot.meta.freelist == NO_FREELIST { unreachable(snapshot) } else { stored(snapshot) }
}

/// The pages in the stored freelist. It is believed as far as it is possible at all: pages outside the file, listed
/// twice, or known to be in use are refused.
fn stored(snapshot: &Snapshot) -> Result<FreeSet> {
    let meta = &snapshot.meta;
    let fault =
        |page: u64, what: &str| Error::corrupt(meta.freelist, format!("freelist holds page {page}, {what}"));
    let mut free = FreeSet::default();
    let mut ids = freelist_ids(snapshot)?.into_iter().peekable();
    while let Some(start) = ids.next() {
        let mut run = Run { start, len: 1 };
        while ids.next_if(|&id| Some(id) == run.start.checked_add(run.len)).is_some() {
            run.len += 1;
        }
        if start < 2 || start >= meta.high_water || run.len > meta.high_water - start {
            return Err(fault(start, &format!("outside 2..{}", meta.high_water)));
        }
        free.insert(run).map_err(|_| fault(start, "twice"))?;
    }
    let list = snapshot.header(meta.freelist)?.1 / snapshot.page_size();
    for run in [
        Run { start: meta.root, len: snapshot.page(meta.root)?.pages() },
        Run { start: meta.freelist, len: list as u64 },
    ] {
        free.insert(run).map_err(|_| fault(run.start, "which is in use"))?;
        free.remove(run);
    }
    Ok(free)
}

/// All pages from 2 to the high-water mark that no bucket reaches; refuses a file in which a page is used twice.
fn unreachable(snapshot: &Snapshot) -> Result<FreeSet> {
    let meta = &snapshot.meta;
    let mut used = PageSet::new(meta.high_water);
    let mut open = vec![meta.root];
    while let Some(id) = open.pop() {
        let page = snapshot.page(id)?;
        mark(&mut used, id, page.pages())?;
        if page.is_leaf() {
            open_buckets(&page, &mut open)?;
        } else {
            open.extend((0..page.len()).map(|i| page.child(i)));
        }
    }
    Ok(FreeSet::complement(used.words, meta.high_water))
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
