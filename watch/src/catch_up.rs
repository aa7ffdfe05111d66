//! Reading history for watchers that need it, beside the hub.
//!
//! [`Hub::begin_catch_up`](crate::Hub::begin_catch_up) hands out a [`CatchUp`]; [`CatchUp::run`] reads one shared scan
//! of history without touching the hub, so that publishing goes on; the [`CaughtUp`] goes back through
//! [`Hub::finish_catch_up`](crate::Hub::finish_catch_up).

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::hub::Filters;
use crate::{Event, EventKind, HistoryError, KeyRange, RangeIndex};

/// Watchers that share one scan.
pub const CATCH_UP_WATCHERS_MAX: usize = 512;
/// Revisions with events that one watcher is given in one scan.
pub const CATCH_UP_REVISIONS_MAX: usize = 1000;
/// Events kept in memory by one scan; it ends at the revision that reaches this, and the rest follows in later ones.
pub const CATCH_UP_EVENTS_MAX: usize = 20_000;

/// The past, as a store keeps it.
pub trait History {
    /// The oldest revision whose events are complete; anything before is compacted. Zero if nothing is.
    fn compact_revision(&self) -> i64;

    /// Visits the events with `from <= revision <= to` whose key is wanted, in the order in which they happened,
    /// until `visit` breaks. Only wanted events need to be decoded and encoded.
    ///
    /// # Errors
    /// [`HistoryError::Compacted`] if `from` or what follows was compacted meanwhile, [`HistoryError::Failed`].
    fn scan(
        &self,
        from: i64,
        to: i64,
        wanted: &dyn Fn(&[u8]) -> bool,
        visit: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), HistoryError>;
}

/// One watcher of a scan.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) range: Arc<KeyRange>,
    pub(crate) filters: Filters,
    /// The next revision that it needs.
    pub(crate) next: i64,
}

/// A scan to be run.
#[derive(Debug)]
pub struct CatchUp {
    pub(crate) readers: Vec<Reader>,
    /// The last revision to be read: what had been published when the job was made.
    pub(crate) to: i64,
}

/// What a scan found for one watcher.
#[derive(Debug)]
pub(crate) enum Found {
    /// These events of the batch; everything before `next` has been read.
    Events { picks: Vec<u32>, next: i64 },
    /// What it needs is gone.
    Compacted { compact_revision: i64 },
    /// The store failed: try again.
    Nothing,
}

/// What a scan found.
#[derive(Debug)]
pub struct CaughtUp {
    pub(crate) batch: Arc<[Event]>,
    pub(crate) readers: Vec<(Reader, Found)>,
    pub(crate) to: i64,
    /// Why history could not be read, if so. The watchers are tried again, so tell somebody.
    pub error: Option<HistoryError>,
}

impl CatchUp {
    /// How many watchers wait for it.
    pub fn watchers(&self) -> usize {
        self.readers.len()
    }

    /// Reads history. The store must show every revision up to the last one that was published.
    pub fn run(self, history: &impl History) -> CaughtUp {
        let compact_revision = history.compact_revision();
        let mut scan = Scan::new(&self.readers, compact_revision);
        let from = self.readers.iter().map(|r| r.next).filter(|&next| next >= compact_revision).min();
        let result = match from {
            Some(from) if from <= self.to => {
                let index = RangeIndex::of(&self.readers);
                let wanted = |key: &[u8]| index.matches(key);
                history.scan(from, self.to, &wanted, &mut |event| scan.handle(&index, &self.readers, event))
            }
            _ => Ok(()),
        };
        let stopped_at = scan.stopped_at.unwrap_or(self.to + 1);
        let found =
            scan.states.into_iter().zip(&self.readers).map(|(state, reader)| match (&result, state) {
                (_, State::Compacted) => Found::Compacted { compact_revision },
                (Err(HistoryError::Compacted { compact_revision }), _) if reader.next < *compact_revision => {
                    Found::Compacted { compact_revision: *compact_revision }
                }
                (Err(_), _) => Found::Nothing,
                (Ok(()), State::Reading { picks, full_at, .. }) => {
                    Found::Events { picks, next: full_at.unwrap_or(stopped_at).max(reader.next) }
                }
            });
        let found: Vec<Found> = found.collect();
        CaughtUp {
            batch: scan.batch.into(),
            readers: self.readers.into_iter().zip(found).collect(),
            to: self.to,
            error: result.err(),
        }
    }
}

impl RangeIndex {
    fn of(readers: &[Reader]) -> RangeIndex {
        let mut index = RangeIndex::new();
        for (reader, n) in readers.iter().zip(0u32..) {
            index.insert(&reader.range, n);
        }
        index
    }
}

enum State {
    Reading {
        picks: Vec<u32>,
        revisions: usize,
        last: i64,
        /// The first revision that it did not get because it had [`CATCH_UP_REVISIONS_MAX`] already.
        full_at: Option<i64>,
    },
    Compacted,
}

/// A scan under way. Invariant: `batch` holds whole revisions only.
struct Scan {
    states: Vec<State>,
    batch: Vec<Event>,
    stopped_at: Option<i64>,
    reading: usize,
}

impl Scan {
    fn new(readers: &[Reader], compact_revision: i64) -> Scan {
        let states: Vec<State> = readers
            .iter()
            .map(|reader| match reader.next < compact_revision {
                #[cfg(feature = "mutants")]
                _ if crate::mutant::active(crate::mutant::Mutant::CompactionUnnoticed) => {
                    State::Reading { picks: Vec::new(), revisions: 0, last: 0, full_at: None }
                }
                true => State::Compacted,
                false => State::Reading { picks: Vec::new(), revisions: 0, last: 0, full_at: None },
            })
            .collect();
        let reading = states.iter().filter(|state| matches!(state, State::Reading { .. })).count();
        Scan { states, batch: Vec::new(), stopped_at: None, reading }
    }

    fn handle(&mut self, index: &RangeIndex, readers: &[Reader], event: Event) -> ControlFlow<()> {
        let revision = event.revision;
        let opens_revision = self.batch.last().is_none_or(|last| last.revision < revision);
        if opens_revision && (self.batch.len() >= CATCH_UP_EVENTS_MAX || self.reading == 0) {
            self.stopped_at = Some(revision);
            return ControlFlow::Break(());
        }
        let at = self.batch.len() as u32;
        let mut picked = false;
        index.for_each_match(&event.key, |n| {
            picked |= self.offer(n as usize, &readers[n as usize], revision, event.kind, at);
        });
        if picked {
            self.batch.push(event);
        }
        ControlFlow::Continue(())
    }

    /// Offers the event that would stand at `at` of the batch to one reader; returns whether it takes it.
    fn offer(&mut self, n: usize, reader: &Reader, revision: i64, kind: EventKind, at: u32) -> bool {
        let State::Reading { picks, revisions, last, full_at } = &mut self.states[n] else { return false };
        if revision < reader.next || full_at.is_some() || reader.filters.drops(kind) {
            return false;
        }
        if *last < revision {
            if *revisions == CATCH_UP_REVISIONS_MAX {
                *full_at = Some(revision);
                self.reading -= 1;
                return false;
            }
            *revisions += 1;
            *last = revision;
        }
        picks.push(at);
        true
    }
}
