//! The walk of online shrinking: opens the pages that lie too far back, so that the commit writes them further ahead,
//! and joins leaves that deletions have left thin.
//!
//! It decides nothing about when, how often and how far: that is [`crate::shrink`].

use crate::cursor::{Bucket, Source};
use crate::error::{Error, Result};
use crate::format::{BUCKET_FLAG, HEADER_SIZE};
use crate::free_set::Run;
use crate::node::child_index;
use crate::tree::{MAX_DEPTH, bucket_root, split};
use crate::write::WriteTx;

/// How full leaves are made when thin ones are joined.
const JOINED_FILL: f64 = 0.9;
/// Leaves considered together, and the pages they are joined to at most: what is left of a fragmented bucket takes a
/// fifteenth more pages than it needs, plus what windows that begin with a fuller leaf may keep.
const WINDOW: usize = 16;
const JOINED: usize = WINDOW - 1;
/// Deepest nesting that is walked; deeper files are made by hand.
const MAX_NESTING: usize = 256;

/// Where a walk goes on: names of buckets from the top, then a key in the last one. All before it is done.
pub(crate) type Position = Vec<Vec<u8>>;

/// One step of a walk: its limits, and what it has done.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Pages that reach beyond this one are moved.
    pub(crate) goal: u64,
    /// Pages that may be opened, and so written by the commit. The last leaf may exceed it.
    pub(crate) budget: u64,
    /// Leaves that may be looked at.
    pub(crate) visits: u64,
    /// Pages opened, with their overflow.
    pub(crate) opened: u64,
    /// Of these, pages that were beyond the goal.
    pub(crate) moved: u64,
    /// Leaf pages saved by joining thin ones.
    pub(crate) joined: u64,
    /// Pages in runs of more than one, for which neighbouring free pages are needed.
    large: u64,
    /// A large run goes where it just fits: nothing else may be moved before that is written.
    alone: bool,
}

impl Walk {
    pub(crate) fn new(goal: u64, budget: u64, visits: u64) -> Self {
        Self { goal, budget, visits, opened: 0, moved: 0, joined: 0, large: 0, alone: false }
    }

    fn is_over(&self) -> bool {
        self.alone || self.visits == 0 || self.opened >= self.budget
    }

    fn is_beyond(&self, run: Option<Run>) -> bool {
        run.is_some_and(|run| run.end() > self.goal)
    }
}

/// What to do with a leaf.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Move,
    Leave,
    /// Not together with what this step has opened already.
    Later,
}

/// A leaf and what surrounds it, as the walk comes to it.
struct Place {
    /// Its pages, if it has not been opened.
    run: Option<Run>,
    /// Branches above it that have not been opened.
    branches: Vec<Run>,
    /// First key behind the leaf in its bucket.
    upper: Option<Vec<u8>>,
    /// How many leaves, from this one on, should be joined, and how many pages that saves.
    thin: Option<(usize, u64)>,
    /// Leaves read to learn that.
    looked_at: u64,
    /// Names of nested buckets with pages of their own, from the key on that was looked for.
    buckets: Vec<Vec<u8>>,
}

impl WriteTx {
    /// Goes on in bucket `tree` until the bucket or the step is over; returns where to go on.
    pub(crate) fn relocate(
        &mut self,
        tree: usize,
        from: &[Vec<u8>],
        depth: usize,
        walk: &mut Walk,
    ) -> Result<Option<Position>> {
        if depth > MAX_NESTING {
            return Err(Error::corrupt(0, format!("buckets nested deeper than {MAX_NESTING}")));
        }
        let mut key = from.first().cloned().unwrap_or_default();
        let mut inner = from.get(1..).unwrap_or_default();
        loop {
            if walk.is_over() {
                return Ok(Some(vec![key]));
            }
            let Some(place) = self.place(tree, &key)? else { return Ok(None) };
            walk.visits = walk.visits.saturating_sub(place.looked_at);
            match self.fit(&place, walk) {
                Fit::Later => return Ok(Some(vec![key])),
                Fit::Move => self.open_for_move(tree, &key, &place, walk)?,
                Fit::Leave => {}
            }
            let place = self.join(tree, &key, place, walk)?;
            if walk.is_over() && from.first() != Some(&key) {
                // The last page of what was joined may be thin: the next step begins here again, once.
                return Ok(Some(vec![key]));
            }
            for name in &place.buckets {
                let within = if *name == key { std::mem::take(&mut inner) } else { &[] };
                let nested = self
                    .open_tree(tree, name)?
                    .ok_or_else(|| Error::BucketNotFound { name: name.clone() })?;
                if let Some(mut rest) = self.relocate(nested, within, depth + 1, walk)? {
                    rest.insert(0, name.clone());
                    return Ok(Some(rest));
                }
            }
            inner = &[];
            match place.upper {
                Some(upper) if upper > key => key = upper,
                Some(_) => return Err(Error::corrupt(0, "branch keys do not rise")),
                None => return Ok(None),
            }
        }
    }

    /// Whether a leaf is to be moved, and whether the free pages allow it.
    fn fit(&self, place: &Place, walk: &mut Walk) -> Fit {
        if !walk.is_beyond(place.run) && !place.branches.iter().any(|&b| walk.is_beyond(Some(b))) {
            return Fit::Leave;
        }
        let Some(run) = place.run.filter(|run| run.len > 1) else { return Fit::Move };
        let Some(writer) = &self.writer else { return Fit::Leave };
        let fits = |len| writer.freelist.free.first_fit(len).is_some_and(|start| start + len <= run.start);
        let large = walk.large + run.len;
        if fits(large + walk.budget) {
            walk.large = large;
            Fit::Move
        } else if walk.opened > 0 {
            Fit::Later
        } else if fits(run.len) {
            walk.alone = true;
            Fit::Move
        } else {
            Fit::Leave
        }
    }

    fn open_for_move(&mut self, tree: usize, key: &[u8], place: &Place, walk: &mut Walk) -> Result<()> {
        self.opening(tree, walk, |tx| tx.trees[tree].open_path(&mut tx.memory, key).map(drop))?;
        let beyond = place.branches.iter().copied().chain(place.run).filter(|&r| walk.is_beyond(Some(r)));
        walk.moved += beyond.map(|run| run.len).sum::<u64>();
        Ok(())
    }

    /// Joins the leaf with the thin ones behind it; the commit splits what is more than a page.
    fn join(&mut self, tree: usize, key: &[u8], mut place: Place, walk: &mut Walk) -> Result<Place> {
        while let Some((leaves, saved)) = place.thin.filter(|_| !walk.is_over()) {
            self.trees[tree].fill_percent = JOINED_FILL;
            for _ in 1..leaves {
                self.opening(tree, walk, |tx| {
                    let tree = &mut tx.trees[tree];
                    match tree.open_path(&mut tx.memory, key)?.above {
                        Some((branch, index)) => tree.merge(branch, index, &mut tx.memory, &mut tx.freed),
                        None => Err(Error::corrupt(0, "a leaf with a neighbour has no branch")),
                    }
                })?;
            }
            walk.joined += saved;
            walk.visits = walk.visits.saturating_sub(leaves as u64);
            place = self.place(tree, key)?.ok_or_else(|| Error::corrupt(0, "a joined leaf is not found"))?;
        }
        Ok(place)
    }

    /// Runs `open`, which opens nodes of a tree, and counts their pages.
    fn opening(
        &mut self,
        tree: usize,
        walk: &mut Walk,
        open: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let before = self.trees[tree].nodes.len();
        open(self)?;
        self.trees[tree].dirty = true;
        walk.opened +=
            self.trees[tree].nodes[before..].iter().map(|n| n.old.map_or(1, |r| r.len)).sum::<u64>();
        Ok(())
    }

    /// The leaf of a bucket that holds or would hold `key`.
    fn place(&self, tree: usize, key: &[u8]) -> Result<Option<Place>> {
        let memory = &self.memory;
        let Some(mut at) = Bucket::opened(memory, &self.trees, &self.trees[tree]).source()? else {
            return Ok(None);
        };
        let (mut branches, mut upper, mut above) = (Vec::new(), None, None);
        for _ in 0..MAX_DEPTH {
            if at.is_leaf() {
                let (thin, looked_at) = self.thin(at, above)?;
                let buckets = nested(&at, memory, key)?;
                return Ok(Some(Place { run: at.run(), branches, upper, thin, looked_at, buckets }));
            }
            branches.extend(at.run());
            let index = child_index(at.search(memory, key)?);
            if index + 1 < at.len() {
                upper = Some(at.key(memory, index + 1)?.to_vec());
            }
            above = Some((at, index));
            at = at.child(memory, index)?;
        }
        Err(crate::tree::too_deep(&self.trees[tree].root))
    }

    /// How many leaves under one branch, from `leaf` on, make so much fewer pages together that it is worth while; and
    /// how many were read. Of an opened leaf the last page it will be written to counts.
    fn thin<'a>(
        &'a self,
        leaf: Source<'a>,
        above: Option<(Source<'a>, usize)>,
    ) -> Result<(Option<(usize, u64)>, u64)> {
        let page_size = self.memory.snapshot.page_size();
        let Some((branch, index)) = above else { return Ok((None, 1)) };
        let mut sizes: Vec<usize> = (0..leaf.len()).map(|i| leaf.element_size(i)).collect::<Result<_>>()?;
        let last = split(sizes.len(), |i| sizes[i], page_size, JOINED_FILL).pop().unwrap_or(0);
        sizes.drain(..sizes.len() - last);
        if sizes.iter().sum::<usize>() > page_size / 4 * 3 {
            return Ok((None, 1));
        }
        let (mut best, mut looked_at) = (None, 1);
        for leaves in 2..=(branch.len() - index).min(WINDOW) {
            let next = branch.child(&self.memory, index + leaves - 1)?;
            if !next.is_leaf() || next.run().is_some_and(|run| run.len > 1) {
                break;
            }
            for i in 0..next.len() {
                sizes.push(next.element_size(i)?);
            }
            looked_at += 1;
            let pages = pages_of(&sizes, page_size);
            if pages * WINDOW <= leaves * JOINED {
                best = Some((leaves, (leaves - pages) as u64));
            }
        }
        Ok((best, looked_at))
    }
}

/// Pages that elements of these sizes are split into.
fn pages_of(sizes: &[usize], page_size: usize) -> usize {
    let mut start = 0;
    let parts = split(sizes.len(), |i| sizes[i], page_size, JOINED_FILL).into_iter().map(|len| {
        start += len;
        (HEADER_SIZE + sizes[start - len..start].iter().sum::<usize>()).div_ceil(page_size)
    });
    parts.sum()
}

/// Names of the buckets in a leaf, from `key` on, that have pages of their own.
fn nested(leaf: &Source<'_>, memory: &crate::memory::Memory, key: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let (first, _) = leaf.search(memory, key)?;
    for index in first..leaf.len() {
        if !leaf.is_bucket(index) {
            continue;
        }
        let element = leaf.element(memory, index)?;
        if element.flags & BUCKET_FLAG != 0 && bucket_root(memory.bytes(element.value))?.0 != 0 {
            names.push(element.key.to_vec());
        }
    }
    Ok(names)
}
