//! The log as its writer sees it: append, sync, cut, release.
//!
//! What lives here is the order of effects. How records look is `record`'s business, how a log is created and opened
//! `open`'s.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use stanchion_disk::{Disk, File, LockKind};

use crate::crc::Chain;
use crate::entry::EntryRef;
use crate::error::{Error, Result};
use crate::frame::put_frame;
use crate::name::SegmentName;
use crate::order::Order;
use crate::pipeline::{Pipeline, Prepared};
use crate::record::{HardState, Kind, SnapshotMark};

/// When this much has gathered, it is handed to the file without a sync: large batches are encoded in memory that
/// stays in the CPU's caches.
const FLUSH_LEN: usize = 512 << 10;

/// A write buffer that one large record made larger than this is given back.
const BUFFER_KEEP_MAX: usize = 4 << 20;

/// The next segment is ordered when this share of the tail (one n-th) is written: early enough to be ready in time,
/// late enough that a log which is opened and hardly written does not claim two segments' space.
const PREPARE_SHARE: u64 = 4;

/// A write-ahead log that is open for appending.
///
/// # What is durable when
///
/// [`append`](Wal::append) encodes into memory; [`sync`](Wal::sync) makes all that was appended durable with one
/// write and one `fdatasync`. [`save`](Wal::save) is both under etcd's rule. Dropping the log drops what was not
/// synced, as a crash would; [`close`](Wal::close) syncs first.
///
/// # After an error
///
/// | error | what was appended before | the failed call | the handle |
/// |---|---|---|---|
/// | [`Error::NoSpace`], [`Error::Io`] from a write or a preallocation | kept, written by the next `sync` that works | see the call | usable |
/// | a failed sync, rename or anything after which the file is unknown | what was synced is safe | unknown until reopened | [`Error::Poisoned`] from now on |
/// | [`Error::Order`], [`Error::StateWithoutTerm`] | kept | nothing of it was taken | usable |
///
/// # Invariants
///
/// The tail segment's file holds sound records up to `written`; `pending` continues there, byte for byte, and
/// everything behind both is zero or unwritten. `chain` is the CRC after `pending`.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_size: u64,
    metadata: Bytes,
    /// The last hard state that was appended; empty if none ever was.
    state: HardState,
    order: Order,
    /// Scratch space of [`Wal::admit`], kept so that an append allocates nothing.
    order_after: Order,
    chain: Chain,
    /// The segments whose locks are held, oldest first. The last one is the tail; never empty.
    held: VecDeque<HeldSegment>,
    /// Encoded records that are not in the file yet.
    pending: Vec<u8>,
    /// Where `pending` belongs in the tail's file.
    written: u64,
    /// An empty buffer to swap with `pending`.
    spare: Vec<u8>,
    /// Something that must be durable was appended since the last sync.
    needs_sync: bool,
    /// Something was written to the file since the last sync.
    dirty: bool,
    /// A [`SyncJob`] was handed out and not brought back.
    in_flight: bool,
    /// The first failure that left a file unknown.
    poison: Option<String>,
    pipeline: Pipeline,
}

#[derive(Debug)]
pub(crate) struct HeldSegment {
    pub(crate) name: SegmentName,
    pub(crate) file: Arc<dyn File>,
}

/// Everything a [`Wal`] starts from.
pub(crate) struct Start {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) segment_size: u64,
    pub(crate) metadata: Bytes,
    pub(crate) state: HardState,
    pub(crate) order: Order,
    pub(crate) crc: u32,
    pub(crate) held: VecDeque<HeldSegment>,
    pub(crate) written: u64,
    pub(crate) pipeline: Pipeline,
}

impl Wal {
    pub(crate) fn start(start: Start) -> Self {
        assert!(!start.held.is_empty(), "a log has at least one segment");
        Self {
            disk: start.disk,
            dir: start.dir,
            segment_size: start.segment_size,
            metadata: start.metadata,
            state: start.state,
            order_after: start.order.clone(),
            order: start.order,
            chain: Chain::from_value(start.crc),
            held: start.held,
            pending: Vec::new(),
            written: start.written,
            spare: Vec::new(),
            needs_sync: false,
            dirty: false,
            in_flight: false,
            poison: None,
            pipeline: start.pipeline,
        }
    }

    /// The log's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the log's creator wrote about it.
    #[must_use]
    pub fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// The last hard state that was appended; empty if none ever was.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.state
    }

    /// Index of the last entry that was appended, or of the snapshot that the log continues from.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.order.next() - 1
    }

    /// The segment that is being written, and the offset in it at which the next record goes, in bytes.
    #[must_use]
    pub fn tail(&self) -> (SegmentName, u64) {
        (self.tail_segment().name, self.written + self.pending.len() as u64)
    }

    /// Whether something waits that must be durable before anybody relies on it: an entry, a snapshot mark, or a
    /// hard state with a new term or vote. A hard state with only a new commit index may wait for the next sync.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.needs_sync
    }

    /// Appends entries, then the hard state unless it is empty. All in memory: see [`Wal::sync`].
    ///
    /// An entry's index may be at most one above [`Wal::last_index`]; one that is not above it overwrites all entries
    /// from its index on. Cuts first if the tail has reached its size.
    ///
    /// # Errors
    /// Nothing of the call is taken when it fails: [`Error::Order`], [`Error::StateWithoutTerm`], [`Error::Poisoned`],
    /// or why a due cut failed.
    pub fn append(&mut self, state: &HardState, entries: &[EntryRef<'_>]) -> Result<()> {
        self.check_usable()?;
        self.check_state(state)?;
        self.admit(state, entries)?;
        self.cut_if_due()?;
        std::mem::swap(&mut self.order, &mut self.order_after);
        for entry in entries {
            entry.put(&mut self.pending, &mut self.chain);
            if self.pending.len() >= FLUSH_LEN && !self.in_flight {
                // Only ahead of time: what cannot be written now stays, and the sync that needs it reports why.
                let _ = self.flush();
            }
        }
        self.needs_sync |= !entries.is_empty();
        self.put_state(state);
        Ok(())
    }

    /// Makes everything that was appended durable: at most one write and one `fdatasync`.
    ///
    /// # Errors
    /// When the write fails ([`Error::NoSpace`]), everything stays appended and `sync` may be called again. After a
    /// failed `fdatasync` the handle is poisoned.
    pub fn sync(&mut self) -> Result<()> {
        match self.begin_sync()? {
            Some(job) => {
                let done = job.run();
                self.finish_sync(done)
            }
            None => Ok(()),
        }
    }

    /// [`Wal::append`], and [`Wal::sync`] if something was appended that must be durable: an entry, or a new term or
    /// vote. A new commit index alone is not worth a sync; it reaches the disk with the next one.
    ///
    /// # Errors
    /// As the two.
    pub fn save(&mut self, state: &HardState, entries: &[EntryRef<'_>]) -> Result<()> {
        self.append(state, entries)?;
        if self.needs_sync { self.sync() } else { Ok(()) }
    }

    /// Appends the mark of a snapshot that is durable already, and syncs. If the log ends before the snapshot, it
    /// continues behind it.
    ///
    /// # Errors
    /// As [`Wal::append`] and [`Wal::sync`].
    pub fn save_snapshot(&mut self, mark: &SnapshotMark) -> Result<()> {
        self.check_usable()?;
        self.cut_if_due()?;
        put_frame(&mut self.pending, &mut self.chain, Kind::Snapshot, &mark.encode(), Some(&[]));
        self.order.install(mark.index, mark.term);
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::MarkNotSynced) {
            return Ok(());
        }
        self.needs_sync = true;
        self.sync()
    }

    /// Ends the tail segment and starts the next one, whatever the tail's size. Everything appended is durable on
    /// return.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when there is no room for the next segment: nothing is lost, the tail goes on being
    /// written, and the cut may be tried again. After a failed sync or rename the handle is poisoned.
    pub fn cut(&mut self) -> Result<()> {
        self.check_usable()?;
        if self.in_flight {
            return Err(Error::SyncInFlight);
        }
        self.flush()?;
        let next = self.pipeline.take()?;
        if let Err(error) = self.finish_tail() {
            self.pipeline.put_back(next);
            return Err(error);
        }

        let mut head = Vec::new();
        let mut chain = self.chain.clone();
        put_frame(&mut head, &mut chain, Kind::Crc, &[], None);
        put_frame(&mut head, &mut chain, Kind::Metadata, &self.metadata, Some(&[]));
        if !self.state.is_empty() {
            put_frame(&mut head, &mut chain, Kind::State, &self.state.encode(), Some(&[]));
        }
        let name = SegmentName { seq: self.tail_segment().name.seq + 1, index: self.order.next() };
        if let Err(error) = self.publish(&next, &head, name) {
            // The file may hold a part of this head: the next attempt starts with a fresh one.
            self.pipeline.discard(&next);
            return Err(error);
        }
        self.chain = chain;
        self.written = head.len() as u64;
        self.held.push_back(HeldSegment { name, file: next.file });
        Ok(())
    }

    /// Cuts if the tail has reached its size. While a [`SyncJob`] is out the cut waits for the next chance.
    ///
    /// [`Wal::append`] does this by itself; who always has a job out when it appends calls it between two jobs.
    ///
    /// # Errors
    /// As [`Wal::cut`].
    pub fn cut_if_due(&mut self) -> Result<()> {
        let full = self.written + self.pending.len() as u64 >= self.segment_size;
        if full && !self.in_flight { self.cut() } else { Ok(()) }
    }

    /// Makes sure that the next segment is prepared; with [`Prepare::OnDemand`](crate::Prepare::OnDemand) this is
    /// the time to do it outside a cut.
    ///
    /// # Errors
    /// [`Error::NoSpace`], or as the file system. The log is not affected.
    pub fn prepare_next(&mut self) -> Result<()> {
        self.pipeline.prepare()
    }

    /// Gives up the segments that are not needed to replay from `index` on: their locks are released, and
    /// [`purge`](crate::purge) may remove them. The segment that holds `index` is kept.
    ///
    /// # Errors
    /// As the file system.
    pub fn release_to(&mut self, index: u64) -> Result<()> {
        let ahead = self.held.iter().position(|segment| segment.name.index >= index);
        let needed_from = ahead.unwrap_or(self.held.len()).saturating_sub(1);
        for segment in self.held.drain(..needed_from) {
            let unlock = segment.file.unlock(LockKind::OfdExclusive);
            unlock.map_err(|e| Error::io("unlock", &self.dir.join(segment.name.to_string()), e))?;
        }
        self.order.forget_before(index);
        Ok(())
    }

    /// The segments that this log holds locked, oldest first.
    pub fn held_segments(&self) -> impl Iterator<Item = SegmentName> + '_ {
        self.held.iter().map(|segment| segment.name)
    }

    /// Takes everything appended so far out as a job that another thread may run, while this one goes on appending.
    /// `None` when there is nothing to do.
    ///
    /// Nothing may be relied on until the job was run and brought back to [`Wal::finish_sync`].
    ///
    /// # Errors
    /// [`Error::SyncInFlight`] while another job is out; [`Error::Poisoned`].
    pub fn begin_sync(&mut self) -> Result<Option<SyncJob>> {
        self.check_usable()?;
        if self.in_flight {
            return Err(Error::SyncInFlight);
        }
        if self.pending.is_empty() && !self.dirty {
            return Ok(None);
        }
        let bytes = std::mem::replace(&mut self.pending, std::mem::take(&mut self.spare));
        let offset = self.written;
        self.written += bytes.len() as u64;
        self.in_flight = true;
        self.needs_sync = false;
        self.dirty = false;
        if self.written >= self.segment_size / PREPARE_SHARE {
            self.pipeline.order_next();
        }
        let tail = self.tail_segment();
        Ok(Some(SyncJob { file: Arc::clone(&tail.file), path: self.tail_path(), offset, bytes }))
    }

    /// Takes a job back that was run.
    ///
    /// # Errors
    /// As [`Wal::sync`].
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<()> {
        assert!(self.in_flight, "a sync job was brought back twice");
        self.in_flight = false;
        let mut bytes = done.bytes;
        match done.outcome {
            Outcome::Synced => {
                bytes.clear();
                bytes.shrink_to(BUFFER_KEEP_MAX);
                self.spare = bytes;
                Ok(())
            }
            Outcome::NotWritten(error) => {
                // Back to the front of the queue, at the same place: what was written in part is written again.
                self.written -= bytes.len() as u64;
                bytes.append(&mut self.pending);
                self.pending = bytes;
                self.needs_sync = true;
                self.dirty = true;
                Err(error)
            }
            Outcome::NotSynced(error) => Err(self.poisoned_by(error)),
        }
    }

    /// Syncs and closes the log; the segment that was prepared ahead is removed.
    ///
    /// # Errors
    /// As [`Wal::sync`], or as the file system.
    pub fn close(mut self) -> Result<()> {
        self.check_usable()?;
        if self.in_flight {
            return Err(Error::SyncInFlight);
        }
        self.flush()?;
        self.sync_tail()?;
        self.pipeline.close()
    }

    /// Whether a [`SyncJob`] is out.
    pub(crate) fn is_syncing(&self) -> bool {
        self.in_flight
    }

    fn tail_segment(&self) -> &HeldSegment {
        &self.held[self.held.len() - 1]
    }

    fn tail_path(&self) -> PathBuf {
        self.dir.join(self.tail_segment().name.to_string())
    }

    fn check_usable(&self) -> Result<()> {
        match &self.poison {
            Some(reason) => Err(Error::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poisoned_by(&mut self, error: Error) -> Error {
        self.poison.get_or_insert_with(|| error.to_string());
        error
    }

    fn check_state(&self, state: &HardState) -> Result<()> {
        if state.term == 0 && !state.is_empty() { Err(Error::StateWithoutTerm) } else { Ok(()) }
    }

    /// Works out the order after this append, in `order_after`: a refused entry leaves the log as it was.
    fn admit(&mut self, state: &HardState, entries: &[EntryRef<'_>]) -> Result<()> {
        self.order_after.clone_from(&self.order);
        self.order_after.observe_term(state.term);
        for entry in entries {
            self.order_after.admit(entry.index, entry.term)?;
        }
        Ok(())
    }

    fn put_state(&mut self, state: &HardState) {
        if state.is_empty() {
            return;
        }
        put_frame(&mut self.pending, &mut self.chain, Kind::State, &state.encode(), Some(&[]));
        self.needs_sync |= state.term != self.state.term || state.vote != self.state.vote;
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::VoteNeedsNoSync) {
            self.needs_sync = false;
        }
        self.state = *state;
    }

    /// Hands what has gathered to the file.
    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let write = self.tail_segment().file.write_all_at(&self.pending, self.written);
        write.map_err(|e| Error::io("write", &self.tail_path(), e))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(BUFFER_KEEP_MAX);
        self.dirty = true;
        Ok(())
    }

    fn sync_tail(&mut self) -> Result<()> {
        if let Err(source) = self.tail_segment().file.sync_data() {
            let error = Error::io("sync", &self.tail_path(), source);
            return Err(self.poisoned_by(error));
        }
        self.needs_sync = false;
        self.dirty = false;
        Ok(())
    }

    /// Takes the unused space off the tail and syncs it, for the last time.
    fn finish_tail(&mut self) -> Result<()> {
        let cut = self.tail_segment().file.set_len(self.written);
        cut.map_err(|e| Error::io("take the unused space off", &self.tail_path(), e))?;
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::TailNotSynced) {
            return Ok(());
        }
        self.sync_tail()
    }

    /// Writes the head of the next segment and gives it its name: from then on it is part of the log.
    fn publish(&mut self, next: &Prepared, head: &[u8], name: SegmentName) -> Result<()> {
        next.file.write_all_at(head, 0).map_err(|e| Error::io("write", &next.path, e))?;
        next.file.sync_data().map_err(|e| self.poisoned_by(Error::io("sync", &next.path, e)))?;
        let to = self.dir.join(name.to_string());
        match self.disk.rename(&next.path, &to).map_err(|e| Error::io("rename a prepared segment to", &to, e))
        {
            // A full disk refuses a rename before it does anything. After other failures the name may be there or
            // not: writing on to the old tail could then end in two tails.
            Err(error) if error.is_no_space() => return Err(error),
            Err(error) => return Err(self.poisoned_by(error)),
            Ok(()) => {}
        }
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::NameNotSynced) {
            return Ok(());
        }
        self.disk.sync_dir(&self.dir).map_err(|e| self.poisoned_by(Error::io("sync", &self.dir, e)))
    }
}

/// A write and a sync that wait to be done, on any thread.
#[derive(Debug)]
#[must_use = "the log waits until the job was run and brought back"]
pub struct SyncJob {
    file: Arc<dyn File>,
    path: PathBuf,
    offset: u64,
    bytes: Vec<u8>,
}

impl SyncJob {
    /// Bytes that are to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is only something to sync.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes and syncs.
    #[must_use = "bring the result back with finish_sync"]
    pub fn run(self) -> SyncDone {
        let write =
            if self.bytes.is_empty() { Ok(()) } else { self.file.write_all_at(&self.bytes, self.offset) };
        let outcome = match write.map(|()| self.file.sync_data()) {
            Ok(Ok(())) => Outcome::Synced,
            Ok(Err(e)) => Outcome::NotSynced(Error::io("sync", &self.path, e)),
            Err(e) => Outcome::NotWritten(Error::io("write", &self.path, e)),
        };
        SyncDone { bytes: self.bytes, outcome }
    }
}

/// A [`SyncJob`] that was run.
#[derive(Debug)]
#[must_use = "bring it back with finish_sync"]
pub struct SyncDone {
    bytes: Vec<u8>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Synced,
    NotWritten(Error),
    NotSynced(Error),
}
