//! What clients were told, against the agreed history and real time.
//!
//! Linearizability without search: the log orders all writes, and every answer names its place in it (an index or a
//! revision). That each answer is what the model says at its place is checked elsewhere, entry by entry; what is left
//! is real time: an operation that began after another one was answered has its place behind that one's.

use std::collections::BTreeMap;

use stanchion_api::mvccpb::KeyValue;

use super::{Check, Ledger, hold};

/// Where the answers so far lie: what is asked from now on must lie behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    index: u64,
    revision: i64,
}

/// What clients were told.
#[derive(Debug, Default)]
pub struct Clients {
    floor: Floor,
    /// The newest revision that serializable reads of a member's start have shown.
    shown: BTreeMap<u64, i64>,
    /// Operations that were answered.
    pub answered: u64,
}

impl Clients {
    /// An operation begins.
    #[must_use]
    pub fn asked(&self) -> Floor {
        self.floor
    }

    /// A request that went through the log is answered.
    ///
    /// # Errors
    /// It is not committed, or lies before something that was answered before it began.
    pub fn wrote(&mut self, ledger: &Ledger, op: u64, floor: Floor, revision: Option<i64>) -> Check {
        let Some(index) = ledger.index_of(op) else {
            return Err(format!("#{op} was answered, but is not committed"));
        };
        hold!(
            index > floor.index,
            "#{op} took effect at entry {index}, but entry {} was answered before it began",
            floor.index
        );
        if let Some(revision) = revision {
            hold!(
                revision >= floor.revision,
                "#{op} is answered with revision {revision}, but revision {} was answered before it began",
                floor.revision
            );
            self.floor.revision = self.floor.revision.max(revision);
        }
        self.floor.index = self.floor.index.max(index);
        self.answered += 1;
        Ok(())
    }

    /// A range was answered. `start` names the start of the member, for reads that are served without asking others.
    ///
    /// # Errors
    /// The pairs are not those of the revision, or the revision is too old.
    pub fn read(
        &mut self,
        ledger: &Ledger,
        op: u64,
        (key, range_end): (&[u8], &[u8]),
        answer: (i64, &[KeyValue]),
        place: Result<Floor, u64>,
    ) -> Check {
        let (revision, pairs) = answer;
        hold!(
            revision <= ledger.model.revision,
            "#{op} shows revision {revision}, but {} is the newest",
            ledger.model.revision
        );
        let expected = ledger.model.range_at(key, range_end, revision);
        hold!(
            pairs == expected,
            "#{op} shows {} pairs at revision {revision}, expected {}: {pairs:?}, not {expected:?}",
            pairs.len(),
            expected.len()
        );
        match place {
            Ok(floor) => {
                hold!(
                    revision >= floor.revision,
                    "#{op} is stale: it reads revision {revision}, but {} was answered before it began",
                    floor.revision
                );
                self.floor.revision = self.floor.revision.max(revision);
            }
            Err(start) => {
                let shown = self.shown.entry(start).or_default();
                hold!(
                    revision >= *shown,
                    "#{op} goes back: it reads {revision} where {shown} was shown before"
                );
                *shown = revision;
            }
        }
        self.answered += 1;
        Ok(())
    }
}
