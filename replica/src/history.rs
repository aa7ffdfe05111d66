//! The store's history as watchers read it.

use std::ops::ControlFlow;

use stanchion_mvcc::{Error, KeyRange, ReadTxn};
use stanchion_watch::{Event, HistoryError};

use crate::apply::watch_event;

/// Revisions that are read at a time, which bounds what is held in memory.
const PIECE_REVISIONS: usize = 1000;

/// An image of the store whose past can be read for watchers.
#[derive(Debug)]
pub struct History(pub ReadTxn);

impl stanchion_watch::History for History {
    fn compact_revision(&self) -> i64 {
        self.0.compact_revision().max(0)
    }

    fn scan(
        &self,
        from: i64,
        to: i64,
        wanted: &dyn Fn(&[u8]) -> bool,
        visit: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        let mut next = from;
        while next <= to {
            let piece = self.0.history(KeyRange::ALL, next, PIECE_REVISIONS).map_err(failed)?;
            for event in &piece.events {
                if event.revision.main > to {
                    return Ok(());
                }
                if wanted(&event.key) && visit(watch_event(event)).is_break() {
                    return Ok(());
                }
            }
            next = piece.next;
        }
        Ok(())
    }
}

fn failed(error: Error) -> HistoryError {
    match error {
        Error::Compacted { compacted, .. } => HistoryError::Compacted { compact_revision: compacted },
        other => HistoryError::Failed(other.to_string()),
    }
}
