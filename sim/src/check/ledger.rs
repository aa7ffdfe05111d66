//! The history that the cluster agreed on: every committed entry once, and what it must have done.
//!
//! The first member that applies an entry puts it into the ledger; every other one must have the same entry there and
//! get the same result, and the result must be the model's.

use std::collections::BTreeMap;

use prost::Message as _;
use stanchion_api::raft_request::{RaftRequest, RequestKind};
use stanchion_api::{etcdserverpb as pb, membershippb};
use stanchion_mvcc::{KvHash, RangeOptions};
use stanchion_raft::{Entry, EntryType};
use stanchion_replica::apply::{Applier, Effect, Refusal, Reply};

use super::{Check, Model, hold};
use crate::random::mix;

/// One committed entry.
#[derive(Debug)]
struct Agreed {
    term: u64,
    digest: u64,
    /// The result that every member must get; `None` until the first has got one that the model does not predict.
    result: Option<Result<Reply, Refusal>>,
    /// The revision behind it.
    revision: i64,
    /// The compact revision behind it.
    compact_revision: i64,
}

/// The history that the cluster agreed on.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By index, the first being 1.
    agreed: Vec<Agreed>,
    /// The state behind the last entry.
    pub model: Model,
    /// Index of each request by its id.
    ids: BTreeMap<u64, u64>,
    /// Hashes by revision and compact revision, and whose was the first.
    hashes: BTreeMap<(i64, i64), (u32, u64)>,
    least_ttl: i64,
}

fn digest(entry: &Entry) -> u64 {
    let chunk = |hash: u64, bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        mix(hash ^ u64::from_le_bytes(word))
    };
    entry.data.chunks(8).fold(mix(entry.data.len() as u64 ^ (entry.entry_type as u64) << 60), chunk)
}

impl Ledger {
    /// An empty history of a cluster whose leases live `least_ttl` seconds at least.
    #[must_use]
    pub fn new(least_ttl: i64) -> Ledger {
        Ledger { least_ttl, ..Ledger::default() }
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.agreed.len() as u64
    }

    /// The index of a request, if it is committed.
    #[must_use]
    pub fn index_of(&self, id: u64) -> Option<u64> {
        self.ids.get(&id).copied()
    }

    /// A member is about to apply an entry.
    ///
    /// # Errors
    /// Another entry is agreed on in its place, or some before it are not.
    pub fn commit(&mut self, member: u64, entry: &Entry) -> Check {
        let (index, digest) = (entry.index, digest(entry));
        if let Some(agreed) = self.agreed.get(index.wrapping_sub(1) as usize) {
            hold!(
                agreed.term == entry.term && agreed.digest == digest,
                "member {member:x} commits entry {index} of term {}, another one of term {} was committed there",
                entry.term,
                agreed.term
            );
            return Ok(());
        }
        let last = self.last_index();
        hold!(
            index == last + 1,
            "member {member:x} applies entry {index}, but the last agreed one is {last}"
        );
        let term_before = self.agreed.last().map_or(0, |agreed| agreed.term);
        hold!(
            term_before <= entry.term,
            "entry {index} has term {}, the one before {term_before}",
            entry.term
        );
        let result = self.apply(member, entry)?;
        let (revision, compact_revision) = (self.model.revision, self.model.compact_revision);
        self.agreed.push(Agreed { term: entry.term, digest, result, revision, compact_revision });
        Ok(())
    }

    /// What the model says of a new entry.
    fn apply(&mut self, member: u64, entry: &Entry) -> Result<Option<Result<Reply, Refusal>>, String> {
        if entry.entry_type != EntryType::Normal || entry.data.is_empty() {
            return Ok(None);
        }
        let index = entry.index;
        let unreadable =
            |what: &dyn std::fmt::Display| format!("entry {index} of {member:x} is damaged: {what}");
        let request = RaftRequest::parse(entry.data.clone()).map_err(|e| unreadable(&e))?;
        let id = request.id();
        if let Some(before) = self.ids.insert(id, index) {
            return Err(format!("request {id:x} is committed twice, at {before} and {index}"));
        }
        let Some((kind, bytes)) = request.request else { return Err(unreadable(&"no request")) };
        let model = &mut self.model;
        macro_rules! decoded {
            ($message:ty) => {
                <$message>::decode(bytes.clone()).map_err(|e| unreadable(&e))?
            };
        }
        Ok(Some(match kind {
            RequestKind::Put => model.put(&decoded!(pb::PutRequest)),
            RequestKind::DeleteRange => model.delete(&decoded!(pb::DeleteRangeRequest)),
            RequestKind::Txn => model.txn(&decoded!(pb::TxnRequest)),
            RequestKind::Compaction => model.compact(&decoded!(pb::CompactionRequest)),
            RequestKind::LeaseGrant => model.grant(&decoded!(pb::LeaseGrantRequest), self.least_ttl),
            RequestKind::LeaseRevoke => model.revoke(&decoded!(pb::LeaseRevokeRequest)),
            RequestKind::LeaseCheckpoint => model.checkpoint(&decoded!(pb::LeaseCheckpointRequest)),
            RequestKind::Alarm => {
                model.alarm(&decoded!(pb::AlarmRequest));
                return Ok(None);
            }
            RequestKind::ClusterVersionSet => {
                let version = decoded!(membershippb::ClusterVersionSetRequest).ver;
                model.cluster_version = Some(version);
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }

    /// A member has applied an entry with this result.
    ///
    /// # Errors
    /// It is not the model's, or not that of the other members.
    pub fn applied(&mut self, member: u64, entry: &Entry, effect: &Effect) -> Check {
        let index = entry.index;
        if effect.raise_no_space {
            // It took effect; that this member's file is over its quota is the member's own matter.
            hold!(
                effect.result == Err(Refusal::NoSpace),
                "member {member:x} is over its quota at entry {index}, but answers {:?}",
                effect.result
            );
            return Ok(());
        }
        let Some(agreed) = self.agreed.get_mut(index.wrapping_sub(1) as usize) else {
            return Err(format!("member {member:x} applies entry {index}, which nobody agreed on"));
        };
        match &agreed.result {
            Some(expected) => hold!(
                *expected == effect.result,
                "member {member:x} answers entry {index} with {:?}, expected {expected:?}",
                effect.result
            ),
            None => agreed.result = Some(effect.result.clone()),
        }
        Ok(())
    }

    /// A member's state, taken as a whole, is what the entries up to its applied index make.
    ///
    /// # Errors
    /// What differs.
    pub fn check_state(&mut self, member: u64, applier: &Applier) -> Check {
        let index = applier.applied().index;
        let store = applier.store();
        if index == 0 {
            hold!(
                store.revision() == 1,
                "member {member:x} has applied nothing, but is at {}",
                store.revision()
            );
            return Ok(());
        }
        let Some(agreed) = self.agreed.get(index as usize - 1) else {
            return Err(format!("member {member:x} has applied {index}, which nobody agreed on"));
        };
        hold!(
            agreed.term == applier.applied().term,
            "member {member:x} has applied entry {index} of term {}, agreed was term {}",
            applier.applied().term,
            agreed.term
        );
        let (revision, compacted) = (store.revision(), store.compact_revision());
        hold!(
            revision == agreed.revision && compacted == agreed.compact_revision,
            "member {member:x} is at revision {revision} (compacted {compacted}) behind entry {index}, expected {} ({})",
            agreed.revision,
            agreed.compact_revision
        );
        self.check_pairs(member, applier)?;
        if index == self.last_index() {
            self.check_rest(member, applier)?;
        }
        Ok(())
    }

    /// Leases with their keys, alarms and the cluster's version are the model's behind the last entry.
    fn check_rest(&self, member: u64, applier: &Applier) -> Check {
        let model = &self.model;
        let held: Vec<(i64, i64, i64)> = applier
            .lessor()
            .stored()
            .iter()
            .map(|lease| (lease.id, lease.ttl_seconds, lease.remaining_seconds))
            .collect();
        let rest = |id: &i64| model.rests.get(id).copied().unwrap_or(0);
        let expected: Vec<(i64, i64, i64)> =
            model.leases.iter().map(|(id, ttl)| (*id, *ttl, rest(id))).collect();
        hold!(
            held == expected,
            "member {member:x} holds leases {held:x?} (id, TTL, rest), expected {expected:x?}"
        );
        for lease in model.leases.keys().copied() {
            let keys: Vec<&[u8]> = applier.lessor().keys(lease).collect();
            let expected = model.keys_of(lease);
            hold!(keys == expected, "member {member:x}: lease {lease:x} has keys {keys:?}, not {expected:?}");
        }
        let full: Vec<u64> = applier.alarms().map(|alarm| alarm.member_id).collect();
        let expected: Vec<u64> = model.full.iter().copied().collect();
        hold!(full == expected, "member {member:x} knows alarms of {full:x?}, expected {expected:x?}");
        let version = applier.cluster_version();
        hold!(
            version == model.cluster_version.as_deref(),
            "member {member:x} calls the cluster's version {version:?}, expected {:?}",
            model.cluster_version
        );
        Ok(())
    }

    /// Every pair is the model's at the store's revision.
    fn check_pairs(&self, member: u64, applier: &Applier) -> Check {
        let image = applier.store().read();
        let revision = image.revision();
        let result = image.range(stanchion_mvcc::KeyRange::ALL, &RangeOptions::default());
        let rows = result.map_err(|e| format!("member {member:x} cannot read its store: {e}"))?.rows;
        let pairs: Result<Vec<_>, _> = rows.iter().map(stanchion_api::mvccpb::KeyValue::decode).collect();
        let pairs = pairs.map_err(|e| format!("member {member:x} holds a damaged pair: {e}"))?;
        let expected = self.model.range_at(b"", &[0], revision);
        if let Some((found, expected)) =
            pairs.iter().zip(&expected).find(|(found, expected)| found != expected)
        {
            return Err(format!(
                "member {member:x} holds {found:?} at revision {revision}, not {expected:?}"
            ));
        }
        hold!(
            pairs.len() == expected.len(),
            "member {member:x} holds {} pairs at revision {revision}, not {}",
            pairs.len(),
            expected.len()
        );
        Ok(())
    }

    /// A member's hash of its keys, equal on all that have it at the same revision and compaction.
    ///
    /// # Errors
    /// Another member had another one.
    pub fn check_hash(&mut self, member: u64, hash: KvHash) -> Check {
        let place = (hash.revision, hash.compact_revision);
        let (known, whose) = *self.hashes.entry(place).or_insert((hash.hash, member));
        hold!(
            known == hash.hash,
            "member {member:x} hashes revision {} (compacted {}) to {:08x}, member {whose:x} to {known:08x}",
            hash.revision,
            hash.compact_revision,
            hash.hash
        );
        Ok(())
    }
}
