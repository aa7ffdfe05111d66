//! Reading what happened: the events between revisions, for watchers that start in the past.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::range::{RowBytes, decode};
use crate::{Error, Event, KeyRange, KeyValueRef, RangeEnd, ReadTxn, Result, RowKey};

/// A piece of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Events in order; those of one revision are never split between two pieces.
    pub events: Vec<Event>,
    /// The revision to go on from; above the image's current revision when everything was read.
    pub next: i64,
}

impl ReadTxn {
    /// The events of `range` from the revision `from` on, those of at most `revisions` revisions that have any.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `from` is below the compact revision, or the file's. A `from` in the future is an empty
    /// piece.
    pub fn history(&self, range: KeyRange<'_>, from: i64, revisions: usize) -> Result<History> {
        let (from, compacted) = (from.max(0), self.compacted);
        if from < compacted {
            return Err(Error::Compacted { requested: from, compacted });
        }
        let mut piece = Piece {
            history: History { events: Vec::new(), next: from.max(self.current + 1) },
            room: revisions.max(1),
            last: 0,
        };
        let mut failure = None;
        if range.end == RangeEnd::Single {
            let rows = self.rows.reader()?;
            for key in self.index.changes(range.start, from, self.current) {
                if piece.is_full(key) {
                    break;
                }
                piece.history.events.push(event(key, rows.row_of(key)?)?);
            }
            return Ok(piece.history);
        }
        self.rows.scan(from, self.current, |key, value| match wanted(range, key, value, &mut piece) {
            Ok(flow) => flow,
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(piece.history),
        }
    }
}

/// A piece of history that is being filled.
struct Piece {
    history: History,
    /// Revisions that still fit.
    room: usize,
    /// The last revision that has events here.
    last: i64,
}

impl Piece {
    /// Whether the change at `key` no longer fits; then the piece ends before it.
    fn is_full(&mut self, key: RowKey) -> bool {
        let main = key.revision.main;
        if main == self.last {
            return false;
        }
        if self.room == 0 {
            self.history.next = main;
            return true;
        }
        self.room -= 1;
        self.last = main;
        false
    }
}

fn wanted(
    range: KeyRange<'_>,
    key: RowKey,
    value: RowBytes<'_>,
    piece: &mut Piece,
) -> Result<ControlFlow<()>> {
    let user_key = crate::kv::user_key(&value).map_err(|e| Error::row(&key.encode(), e))?;
    if !range.contains(user_key) {
        return Ok(ControlFlow::Continue(()));
    }
    if piece.is_full(key) {
        return Ok(ControlFlow::Break(()));
    }
    piece.history.events.push(event(key, value)?);
    Ok(ControlFlow::Continue(()))
}

/// The event that a stored row tells of.
fn event(key: RowKey, value: RowBytes<'_>) -> Result<Event> {
    let kv = decode(&value, key.revision)?;
    let (created, lease, key_len) = (kv.version == 1, kv.lease, kv.key.len());
    let bytes = if key.tombstone {
        KeyValueRef { key: kv.key, mod_revision: key.revision.main, ..KeyValueRef::default() }.encode()
    } else {
        match &value {
            RowBytes::Mapped(bytes) => Bytes::copy_from_slice(bytes),
            RowBytes::Buffered(bytes) => bytes.clone(),
        }
    };
    // The key usually stands first; where it does not, it gets bytes of its own.
    let start = 1 + crate::pb::varint_len(key_len as u64);
    let own_key = match bytes.get(start..start + key_len) {
        Some(found) if found == kv.key => bytes.slice(start..start + key_len),
        _ => Bytes::copy_from_slice(kv.key),
    };
    Ok(Event { revision: key.revision, delete: key.tombstone, key: own_key, kv: bytes, created, lease })
}
