//! Which pages are free when a file is opened for writing: those that its tree does not use. A stored freelist is checked
//! against that.

use crate::check::freelist_ids;
use crate::error::{Error, Result};
use crate::format::NO_FREELIST;
use crate::free_set::FreeSet;
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

/// The free pages of a file that nobody has open: all from 2 to the high-water mark that no bucket reaches. Refuses a
/// file in which a page is used twice, or whose stored freelist calls a page free that is in use.
///
/// A stored freelist could be believed, and the scan saved. But the writer writes to free pages while readers hold slices
/// of all others: what is free must be known, not told by the file.
pub(crate) fn free_pages(snapshot: &Snapshot) -> Result<FreeSet> {
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
    if meta.freelist != NO_FREELIST {
        check_stored(snapshot, &mut used)?;
    }
    Ok(FreeSet::complement(used.words, meta.high_water))
}

/// Compares a stored freelist with what the tree uses. Free pages that it leaves out are free all the same.
fn check_stored(snapshot: &Snapshot, used: &mut PageSet) -> Result<()> {
    let meta = &snapshot.meta;
    let len = snapshot.header(meta.freelist)?.1 / snapshot.page_size();
    mark(used, meta.freelist, len as u64)?;
    let mut listed = PageSet::new(meta.high_water);
    for page in freelist_ids(snapshot)? {
        let what = match () {
            () if page < 2 || page >= meta.high_water => format!("outside 2..{}", meta.high_water),
            () if used.contains(page) => "which is in use".to_owned(),
            () if !listed.insert(page) => "twice".to_owned(),
            () => continue,
        };
        return Err(Error::corrupt(meta.freelist, format!("freelist holds page {page}, {what}")));
    }
    Ok(())
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
