//! What requests do, in the plainest form: a sorted map of keys with all their versions, and leases.
//!
//! It shares no code with the store, the lessor or the applier. What may not live here: entries, members, clients.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::mvccpb::KeyValue;
use stanchion_replica::apply::{Refusal, Reply};

use pb::compare::{CompareResult, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

/// One change of one key, as watchers must hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// The pair that was put; `None` for a deletion.
    pub pair: Option<KeyValue>,
}

/// The state that requests make, with its whole past.
#[derive(Debug)]
pub struct Model {
    /// The current revision.
    pub revision: i64,
    /// The revision of the last accepted compaction; -1 for none.
    pub compact_revision: i64,
    /// All versions of each key by rising revision; `None` for a deletion.
    keys: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// The changes of each revision, the first being revision 2.
    changes: Vec<Vec<Change>>,
    /// The granted TTL of each lease.
    pub leases: BTreeMap<i64, i64>,
    /// The checkpointed rest of each lease that has one, in seconds.
    pub rests: BTreeMap<i64, i64>,
    /// Members whose files are full.
    pub full: BTreeSet<u64>,
    /// The cluster's version.
    pub cluster_version: Option<String>,
    /// Changes of the request that runs.
    open: Vec<Change>,
}

type Outcome = Result<Reply, Refusal>;

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

impl Default for Model {
    fn default() -> Self {
        Model {
            revision: 1,
            compact_revision: -1,
            keys: BTreeMap::new(),
            changes: Vec::new(),
            leases: BTreeMap::new(),
            rests: BTreeMap::new(),
            full: BTreeSet::new(),
            cluster_version: None,
            open: Vec::new(),
        }
    }
}

impl Model {
    /// The pairs of a range at a revision.
    pub fn range_at(&self, key: &[u8], range_end: &[u8], revision: i64) -> Vec<KeyValue> {
        self.versions(key, range_end)
            .filter_map(|(_, versions)| {
                let newest = versions.partition_point(|(at, _)| *at <= revision);
                versions[..newest].last()?.1.clone()
            })
            .collect()
    }

    /// The changes of a revision.
    pub fn changes(&self, revision: i64) -> &[Change] {
        usize::try_from(revision - 2).ok().and_then(|n| self.changes.get(n)).map_or(&[], Vec::as_slice)
    }

    fn versions<'m>(
        &'m self,
        key: &[u8],
        range_end: &'m [u8],
    ) -> impl Iterator<Item = (&'m Bytes, &'m Vec<(i64, Option<KeyValue>)>)> {
        let single = range_end.is_empty().then(|| Bytes::copy_from_slice(key));
        let below_end = move |found: &Bytes| match &single {
            Some(key) => found == key,
            None => range_end == [0] || found < range_end,
        };
        self.keys.range(Bytes::copy_from_slice(key)..).take_while(move |(found, _)| below_end(found))
    }

    fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)?.last()?.1.as_ref()
    }

    /// The revision that the running request's headers tell.
    fn now(&self) -> i64 {
        self.revision + i64::from(!self.open.is_empty())
    }

    fn write(&mut self, key: Bytes, pair: Option<KeyValue>) {
        let revision = self.revision + 1;
        let versions = self.keys.entry(key.clone()).or_default();
        // The last version of a revision counts.
        versions.retain(|(at, _)| *at < revision);
        versions.push((revision, pair.clone()));
        self.open.push(Change { key, pair });
    }

    /// Ends a request: what it changed is a revision.
    fn end(&mut self) {
        if !self.open.is_empty() {
            self.revision += 1;
            self.changes.push(std::mem::take(&mut self.open));
        }
    }

    /// A put.
    pub fn put(&mut self, request: &pb::PutRequest) -> Outcome {
        self.check_space()?;
        self.check_put(request)?;
        let response = self.do_put(request);
        self.end();
        Ok(Reply::Put(response))
    }

    fn check_space(&self) -> Result<(), Refusal> {
        if self.full.is_empty() { Ok(()) } else { Err(Refusal::NoSpace) }
    }

    fn check_put(&self, request: &pb::PutRequest) -> Result<(), Refusal> {
        match request.lease != 0 && !self.leases.contains_key(&request.lease) {
            true => Err(Refusal::LeaseNotFound),
            false => Ok(()),
        }
    }

    fn do_put(&mut self, request: &pb::PutRequest) -> pb::PutResponse {
        let before = self.get(&request.key).cloned();
        let pair = KeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(self.revision + 1, |pair| pair.create_revision),
            mod_revision: self.revision + 1,
            version: before.as_ref().map_or(0, |pair| pair.version) + 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        self.write(request.key.clone(), Some(pair));
        pb::PutResponse { header: header(self.now()), prev_kv: before.filter(|_| request.prev_kv) }
    }

    /// A deletion.
    pub fn delete(&mut self, request: &pb::DeleteRangeRequest) -> Outcome {
        let response = self.do_delete(request);
        self.end();
        Ok(Reply::DeleteRange(response))
    }

    fn do_delete(&mut self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let gone = self.range_at(&request.key, &request.range_end, self.revision + 1);
        for pair in &gone {
            self.write(pair.key.clone(), None);
        }
        pb::DeleteRangeResponse {
            header: header(self.now()),
            deleted: gone.len() as i64,
            prev_kvs: if request.prev_kv { gone } else { Vec::new() },
        }
    }

    /// A transaction of single-key compares, puts, deletions and ranges.
    pub fn txn(&mut self, request: &pb::TxnRequest) -> Outcome {
        let puts = |operation: &pb::RequestOp| matches!(operation.request, Some(Request::RequestPut(_)));
        if request.success.iter().chain(&request.failure).any(puts) {
            self.check_space()?;
        }
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let operations = if succeeded { &request.success } else { &request.failure };
        for operation in operations {
            if let Some(Request::RequestPut(put)) = &operation.request {
                self.check_put(put)?;
            }
        }
        let responses = operations.iter().map(|operation| self.operate(operation)).collect();
        let response = pb::TxnResponse { header: header(self.now()), succeeded, responses };
        self.end();
        Ok(Reply::Txn(response))
    }

    fn operate(&mut self, operation: &pb::RequestOp) -> pb::ResponseOp {
        let response = operation.request.as_ref().map(|request| match request {
            Request::RequestPut(put) => Response::ResponsePut(self.do_put(put)),
            Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.do_delete(delete)),
            Request::RequestRange(range) => {
                let kvs = self.range_at(&range.key, &range.range_end, self.revision + 1);
                let count = kvs.len() as i64;
                Response::ResponseRange(pb::RangeResponse {
                    header: header(self.now()),
                    kvs,
                    more: false,
                    count,
                })
            }
            Request::RequestTxn(_) => unreachable!("clients of the simulation nest no transactions"),
        });
        pb::ResponseOp { response }
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let pair = self.get(&compare.key);
        let number = |pick: fn(&KeyValue) -> i64| pair.map_or(0, pick);
        let ordering = match compare.target_union.as_ref() {
            Some(TargetUnion::ModRevision(n)) => number(|pair| pair.mod_revision).cmp(n),
            Some(TargetUnion::CreateRevision(n)) => number(|pair| pair.create_revision).cmp(n),
            Some(TargetUnion::Version(n)) => number(|pair| pair.version).cmp(n),
            Some(TargetUnion::Lease(n)) => number(|pair| pair.lease).cmp(n),
            Some(TargetUnion::Value(value)) => match pair {
                Some(pair) => pair.value.cmp(value),
                None => return false,
            },
            None => unreachable!("clients of the simulation compare with something"),
        };
        match compare.result() {
            CompareResult::Equal => ordering.is_eq(),
            CompareResult::NotEqual => ordering.is_ne(),
            CompareResult::Greater => ordering.is_gt(),
            CompareResult::Less => ordering.is_lt(),
        }
    }

    /// A compaction.
    pub fn compact(&mut self, request: &pb::CompactionRequest) -> Outcome {
        if request.revision <= self.compact_revision {
            return Err(Refusal::Compacted);
        }
        if request.revision > self.revision {
            return Err(Refusal::Future);
        }
        self.compact_revision = request.revision;
        Ok(Reply::Compaction(pb::CompactionResponse { header: header(self.revision) }))
    }

    /// The grant of a lease, whose TTL is at least `least` seconds.
    pub fn grant(&mut self, request: &pb::LeaseGrantRequest, least: i64) -> Outcome {
        self.check_space()?;
        if self.leases.contains_key(&request.id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = request.ttl.max(least);
        self.leases.insert(request.id, ttl);
        let (header, error) = (header(self.revision), String::new());
        Ok(Reply::LeaseGrant(pb::LeaseGrantResponse { header, id: request.id, ttl, error }))
    }

    /// The revocation of a lease: its keys go in one revision, in order.
    pub fn revoke(&mut self, request: &pb::LeaseRevokeRequest) -> Outcome {
        if self.leases.remove(&request.id).is_none() {
            return Err(Refusal::LeaseNotFound);
        }
        self.rests.remove(&request.id);
        for key in self.keys_of(request.id) {
            self.write(key, None);
        }
        let header = header(self.now());
        self.end();
        Ok(Reply::LeaseRevoke(pb::LeaseRevokeResponse { header }))
    }

    /// Checkpoints of leases: 0 gives a lease its whole TTL again.
    pub fn checkpoint(&mut self, request: &pb::LeaseCheckpointRequest) -> Outcome {
        for checkpoint in request.checkpoints.iter().filter(|c| self.leases.contains_key(&c.id)) {
            match checkpoint.remaining_ttl {
                0 => self.rests.remove(&checkpoint.id),
                rest => self.rests.insert(checkpoint.id, rest),
            };
        }
        Ok(Reply::LeaseCheckpoint(pb::LeaseCheckpointResponse { header: header(self.revision) }))
    }

    /// An alarm of a full file, raised or lifted. The answer is not predicted.
    pub fn alarm(&mut self, request: &pb::AlarmRequest) {
        match request.action() {
            pb::alarm_request::AlarmAction::Activate => _ = self.full.insert(request.member_id),
            pb::alarm_request::AlarmAction::Deactivate => _ = self.full.remove(&request.member_id),
            pb::alarm_request::AlarmAction::Get => {}
        }
    }

    /// The keys that hang on a lease, in order.
    pub fn keys_of(&self, lease: i64) -> Vec<Bytes> {
        let newest = self.keys.values().filter_map(|versions| versions.last()?.1.as_ref());
        newest.filter(|pair| pair.lease == lease).map(|pair| pair.key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> pb::PutRequest {
        pb::PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() }
    }

    #[test]
    fn keeps_the_past_and_counts_revisions() {
        let mut model = Model::default();
        model.put(&put("a")).unwrap();
        model.put(&put("b")).unwrap();
        let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "c".into(), ..Default::default() };
        let Ok(Reply::DeleteRange(gone)) = model.delete(&delete) else { panic!("a deletion is not refused") };
        assert_eq!((gone.deleted, model.revision), (2, 4));
        assert_eq!(model.range_at(b"a", b"c", 3).len(), 2);
        assert_eq!(model.range_at(b"a", b"", 3).len(), 1);
        assert!(model.range_at(b"a", &[0], 4).is_empty());
        assert_eq!(model.changes(4).len(), 2);
        let Ok(Reply::DeleteRange(none)) = model.delete(&delete) else { panic!("a deletion is not refused") };
        assert_eq!((none.deleted, model.revision), (0, 4));
    }

    #[test]
    fn a_lease_takes_its_keys_along() {
        let mut model = Model::default();
        let leased = pb::PutRequest { lease: 7, ..put("a") };
        assert_eq!(model.put(&leased), Err(Refusal::LeaseNotFound));
        model.grant(&pb::LeaseGrantRequest { id: 7, ttl: 1 }, 2).unwrap();
        assert_eq!(model.leases[&7], 2);
        model.put(&leased).unwrap();
        model.revoke(&pb::LeaseRevokeRequest { id: 7 }).unwrap();
        assert!(model.range_at(b"a", b"", model.revision).is_empty());
        assert_eq!(model.changes(3), [Change { key: "a".into(), pair: None }]);
    }
}
