//! Put, delete, range and compaction on an open write transaction.

use bytes::Bytes;
use prost::Message as _;
use stanchion_api::{etcdserverpb as pb, mvccpb};
use stanchion_lease::Lessor;
use stanchion_mvcc::{
    KeyRange, Put, RangeOptions, RangeResult, RevisionFilter, SortOrder, SortTarget, WriteTxn,
};

use super::Refusal;
use super::error::Failure;

/// A header with a revision alone.
pub(super) fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

pub(super) fn put(
    txn: &mut WriteTxn<'_>,
    lessor: &Lessor,
    request: &pb::PutRequest,
) -> Result<pb::PutResponse, Failure> {
    check_put(txn, lessor, request)?;
    let prev = txn.put(Put {
        key: &request.key,
        value: (!request.ignore_value).then_some(&request.value[..]),
        lease: (!request.ignore_lease).then_some(request.lease),
        prev_kv: request.prev_kv,
    })?;
    let prev_kv = prev.map(decode).transpose()?;
    Ok(pb::PutResponse { header: header(txn.revision()), prev_kv })
}

/// Everything that can refuse a put, on what the transaction sees now.
pub(super) fn check_put(
    txn: &WriteTxn<'_>,
    lessor: &Lessor,
    request: &pb::PutRequest,
) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if request.lease != 0 && !lessor.contains(request.lease) {
        return Err(Refusal::LeaseNotFound);
    }
    if (request.ignore_value || request.ignore_lease) && txn.meta(&request.key).is_none() {
        return Err(Refusal::KeyNotFound);
    }
    Ok(())
}

pub(super) fn delete_range(
    txn: &mut WriteTxn<'_>,
    request: &pb::DeleteRangeRequest,
) -> Result<pb::DeleteRangeResponse, Failure> {
    let range = KeyRange::from_request(&request.key, &request.range_end);
    let deleted = txn.delete_range(range, request.prev_kv)?;
    let prev_kvs = (0..deleted.prev_kvs.len()).filter_map(|n| deleted.prev_kvs.get(n)).map(decode);
    Ok(pb::DeleteRangeResponse {
        header: header(txn.revision()),
        deleted: deleted.count as i64,
        prev_kvs: prev_kvs.collect::<Result<_, _>>()?,
    })
}

pub(super) fn range(
    txn: &mut WriteTxn<'_>,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, Failure> {
    let options = range_options(request)?;
    let result = txn.range(KeyRange::from_request(&request.key, &request.range_end), &options)?;
    range_response(txn.revision(), &result)
}

/// A range's answer, decoded into messages.
pub(super) fn range_response(revision: i64, result: &RangeResult) -> Result<pb::RangeResponse, Failure> {
    let kvs = (0..result.rows.len()).filter_map(|n| result.rows.get(n)).map(decode);
    Ok(pb::RangeResponse {
        header: header(revision),
        kvs: kvs.collect::<Result<_, _>>()?,
        more: result.more,
        count: result.count as i64,
    })
}

/// The options that a request asks for.
///
/// # Errors
/// [`Refusal::Unknown`] for sort options that do not exist, which a front door refuses before.
pub fn range_options(request: &pb::RangeRequest) -> Result<RangeOptions, Refusal> {
    use pb::range_request as asked;
    let unknown = |what: &str, number: i32| Refusal::Unknown { what: format!("{what} {number}") };
    let sort_order = match asked::SortOrder::try_from(request.sort_order) {
        Ok(asked::SortOrder::None) => SortOrder::None,
        Ok(asked::SortOrder::Ascend) => SortOrder::Ascend,
        Ok(asked::SortOrder::Descend) => SortOrder::Descend,
        Err(_) => return Err(unknown("sort order", request.sort_order)),
    };
    let sort_target = match asked::SortTarget::try_from(request.sort_target) {
        Ok(asked::SortTarget::Key) => SortTarget::Key,
        Ok(asked::SortTarget::Version) => SortTarget::Version,
        Ok(asked::SortTarget::Create) => SortTarget::Create,
        Ok(asked::SortTarget::Mod) => SortTarget::Mod,
        Ok(asked::SortTarget::Value) => SortTarget::Value,
        Err(_) => return Err(unknown("sort target", request.sort_target)),
    };
    Ok(RangeOptions {
        revision: request.revision,
        limit: usize::try_from(request.limit).unwrap_or(0),
        count_only: request.count_only,
        keys_only: request.keys_only,
        sort_target,
        sort_order,
        filter: RevisionFilter {
            min_mod: request.min_mod_revision,
            max_mod: request.max_mod_revision,
            min_create: request.min_create_revision,
            max_create: request.max_create_revision,
        },
    })
}

/// A stored pair.
pub(super) fn decode(row: Bytes) -> Result<mvccpb::KeyValue, Failure> {
    Ok(mvccpb::KeyValue::decode(row)?)
}
