//! Online shrinking: bounded steps that move the file's last pages into free ones and cut the file, beside readers
//! and the writer.
//!
//! A *pass* walks all buckets once, over many steps. Each step is an ordinary transaction that changes no content: it
//! rewrites pages that lie beyond the goal, which the allocator puts on the lowest free pages, and lowers the
//! high-water mark over the free pages at the end. Passes follow until the file is about as long as what is in it.
//!
//! **Invariant**: the file is never cut below the marks of its two meta pages or of a registered reader.

use crate::db::{Db, Writer};
use crate::error::Result;
use crate::format::{Meta, NO_FREELIST};
use crate::relocate::{Position, Walk};
use crate::write::WriteTx;

/// The goal leaves this part of the pages in use free, so that the last few are not chased, and twice what a step may
/// move, but no more than twice this part.
const SLACK_DIVISOR: u64 = 64;
/// Free pages besides, for branches and for what a step frees only when it has committed.
const SLACK_PAGES: u64 = 32;
/// Smallest useful step.
const MIN_STEP: u64 = 8;
/// Leaves looked at for each page that may be moved.
const VISITS_PER_PAGE: u64 = 16;
/// Most bytes that one step cuts off: the kernel drops each cached page of them, and the writer waits meanwhile, for about
/// as long as a step's commit takes.
const MAX_CUT: u64 = 8 << 20;
/// So many passes in a row may move pages without lowering the mark (the writer may have raised it meanwhile).
const FRUITLESS_PASSES: u32 = 3;

/// A file that could not be made shorter is looked at again after one commit per so many pages in use.
const PAGES_PER_COMMIT: u64 = 256;
const MIN_COMMITS: u64 = 16;

/// What one [`Db::shrink_step`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShrinkReport {
    /// Pages moved towards the start of the file, with their overflow pages.
    pub moved: u64,
    /// Thin leaf pages that were joined to their neighbour, which frees a page each.
    pub joined: u64,
    /// Length of the file in pages after the step.
    pub file_pages: u64,
    /// Nothing was left to do: call again when pages have become free.
    pub done: bool,
    /// Nothing could be done because read transactions still see the pages: call again when they have ended.
    pub waiting_for_readers: bool,
}

/// What is kept between steps.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pass: Option<Pass>,
    ended: Option<Pass>,
    fruitless: u32,
    settled: Option<Settled>,
}

/// A walk through everything.
#[derive(Debug)]
struct Pass {
    position: Position,
    /// Pages up to the last one in use when it began.
    mark: u64,
    moved: u64,
}

/// The file cannot be made shorter as things are.
#[derive(Debug)]
struct Settled {
    txid: u64,
    reclaimable: u64,
    /// If pages waited for readers then: the newest of these readers.
    newest_reader: Option<u64>,
}

/// The state of the file when a step begins, in pages.
#[derive(Debug)]
struct Space {
    txid: u64,
    high_water: u64,
    /// High-water mark without the free pages below it.
    mark: u64,
    used: u64,
    slack: u64,
    pending: u64,
    readers: Vec<u64>,
}

impl Space {
    fn goal(&self) -> u64 {
        self.used + self.slack
    }

    fn reclaimable(&self) -> u64 {
        self.high_water - self.used
    }
}

impl Progress {
    /// Begins a pass if one is due.
    fn begin_pass(&mut self, space: &Space) {
        if self.pass.is_some() {
            return;
        }
        if let Some(ended) = self.ended.take() {
            let lowered = space.mark + space.mark / 64 < ended.mark;
            self.fruitless = if lowered { 0 } else { self.fruitless + 1 };
            if !lowered && (ended.moved == 0 || self.fruitless >= FRUITLESS_PASSES) {
                let newest_reader = space.readers.last().copied().filter(|_| space.pending > 0);
                self.settled =
                    Some(Settled { txid: space.txid, reclaimable: space.reclaimable(), newest_reader });
            }
        }
        if let Some(settled) = &self.settled {
            let more = space.reclaimable() > settled.reclaimable + space.slack
                || space.txid > settled.txid + MIN_COMMITS.max(space.used / PAGES_PER_COMMIT);
            let ended =
                settled.newest_reader.is_some_and(|r| space.readers.first().is_none_or(|&oldest| oldest > r));
            if !more && !ended {
                return;
            }
            (self.settled, self.fruitless) = (None, 0);
        }
        if space.mark > space.goal() {
            self.pass = Some(Pass { position: Position::new(), mark: space.mark, moved: 0 });
        }
    }

    fn advance(&mut self, walk: &Walk, position: Option<Position>) {
        let Some(mut pass) = self.pass.take() else { return };
        pass.moved += walk.moved + walk.joined;
        match position {
            Some(position) => self.pass = Some(Pass { position, ..pass }),
            None => self.ended = Some(pass),
        }
    }
}

impl Db {
    /// Makes the file shorter by one bounded step: a write transaction of its own that moves at most about
    /// `max_pages` pages from the end of the file into free ones, joins thin leaves on its way, and cuts off what is
    /// free at the end, 8 MiB at most. Contents do not change; every commit leaves a file that bbolt accepts.
    ///
    /// Call it again and again, with pauses as long as other writers shall have, until the report says `done`; then
    /// again when [`crate::DbStats::free_pages`] has grown. 64 to 1024 are useful values. The commit writes at most
    /// `max_pages` pages (8 if it is smaller), the leaves that are joined to the last of them (15 at most), the branches above
    /// them, and a value that is larger than that whole.
    /// It waits, as [`Db::begin_write`] does, for an open write transaction. Readers see their pages until they end:
    /// the report says so when they are all that the step waits for.
    ///
    /// ```
    /// # use stanchion_bolt::{Db, Options, Error};
    /// # let db = Db::open(std::sync::Arc::new(stanchion_disk::SimDisk::new(1)), "db", Options::default())?;
    /// loop {
    ///     let report = db.shrink_step(256)?;
    ///     if report.done || report.waiting_for_readers {
    ///         break; // and come back some time later
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::begin_write`] and [`WriteTx::commit`]; the contents are then as they were.
    pub fn shrink_step(&self, max_pages: u64) -> Result<ShrinkReport> {
        self.begin_write()?.shrink(max_pages.max(MIN_STEP))
    }
}

impl WriteTx {
    /// The step, in a transaction that has changed nothing.
    fn shrink(mut self, max_pages: u64) -> Result<ShrinkReport> {
        self.trim = true;
        let space = self.space(max_pages);
        // After an error the pass is lost and the next step begins a new one.
        let mut progress = std::mem::take(&mut self.writer_mut().shrink);
        progress.begin_pass(&space);
        let mut walk = Walk::new(space.goal(), max_pages, max_pages * VISITS_PER_PAGE);
        let mut position = None;
        // What is moved needs a free page before its old one becomes free, and so do the branches above it.
        // A file shorter than the goal may grow up to it while thin leaves are still being joined.
        let room = self.writer_mut().freelist.free.count_below(space.goal(), 2 * max_pages + SLACK_PAGES)
            + space.goal().saturating_sub(space.high_water);
        let has_room = room >= (2 * max_pages).min(SLACK_PAGES);
        if let Some(pass) = progress.pass.as_ref().filter(|_| has_room) {
            walk.budget = max_pages.min(room / 2);
            position = self.relocate(0, &pass.position, 0, &mut walk)?;
        }
        let walked = progress.pass.is_some() && has_room;
        let commits = walk.opened > 0 || self.end_can_be_lowered(&space)?;
        if commits {
            self.commit_keeping()?;
        }
        if walked {
            progress.advance(&walk, position);
        }
        let waits = progress.pass.is_some() && !has_room
            || progress.settled.as_ref().is_some_and(|s| s.newest_reader.is_some());
        self.writer_mut().shrink = progress;
        let cut = self.cut_file()?;
        let file_pages = cut.file_pages;
        let idle = !commits && !walked && !cut.was_cut;
        let waiting_for_readers = idle && (waits || cut.waits);
        let done = idle && !waiting_for_readers;
        Ok(ShrinkReport { moved: walk.moved, joined: walk.joined, file_pages, done, waiting_for_readers })
    }

    fn writer_mut(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("a transaction has the writer until it ends")
    }

    fn space(&mut self, max_pages: u64) -> Space {
        let Meta { high_water, txid, .. } = self.memory.snapshot.meta;
        let readers = self.shared.readers();
        let freelist = &self.writer_mut().freelist;
        let pending = freelist.pending_count();
        let used = high_water - freelist.free.count() - pending;
        let step = (2 * max_pages).min(2 * used / SLACK_DIVISOR);
        let slack = used / SLACK_DIVISOR + step + SLACK_PAGES;
        Space { txid, high_water, mark: freelist.free.tail(high_water), used, slack, pending, readers }
    }

    /// Whether a commit would lower the mark, of this meta page or of the other one, though no page was moved.
    fn end_can_be_lowered(&mut self, space: &Space) -> Result<bool> {
        let list = self.memory.snapshot.meta.freelist;
        let list_moves = if list == NO_FREELIST || list < space.goal() {
            false
        } else {
            // The new list may be a page longer.
            let len = (self.memory.snapshot.header(list)?.1 / self.memory.snapshot.page_size()) as u64 + 1;
            let place = self.writer_mut().freelist.free.first_fit(len);
            place.is_some_and(|start| start + len <= space.goal())
        };
        let writer = self.writer_mut();
        let older = writer.cut && writer.older_mark > space.high_water;
        Ok(space.mark < space.high_water || list_moves || older)
    }

    /// Cuts the file to the highest mark that somebody relies on.
    fn cut_file(&mut self) -> Result<Cut> {
        let shared = self.shared.clone();
        let page_size = u64::from(self.memory.snapshot.meta.page_size);
        let (mark, readers_mark) = shared.marks();
        let writer = self.writer_mut();
        let limit = mark.max(writer.older_mark).max(readers_mark);
        let len = shared.file.len().map_err(|e| shared.io("get the length of", e))?;
        // What was allocated beyond the mark for growth stays, unless the mark was lowered.
        let was_cut = writer.cut && len > limit * page_size;
        let pages =
            if was_cut { limit.max(len.saturating_sub(MAX_CUT) / page_size) } else { len / page_size };
        if was_cut {
            shared.file.set_len(pages * page_size).map_err(|e| shared.io("cut", e))?;
        }
        writer.cut &= limit > mark || was_cut && pages > limit;
        let waits = writer.cut && readers_mark > mark && writer.older_mark <= mark;
        Ok(Cut { file_pages: pages, was_cut, waits })
    }
}

struct Cut {
    file_pages: u64,
    was_cut: bool,
    /// Readers with higher marks keep the file from being cut further.
    waits: bool,
}
