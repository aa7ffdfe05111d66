//! Looking at pages and counting them: for tools, not for the engine.

use crate::cursor::Bucket;
use crate::error::{Error, Result};
use crate::format::{BUCKET_FLAG, FLAG_FREELIST, HEADER_SIZE, Meta, NO_FREELIST};
use crate::page::Page;
use crate::read::ReadTx;
use crate::scan::PageSet;
use crate::tree::{MAX_DEPTH, bucket_root};

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// One of the two meta pages.
    Meta,
    /// Inner page of a tree.
    Branch,
    /// Page with keys and values.
    Leaf,
    /// First page of the stored freelist.
    Freelist,
    /// Not reachable: free, or part of an older state.
    Free,
}

/// A page as [`ReadTx::pages`] lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageInfo {
    /// Page id.
    pub id: u64,
    /// What it is.
    pub kind: PageKind,
    /// Elements in it.
    pub count: usize,
    /// Pages that follow and belong to it.
    pub overflow: u64,
    /// Bytes in use, header included.
    pub used: usize,
    /// Distance from its bucket's root page.
    pub depth: usize,
}

/// Figures of one bucket with all buckets in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketStats {
    /// Buckets, itself included.
    pub buckets: u64,
    /// Buckets stored inside their parent's leaf.
    pub inline_buckets: u64,
    /// Keys with values.
    pub keys: u64,
    /// Bytes of keys and values.
    pub data_bytes: u64,
    /// Branch pages, without overflow.
    pub branch_pages: u64,
    /// Leaf pages, without overflow.
    pub leaf_pages: u64,
    /// Overflow pages of both.
    pub overflow_pages: u64,
    /// Bytes in use in branch and leaf pages.
    pub used_bytes: u64,
    /// Bytes of branch and leaf pages with overflow.
    pub allocated_bytes: u64,
    /// Greatest number of pages from a bucket's root to a leaf.
    pub depth: u64,
}

impl ReadTx {
    /// The meta page's fields.
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.snapshot().meta
    }

    /// All pages below the high-water mark, by id; overflow pages are part of their first one.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn pages(&self) -> Result<Vec<PageInfo>> {
        let snapshot = self.snapshot();
        let mut list = Vec::new();
        for id in 0..2 {
            let used = crate::format::META_PAGE_BYTES;
            list.push(PageInfo { id, kind: PageKind::Meta, count: 0, overflow: 0, used, depth: 0 });
        }
        if snapshot.meta.freelist != NO_FREELIST {
            let (header, size) = snapshot.header(snapshot.meta.freelist)?;
            let kind = if header.flags == FLAG_FREELIST { PageKind::Freelist } else { PageKind::Free };
            let count = usize::from(header.count);
            list.push(PageInfo {
                id: header.id,
                kind,
                count,
                overflow: header.overflow.into(),
                used: size,
                depth: 0,
            });
        }
        self.walk(snapshot.meta.root, &mut |page, depth| {
            let kind = if page.is_leaf() { PageKind::Leaf } else { PageKind::Branch };
            let (id, count, overflow) = (page.id(), page.len(), page.pages() - 1);
            list.push(PageInfo { id, kind, count, overflow, used: page.used()?, depth });
            Ok(())
        })?;
        list.sort_unstable_by_key(|p| p.id);
        let mut all = Vec::new();
        let mut next = 0;
        let free = |id| PageInfo { id, kind: PageKind::Free, count: 0, overflow: 0, used: 0, depth: 0 };
        for page in list {
            all.extend((next..page.id).map(free));
            next = page.id + page.overflow + 1;
            all.push(page);
        }
        all.extend((next..snapshot.meta.high_water).map(free));
        Ok(all)
    }

    /// Figures of the whole database.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn bucket_stats(&self) -> Result<BucketStats> {
        self.stats_below(&self.root())
    }

    /// Figures of one bucket with all in it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn stats_below(&self, bucket: &Bucket<'_>) -> Result<BucketStats> {
        let mut stats = BucketStats { buckets: 1, ..BucketStats::default() };
        let page_size = self.snapshot().page_size() as u64;
        if bucket.root_page() == 0 {
            stats.inline_buckets = 1;
            for entry in bucket.iter() {
                let (key, value) = entry?;
                stats.keys += 1;
                stats.data_bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
            }
            return Ok(stats);
        }
        self.walk(bucket.root_page(), &mut |page, depth| {
            stats.depth = stats.depth.max(depth as u64 + 1);
            stats.overflow_pages += page.pages() - 1;
            stats.used_bytes += page.used()? as u64;
            stats.allocated_bytes += page.pages() * page_size;
            if !page.is_leaf() {
                stats.branch_pages += 1;
                return Ok(());
            }
            stats.leaf_pages += 1;
            (0..page.len()).try_for_each(|i| count_element(page, i, &mut stats))
        })?;
        Ok(stats)
    }

    /// Visits the pages of a tree and of all buckets in it, each once.
    fn walk(&self, root: u64, visit: &mut dyn FnMut(&Page<'_>, usize) -> Result<()>) -> Result<()> {
        let snapshot = self.snapshot();
        let mut seen = PageSet::new(snapshot.meta.high_water);
        let mut todo = vec![(root, 0)];
        while let Some((id, depth)) = todo.pop() {
            let page = snapshot.page(id)?;
            if !seen.insert(id) || depth >= MAX_DEPTH {
                return Err(Error::corrupt(id, "reached twice (a cycle?)"));
            }
            visit(&page, depth)?;
            for i in (0..page.len()).rev() {
                if !page.is_leaf() {
                    todo.push((page.child(i), depth + 1));
                } else if page.is_bucket(i) {
                    let (root, _) = bucket_root(page.leaf(i)?.value)?;
                    todo.extend((root != 0).then_some((root, 0)));
                }
            }
        }
        Ok(())
    }
}

fn count_element(page: &Page<'_>, i: usize, stats: &mut BucketStats) -> Result<()> {
    let element = page.leaf(i)?;
    if element.flags & BUCKET_FLAG == 0 {
        stats.keys += 1;
        stats.data_bytes += (element.key.len() + element.value.len()) as u64;
        return Ok(());
    }
    stats.buckets += 1;
    if bucket_root(element.value)?.0 == 0 {
        stats.inline_buckets += 1;
        let image = Page::inline(&element.value[HEADER_SIZE..], 0)?;
        for j in 0..image.len() {
            let inner = image.leaf(j)?;
            stats.keys += 1;
            stats.data_bytes += (inner.key.len() + inner.value.len()) as u64;
        }
    }
    Ok(())
}
