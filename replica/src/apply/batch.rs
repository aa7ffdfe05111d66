//! A batch of committed entries as consensus hands it out: requests, membership changes and empty entries in order.

use stanchion_raft::{ConfChange, Entry, EntryType};

use super::{Applier, Effect, Fatal, Refusal, Reply};
use crate::change::meaning;
use crate::consensus::ApplyWork;

/// A batch that was applied. Give raft the changes in their order, then the work back.
#[derive(Debug)]
#[must_use = "raft, watchers and waiters must be told"]
pub struct AppliedWork {
    /// To be given back.
    pub work: ApplyWork,
    /// For [`Consensus::apply_change`](crate::consensus::Consensus::apply_change), in order: index and change.
    pub changes: Vec<(u64, ConfChange)>,
    /// What each request did, in order.
    pub effects: Vec<Effect>,
    /// The term of the last new leader's first entry in the batch: from here on that leader counts the time of leases.
    pub opened_term: Option<u64>,
}

impl Applier {
    /// Applies a batch. `told` hears of each entry right after it, with its effect if it had one, so that whoever has a
    /// clock can say how long entries take.
    ///
    /// # Errors
    /// [`Fatal`]: the member must stop.
    pub fn apply_work(
        &mut self,
        now_ms: u64,
        work: ApplyWork,
        mut told: impl FnMut(&Entry, Option<&Effect>),
    ) -> Result<AppliedWork, Fatal> {
        let mut done = AppliedWork { changes: Vec::new(), effects: Vec::new(), opened_term: None, work };
        for entry in done.work.entries() {
            let effect = match entry.entry_type {
                EntryType::Normal => {
                    if entry.data.is_empty() {
                        done.opened_term = Some(entry.term);
                    }
                    self.apply(now_ms, entry.index, entry.term, entry.data.clone())?
                }
                EntryType::ConfChange => {
                    let (change, effect) = self.apply_conf_entry(entry)?;
                    done.changes.push((entry.index, change));
                    effect
                }
                EntryType::ConfChangeV2 => {
                    let what = format!("entry {} is a joint change, which etcd never writes", entry.index);
                    return Err(Fatal::Load { what });
                }
            };
            told(entry, effect.as_ref());
            done.effects.extend(effect);
        }
        Ok(done)
    }

    /// A change that the members refuse becomes one of no node for raft.
    fn apply_conf_entry(&mut self, entry: &Entry) -> Result<(ConfChange, Option<Effect>), Fatal> {
        let change = ConfChange::decode(entry.data.clone())
            .map_err(|e| Fatal::Load { what: format!("membership entry {}: {e}", entry.index) })?;
        let outcome = match meaning(&change) {
            Ok(change) => self.apply_change(entry.index, entry.term, &change),
            Err(wrong) => {
                self.skip(entry.index, entry.term);
                Some(Err(Refusal::Unknown { what: wrong.to_string() }))
            }
        };
        let refused = matches!(outcome, Some(Err(_)));
        let id = change.id;
        let effect = outcome.map(|result| {
            let result = result.map(|()| Reply::Done);
            Effect { id, result, ..Effect::silent() }
        });
        Ok((if refused { ConfChange { node_id: 0, ..change } } else { change }, effect))
    }
}
