//! The form of KV requests: keys, options and the structure of transactions. No state is consulted.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::request_op::Request;

use crate::refusal::{
    DUPLICATE_KEY, EMPTY_KEY, INVALID_SORT, KEY_NOT_FOUND, LEASE_PROVIDED, Refusal, STREAM_FILTER,
    STREAM_SORT, TOO_MANY_OPS, VALUE_PROVIDED,
};

pub(super) fn range(request: &pb::RangeRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    let order = pb::range_request::SortOrder::try_from(request.sort_order);
    let target = pb::range_request::SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() { Err(INVALID_SORT) } else { Ok(()) }
}

/// What a streamed range cannot do, beyond [`range`].
pub(super) fn range_stream(request: &pb::RangeRequest) -> Result<(), Refusal> {
    range(request)?;
    use pb::range_request::{SortOrder, SortTarget};
    let by_key = request.sort_target() == SortTarget::Key;
    match request.sort_order() {
        SortOrder::None => {}
        SortOrder::Ascend if by_key => {}
        _ => return Err(STREAM_SORT),
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if bounds.iter().any(|&bound| bound != 0) { Err(STREAM_FILTER) } else { Ok(()) }
}

pub(super) fn put(request: &pb::PutRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(LEASE_PROVIDED);
    }
    Ok(())
}

pub(super) fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Refusal> {
    key(&request.key)
}

fn key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(EMPTY_KEY) } else { Ok(()) }
}

/// Sizes and operations first, then writes that meet, branch by branch.
pub(super) fn txn(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    structure(request, max_ops)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

fn structure(request: &pb::TxnRequest, budget: usize) -> Result<(), Refusal> {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = budget.checked_sub(used).ok_or(TOO_MANY_OPS)?;
    for compare in &request.compare {
        key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            None => return Err(KEY_NOT_FOUND),
            Some(Request::RequestRange(r)) => range(r)?,
            Some(Request::RequestPut(r)) => put(r)?,
            Some(Request::RequestDeleteRange(r)) => delete_range(r)?,
            Some(Request::RequestTxn(r)) => structure(r, left)?,
        }
    }
    Ok(())
}

/// Whether every operation of both branches is a range, at the top level.
pub(super) fn is_read_only(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// What a put adds to the database besides key and value, in bytes, as the quota counts it.
const PUT_OVERHEAD: u64 = 256;
/// What a lease adds.
pub(super) const LEASE_COST: u64 = 64;

/// Cost of a put against the quota, in bytes.
pub(super) fn put_cost(request: &pb::PutRequest) -> u64 {
    PUT_OVERHEAD + (request.key.len() + request.value.len()) as u64
}

/// Cost of the dearer branch against the quota, in bytes.
pub(super) fn txn_cost(request: &pb::TxnRequest) -> u64 {
    let branch = |ops: &[pb::RequestOp]| -> u64 {
        let cost = |op: &pb::RequestOp| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(txn)) => txn_cost(txn),
            _ => 0,
        };
        ops.iter().map(cost).sum()
    };
    branch(&request.success).max(branch(&request.failure))
}

/// The keys put and the intervals deleted by one list of operations, nested ones included.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Intervals,
}

impl Writes {
    /// Collects a list, or refuses it because two of its writes meet. Nested transactions are looked at in order, so a
    /// delete in a later sibling of a put is let pass, as in etcd.
    fn of(ops: &[pb::RequestOp]) -> Result<Writes, Refusal> {
        let mut writes = Writes::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                writes.deletes.insert(&delete.key, &delete.range_end);
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                writes.nest(Writes::of(&txn.success)?, Writes::of(&txn.failure)?)?;
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                writes.free(&put.key)?;
                writes.puts.insert(put.key.clone());
            }
        }
        Ok(writes)
    }

    /// Takes in the two branches of a nested transaction; they exclude each other and may write the same keys.
    fn nest(&mut self, success: Writes, failure: Writes) -> Result<(), Refusal> {
        for key in success.puts.iter().chain(&failure.puts) {
            self.free(key)?;
        }
        self.puts.extend(success.puts);
        self.puts.extend(failure.puts);
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn free(&self, key: &Bytes) -> Result<(), Refusal> {
        if self.puts.contains(key) || self.deletes.contains(key) { Err(DUPLICATE_KEY) } else { Ok(()) }
    }
}

/// A set of keys as disjoint intervals, start to exclusive end.
#[derive(Default)]
struct Intervals(BTreeMap<Bytes, Bytes>);

impl Intervals {
    /// Adds the keys of a delete. An open end (`\0`) is the empty interval here, as in etcd.
    fn insert(&mut self, key: &Bytes, range_end: &Bytes) {
        let end =
            if range_end.is_empty() { [key.as_ref(), b"\0"].concat().into() } else { range_end.clone() };
        self.join(key.clone(), end);
    }

    fn join(&mut self, mut start: Bytes, mut end: Bytes) {
        if end <= start {
            return;
        }
        while let Some((at, until)) = self.0.range(..=end.clone()).next_back() {
            if *until < start {
                break;
            }
            let at = at.clone();
            let until = self.0.remove(&at).unwrap_or_default();
            start = start.min(at);
            end = end.max(until);
        }
        self.0.insert(start, end);
    }

    fn extend(&mut self, other: Intervals) {
        for (start, end) in other.0 {
            self.join(start, end);
        }
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.0.range(..=key.clone()).next_back().is_some_and(|(_, end)| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    fn put_op(key: &'static str) -> pb::RequestOp {
        op(Request::RequestPut(pb::PutRequest { key: key.into(), ..Default::default() }))
    }

    fn delete_op(key: &'static str, end: &'static str) -> pb::RequestOp {
        let delete = pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false };
        op(Request::RequestDeleteRange(delete))
    }

    fn txn_op(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        op(Request::RequestTxn(pb::TxnRequest { success, failure, ..Default::default() }))
    }

    fn verdict(success: Vec<pb::RequestOp>) -> Result<(), Refusal> {
        txn(&pb::TxnRequest { success, ..Default::default() }, 128)
    }

    #[test]
    fn txn_5_writes_that_meet_are_refused() {
        let refused = [
            vec![put_op("a"), put_op("a")],
            vec![put_op("b"), delete_op("a", "c")],
            vec![delete_op("a", "c"), put_op("b")],
            vec![put_op("a"), txn_op(vec![put_op("a")], vec![])],
            vec![txn_op(vec![put_op("a")], vec![]), txn_op(vec![], vec![put_op("a")])],
            vec![put_op("a"), txn_op(vec![], vec![delete_op("a", "")])],
            vec![delete_op("a", ""), txn_op(vec![], vec![put_op("a")])],
            vec![txn_op(vec![delete_op("a", "")], vec![]), txn_op(vec![put_op("a")], vec![])],
        ];
        for ops in refused {
            assert_eq!(verdict(ops.clone()), Err(DUPLICATE_KEY), "{ops:?}");
        }
    }

    #[test]
    fn txn_5_writes_that_may_stand_side_by_side_are_accepted() {
        let accepted = [
            vec![put_op("c"), delete_op("a", "c")],
            vec![txn_op(vec![put_op("a")], vec![put_op("a")])],
            vec![txn_op(vec![put_op("a")], vec![delete_op("a", "")])],
            vec![txn_op(vec![put_op("a")], vec![]), txn_op(vec![delete_op("a", "")], vec![])],
            vec![delete_op("a", "d"), delete_op("b", "z")],
            vec![delete_op("a", "\0"), put_op("b")],
        ];
        for ops in accepted {
            assert_eq!(verdict(ops.clone()), Ok(()), "{ops:?}");
        }
        let branches =
            pb::TxnRequest { success: vec![put_op("a")], failure: vec![put_op("a")], compare: vec![] };
        assert_eq!(txn(&branches, 128), Ok(()));
    }

    #[test]
    fn txn_1_a_nested_transaction_may_use_what_is_left() {
        let puts = |n: usize, tag: char| -> Vec<_> {
            let put = |i| {
                op(Request::RequestPut(pb::PutRequest {
                    key: format!("{tag}{i}").into(),
                    ..Default::default()
                }))
            };
            (0..n).map(put).collect()
        };
        let nested = |outer: usize, inner: usize| {
            let mut ops = puts(outer - 1, 'o');
            ops.push(txn_op(puts(inner, 'i'), vec![]));
            verdict(ops)
        };
        assert_eq!(nested(127, 1), Ok(()));
        assert_eq!(nested(128, 1), Err(TOO_MANY_OPS));
        assert_eq!(nested(100, 28), Ok(()));
        assert_eq!(nested(100, 29), Err(TOO_MANY_OPS));
    }

    #[test]
    fn txn_3_and_4_every_operation_is_checked_in_every_branch() {
        assert_eq!(verdict(vec![pb::RequestOp::default()]), Err(KEY_NOT_FOUND));
        assert_eq!(verdict(vec![txn_op(vec![], vec![put_op("")])]), Err(EMPTY_KEY));
        let compare = vec![pb::Compare::default()];
        assert_eq!(txn(&pb::TxnRequest { compare, ..Default::default() }, 128), Err(EMPTY_KEY));
    }

    #[test]
    fn mnt_6_the_dearer_branch_counts() {
        let request = pb::TxnRequest {
            success: vec![put_op("a"), txn_op(vec![put_op("bb")], vec![])],
            failure: vec![put_op("a")],
            compare: vec![],
        };
        assert_eq!(txn_cost(&request), 257 + 258);
    }
}
