//! How watchers move between synced, unsynced and victim.
//!
//! ```text
//!            created, start <= current                  created, start > current
//!                     |                                          |
//!                     v      a scan read to the end              v
//!    +--------->  unsynced --------------------------------->  synced <-----------+
//!    |             ^    |                                        |                |
//!    |   room, but |    | stream full                stream full |                | room, nothing missed
//!    |   missed    |    v                                        v                |
//!    |   too much  +- parked                                  victim -------------+
//!    |                                                           |
//!    +-----------------------------------------------------------+
//!                       room, but missed too much
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use crate::catch_up::{Found, Reader};
use crate::event::Events;
use crate::hub::{Group, Hub, StreamId};
use crate::{CATCH_UP_WATCHERS_MAX, CatchUp, CaughtUp, Event, Response};

/// Watchers that wait for a scan.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    /// Slots with generations, in the order in which they came; entries of watchers that have left are skipped.
    unsynced: VecDeque<(u32, u32)>,
}

/// The last batches that were published, so that who missed only these need not read history.
///
/// Invariant: revisions ascend, and every published revision from `begin` on is in it.
#[derive(Debug)]
pub(crate) struct Recent {
    batches: VecDeque<(i64, Arc<[Event]>)>,
    begin: i64,
    bytes: usize,
}

impl Recent {
    /// Batches kept. Few: they are searched for each watcher that comes back.
    const BATCHES_MAX: usize = 256;
    /// Bytes of events kept.
    const BYTES_MAX: usize = 4 << 20;

    /// Nothing yet of a store at revision `current`.
    pub(crate) fn after(current: i64) -> Recent {
        Recent { batches: VecDeque::new(), begin: current + 1, bytes: 0 }
    }

    pub(crate) fn push(&mut self, revision: i64, batch: Arc<[Event]>) {
        self.bytes += weight(&batch);
        self.batches.push_back((revision, batch));
        while self.batches.len() > Self::BATCHES_MAX || self.bytes > Self::BYTES_MAX {
            let Some((revision, batch)) = self.batches.pop_front() else { break };
            self.bytes -= weight(&batch);
            self.begin = revision + 1;
        }
    }

    /// The batches from revision `next` on, if none of those is missing.
    fn since(&self, next: i64) -> Option<Vec<(i64, Arc<[Event]>)>> {
        if next < self.begin {
            return None;
        }
        let skip = self.batches.partition_point(|(revision, _)| *revision < next);
        Some(self.batches.range(skip..).cloned().collect())
    }
}

fn weight(batch: &[Event]) -> usize {
    batch.iter().map(|event| event.encoded.len() + event.key.len() + size_of::<Event>()).sum()
}

impl Hub {
    /// A scan for watchers that need history, or `None` if none does. Several may be under way at once.
    pub fn begin_catch_up(&mut self) -> Option<CatchUp> {
        let mut readers = Vec::new();
        while readers.len() < CATCH_UP_WATCHERS_MAX {
            let Some((slot, generation)) = self.slow.unsynced.pop_front() else { break };
            let Some(watcher) = self.same(slot, generation) else { continue };
            debug_assert!(matches!(watcher.group, Group::Unsynced), "only unsynced watchers wait for a scan");
            let (range, filters, next) = (watcher.range.clone(), watcher.filters, watcher.next);
            if self.is_full(watcher.stream) {
                self.enter_parked(slot);
                continue;
            }
            self.watcher_mut(slot).group = Group::Scanned;
            readers.push(Reader { slot, generation, range, filters, next });
        }
        (!readers.is_empty()).then_some(CatchUp { readers, to: self.current })
    }

    /// Whether a watcher waits for a scan.
    pub fn needs_catch_up(&self) -> bool {
        !self.slow.unsynced.is_empty()
    }

    /// Takes what a scan found, hands it to the watchers that still want it, and makes those synced that need no more.
    pub fn finish_catch_up(&mut self, caught_up: CaughtUp) {
        let CaughtUp { batch, readers, to, .. } = caught_up;
        for (reader, found) in readers {
            let slot = reader.slot;
            let expected = self.same(slot, reader.generation).is_some_and(|w| {
                // A restore in between may have sent it back to the queue.
                matches!(w.group, Group::Scanned) && w.next == reader.next
            });
            if !expected {
                continue;
            }
            match found {
                Found::Compacted { compact_revision } => self.enter_gone(slot, compact_revision),
                Found::Nothing => self.enter_unsynced(slot),
                Found::Events { picks, next } => {
                    self.watcher_mut(slot).next = next;
                    let events = Events::new(batch.clone(), picks);
                    // The header tells the store's revision when the scan was made.
                    let response = (!events.is_empty()).then(|| self.watcher(slot).events(to, events));
                    match response.map_or(Ok(()), |response| self.enqueue(slot, response)) {
                        #[cfg(feature = "mutants")]
                        Ok(()) if crate::mutant::active(crate::mutant::Mutant::SyncedTooEarly) => {
                            self.watcher_mut(slot).next = self.current + 1;
                            self.enter_synced(slot);
                        }
                        Ok(()) => self.advance(slot),
                        Err(response) => self.enter_victims(slot, response),
                    }
                }
            }
        }
    }

    /// The store was replaced by a snapshot at `current`: nothing that was published meanwhile elsewhere came through
    /// here, so everybody resumes from history at the next revision that it needs.
    pub fn restore(&mut self, current: i64) {
        let before = std::mem::replace(&mut self.current, current);
        self.recent = Recent::after(current);
        for slot in 0..self.watchers.len() as u32 {
            let Some(watcher) = &mut self.watchers[slot as usize] else { continue };
            match watcher.group {
                Group::Synced => {
                    watcher.next = watcher.next.max(before + 1);
                    let (range, next) = (watcher.range.clone(), watcher.next);
                    if next <= current {
                        self.synced.remove(&range, slot);
                        self.enter_unsynced(slot);
                    }
                }
                Group::Scanned => self.enter_unsynced(slot),
                Group::Unsynced | Group::Victim(_) | Group::Parked | Group::Gone => {}
            }
        }
    }

    /// Moves watchers that waited for room in this stream on, as far as there is room.
    pub(crate) fn readmit(&mut self, stream: StreamId) {
        while !self.is_full(stream) {
            let Some(open) = self.streams.get_mut(&stream) else { return };
            let Some((slot, generation)) = open.waiting.pop_front() else { return };
            if self.same(slot, generation).is_none() {
                continue;
            }
            match std::mem::replace(&mut self.watcher_mut(slot).group, Group::Scanned) {
                Group::Victim(response) => {
                    self.enqueue(slot, *response).expect("the stream was found to have room");
                    self.advance(slot);
                }
                Group::Parked => self.advance(slot),
                group => unreachable!("a watcher that waits for room is a victim or parked, not {group:?}"),
            }
        }
    }

    /// Brings a watcher up to the current revision from the recent batches, or queues it for a scan.
    fn advance(&mut self, slot: u32) {
        let next = self.watcher(slot).next;
        if next > self.current {
            return self.enter_synced(slot);
        }
        let Some(batches) = self.recent.since(next) else { return self.enter_unsynced(slot) };
        for (revision, batch) in batches {
            let watcher = self.watcher_mut(slot);
            watcher.next = revision + 1;
            let wanted =
                |event: &Event| watcher.range.contains(&event.key) && !watcher.filters.drops(event.kind);
            let picks: Vec<u32> =
                batch.iter().zip(0u32..).filter(|(e, _)| wanted(e)).map(|(_, n)| n).collect();
            if picks.is_empty() {
                continue;
            }
            // Catching up: the header tells the store's revision now, which is also not below any header before.
            let response = self.watcher(slot).events(self.current, Events::new(batch, picks));
            if let Err(response) = self.enqueue(slot, response) {
                return self.enter_victims(slot, response);
            }
        }
        self.watcher_mut(slot).next = self.current + 1;
        self.enter_synced(slot);
    }

    pub(crate) fn enter_synced(&mut self, slot: u32) {
        let watcher = self.watchers[slot as usize].as_mut().expect("a slot in use holds a watcher");
        debug_assert!(watcher.next > self.current, "synced at {} but needs {}", self.current, watcher.next);
        watcher.group = Group::Synced;
        self.synced.insert(&watcher.range, slot);
    }

    pub(crate) fn enter_unsynced(&mut self, slot: u32) {
        let watcher = self.watcher_mut(slot);
        watcher.group = Group::Unsynced;
        let generation = watcher.generation;
        self.slow.unsynced.push_back((slot, generation));
    }

    /// The watcher's stream had no room for `response`.
    pub(crate) fn enter_victims(&mut self, slot: u32, response: Response) {
        self.wait_for_room(slot, Group::Victim(Box::new(response)));
    }

    fn enter_parked(&mut self, slot: u32) {
        self.wait_for_room(slot, Group::Parked);
    }

    fn wait_for_room(&mut self, slot: u32, group: Group) {
        let watcher = self.watchers[slot as usize].as_mut().expect("a slot in use holds a watcher");
        if matches!(watcher.group, Group::Synced) {
            self.synced.remove(&watcher.range, slot);
        }
        watcher.group = group;
        let entry = (slot, watcher.generation);
        self.streams.get_mut(&watcher.stream).expect("a watcher's stream is open").waiting.push_back(entry);
    }
}
