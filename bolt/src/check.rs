//! The consistency check: walks everything and reports every finding, not only the first.

use std::fmt;

use crate::error::Result;
use crate::format::{FLAG_FREELIST, HEADER_SIZE, NO_FREELIST, u64_at};
use crate::page::Page;
use crate::read::ReadTx;
use crate::scan::PageSet;
use crate::snapshot::Snapshot;
use crate::tree::{MAX_DEPTH, bucket_root};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The page it was seen at; 0 inside inline buckets.
    pub page: u64,
    /// What is wrong, with the numbers found.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}: {}", self.page, self.what)
    }
}

/// Findings beyond this many are only counted: a badly damaged file has as many as pages.
const MAX_FINDINGS: usize = 10_000;

impl ReadTx {
    /// Verifies everything that `bbolt check` does: the free pages listed once, each page reachable once and not
    /// free, types, extents, key order inside pages and against the branches above, and (with a stored freelist)
    /// no page neither reachable nor free. An empty answer is a sound file.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let snapshot = self.snapshot();
        let pages = snapshot.meta.high_water;
        let mut check = Check {
            snapshot,
            reachable: PageSet::new(pages),
            free: PageSet::new(pages),
            findings: Vec::new(),
            unreported: 0,
        };
        check.freelist();
        check.bucket(snapshot.meta.root);
        if snapshot.meta.freelist != NO_FREELIST {
            check.unreachable();
        }
        if check.unreported > 0 {
            let what = format!("{} more findings", check.unreported);
            check.findings.push(Finding { page: 0, what });
        }
        check.findings
    }
}

struct Check<'a> {
    snapshot: &'a Snapshot,
    reachable: PageSet,
    free: PageSet,
    findings: Vec<Finding>,
    unreported: usize,
}

/// A page to visit with the bounds its branch gives it.
struct Visit<'a> {
    page: u64,
    depth: usize,
    from: Option<&'a [u8]>,
    below: Option<&'a [u8]>,
}

impl<'a> Check<'a> {
    fn report(&mut self, page: u64, what: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { page, what: what.into() });
        } else {
            self.unreported += 1;
        }
    }

    fn freelist(&mut self) {
        let id = self.snapshot.meta.freelist;
        if id == NO_FREELIST {
            return;
        }
        let ids = match freelist_ids(self.snapshot) {
            Ok(ids) => ids,
            Err(e) => return self.report(id, e.to_string()),
        };
        let mut before = 0;
        for page in ids {
            if page < 2 || page >= self.snapshot.meta.high_water {
                self.report(
                    id,
                    format!("freelist holds page {page}, outside 2..{}", self.snapshot.meta.high_water),
                );
            } else if !self.free.insert(page) {
                self.report(id, format!("freelist holds page {page} twice"));
            } else if page <= before {
                self.report(id, format!("freelist holds page {page} after {before}"));
            }
            before = page;
        }
        if let Ok((header, _)) = self.snapshot.header(id) {
            self.claim(id, u64::from(header.overflow) + 1);
        }
    }

    /// Marks the pages of a run reachable; whether it was new.
    fn claim(&mut self, start: u64, len: u64) -> bool {
        let mut new = true;
        for page in start..start + len {
            if !self.reachable.insert(page) {
                self.report(page, "referenced more than once");
                new = false;
            }
            if self.free.contains(page) {
                self.report(page, "reachable, but in the freelist");
            }
        }
        new
    }

    /// Walks a bucket with all in it.
    fn bucket(&mut self, root: u64) {
        let mut visits = vec![Visit { page: root, depth: 0, from: None, below: None }];
        while let Some(visit) = visits.pop() {
            let page = match self.snapshot.page(visit.page) {
                Ok(page) => page,
                Err(e) => {
                    self.report(visit.page, e.to_string());
                    continue;
                }
            };
            if !self.claim(visit.page, page.pages()) {
                continue;
            }
            if visit.depth >= MAX_DEPTH {
                self.report(visit.page, format!("tree deeper than {MAX_DEPTH} pages"));
                continue;
            }
            self.keys(&page, visit.from, visit.below);
            if page.is_leaf() {
                if page.len() == 0 && visit.depth > 0 {
                    self.report(visit.page, "leaf page below a branch is empty");
                }
                self.elements(&page, &mut visits);
                continue;
            }
            for i in (0..page.len()).rev() {
                let below = if i + 1 < page.len() { page.key(i + 1).ok() } else { visit.below };
                let depth = visit.depth + 1;
                visits.push(Visit { page: page.child(i), depth, from: page.key(i).ok(), below });
            }
        }
    }

    /// Order of the keys in a page and against its bounds.
    fn keys(&mut self, page: &Page<'a>, from: Option<&[u8]>, below: Option<&[u8]>) {
        let mut before: Option<&[u8]> = None;
        for i in 0..page.len() {
            let key = match page.key(i) {
                Ok(key) => key,
                Err(e) => {
                    self.report(page.id(), e.to_string());
                    continue;
                }
            };
            if i == 0 && from.is_some_and(|from| key < from) {
                self.report(page.id(), format!("first key {} is below its branch key", hex(key)));
            }
            if before.is_some_and(|before| key <= before) {
                self.report(page.id(), format!("key {} of element {i} does not rise", hex(key)));
            }
            if below.is_some_and(|below| key >= below) {
                self.report(
                    page.id(),
                    format!("key {} of element {i} is not below the next branch key", hex(key)),
                );
            }
            if key.is_empty() && page.is_leaf() {
                self.report(page.id(), format!("element {i} has an empty key"));
            }
            before = Some(key);
        }
    }

    /// Values of a leaf, and the buckets among them.
    fn elements(&mut self, page: &Page<'a>, visits: &mut Vec<Visit<'a>>) {
        for i in 0..page.len() {
            let element = match page.leaf(i) {
                Ok(element) => element,
                Err(e) => {
                    self.report(page.id(), e.to_string());
                    continue;
                }
            };
            if !page.is_bucket(i) {
                continue;
            }
            match bucket_root(element.value) {
                Ok((0, _)) => self.inline(page.id(), &element.value[HEADER_SIZE..]),
                Ok((root, _)) => visits.push(Visit { page: root, depth: 0, from: None, below: None }),
                Err(e) => self.report(page.id(), e.to_string()),
            }
        }
    }

    fn inline(&mut self, parent: u64, image: &'a [u8]) {
        let page = match Page::inline(image, 0) {
            Ok(page) => page,
            Err(e) => return self.report(parent, e.to_string()),
        };
        self.keys(&page, None, None);
        for i in 0..page.len() {
            if page.is_bucket(i) {
                self.report(parent, format!("element {i} of an inline bucket is a bucket"));
            } else if let Err(e) = page.leaf(i) {
                self.report(parent, e.to_string());
            }
        }
    }

    fn unreachable(&mut self) {
        for page in 2..self.snapshot.meta.high_water {
            if !self.reachable.contains(page) && !self.free.contains(page) {
                self.report(page, "neither reachable nor free");
            }
        }
    }
}

/// The ids in the stored freelist, as they stand there.
pub(crate) fn freelist_ids(snapshot: &Snapshot) -> Result<Vec<u64>> {
    let id = snapshot.meta.freelist;
    let (header, size) = snapshot.header(id)?;
    let fault = |what: String| crate::Error::corrupt(id, what);
    if header.flags != FLAG_FREELIST {
        return Err(fault(format!("type {:#x}, expected freelist (0x10)", header.flags)));
    }
    let bytes = snapshot.bytes(id * snapshot.page_size() as u64, size);
    let (start, count) = match header.count {
        u16::MAX => (HEADER_SIZE + 8, u64_at(bytes, HEADER_SIZE)),
        count => (HEADER_SIZE, u64::from(count)),
    };
    let room = ((size - start) / 8) as u64;
    if count > room {
        return Err(fault(format!("{count} ids do not fit into {size} bytes")));
    }
    Ok((0..count as usize).map(|i| u64_at(bytes, start + i * 8)).collect())
}

/// The beginning of a key, in hexadecimal.
fn hex(key: &[u8]) -> String {
    let shown: String = key.iter().take(32).map(|b| format!("{b:02x}")).collect();
    if key.len() > 32 { format!("{shown}… ({} bytes)", key.len()) } else { shown }
}
