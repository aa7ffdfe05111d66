//! Transactions: which branch is taken, what can refuse it, and its execution.
//!
//! Every compare, also of nested transactions, is decided against the state before the transaction; then everything
//! that can refuse an operation of the taken path is checked; only then something is written. What still fails then
//! (a key that the transaction itself deleted) drops the whole write transaction, so nothing of it is seen.

use std::cmp::Ordering;

use bytes::Bytes;
use stanchion_api::{etcdserverpb as pb, mvccpb};
use stanchion_lease::Lessor;
use stanchion_mvcc::{KeyRange, RangeOptions, RangeResult, ReadTxn, WriteTxn};

use super::error::Failure;
use super::{Refusal, kv};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

/// Where ranges and compares are read: an open write transaction, or an image.
trait View {
    fn read(&mut self, range: KeyRange<'_>, options: &RangeOptions) -> stanchion_mvcc::Result<RangeResult>;
}

impl View for WriteTxn<'_> {
    fn read(&mut self, range: KeyRange<'_>, options: &RangeOptions) -> stanchion_mvcc::Result<RangeResult> {
        self.range(range, options)
    }
}

impl View for ReadTxn {
    fn read(&mut self, range: KeyRange<'_>, options: &RangeOptions) -> stanchion_mvcc::Result<RangeResult> {
        let revision = self.check_revision_in_txn(options.revision)?;
        self.range(range, &RangeOptions { revision, ..options.clone() })
    }
}

/// Runs a transaction whose operations are all ranges on one image. Headers hold the revision alone.
///
/// # Errors
/// [`ReadFailure`].
pub fn read_txn(image: &mut ReadTxn, request: &pb::TxnRequest) -> Result<pb::TxnResponse, ReadFailure> {
    let path = decide(image, request)?;
    let revision = image.revision();
    let mut responses = Vec::with_capacity(path.operations.len());
    for operation in path.operations {
        let Some(Request::RequestRange(request)) = &operation.request else {
            let what = "an operation that is no range, in a transaction that only reads".to_owned();
            return Err(ReadFailure::Refused(Refusal::Unknown { what }));
        };
        let options = kv::range_options(request)?;
        let result = image
            .read(KeyRange::from_request(&request.key, &request.range_end), &options)
            .map_err(Failure::from)?;
        let response = Response::ResponseRange(kv::range_response(revision, &result)?);
        responses.push(pb::ResponseOp { response: Some(response) });
    }
    Ok(pb::TxnResponse { header: kv::header(revision), succeeded: path.succeeded, responses })
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// The request does not fit the store.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(stanchion_mvcc::Error),
}

impl From<Failure> for ReadFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => ReadFailure::Refused(refusal),
            Failure::Store(error) => ReadFailure::Store(error),
        }
    }
}

impl From<stanchion_mvcc::Error> for ReadFailure {
    fn from(error: stanchion_mvcc::Error) -> Self {
        Failure::from(error).into()
    }
}

/// The branch of a transaction, and those of the nested ones on its path, in order.
struct Path<'r> {
    succeeded: bool,
    operations: &'r [pb::RequestOp],
    nested: Vec<Path<'r>>,
}

pub(super) fn txn(
    txn: &mut WriteTxn<'_>,
    lessor: &Lessor,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, Failure> {
    let path = decide(txn, request)?;
    check(txn, lessor, &path)?;
    let mut response = execute(txn, lessor, &path)?;
    response.header = kv::header(txn.revision());
    Ok(response)
}

fn decide<'r>(txn: &mut impl View, request: &'r pb::TxnRequest) -> Result<Path<'r>, Failure> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(txn, compare)? {
            succeeded = false;
            break;
        }
    }
    let operations = if succeeded { &request.success } else { &request.failure };
    let mut nested = Vec::new();
    for operation in operations {
        if let Some(Request::RequestTxn(inner)) = &operation.request {
            nested.push(decide(txn, inner)?);
        }
    }
    Ok(Path { succeeded, operations, nested })
}

fn check(txn: &mut WriteTxn<'_>, lessor: &Lessor, path: &Path<'_>) -> Result<(), Failure> {
    let mut nested = path.nested.iter();
    for operation in path.operations {
        match &operation.request {
            Some(Request::RequestRange(request)) => {
                // Nothing is read; the revision is checked as a read would.
                let options = RangeOptions { count_only: true, ..kv::range_options(request)? };
                txn.range(KeyRange::single(&[0]), &options)?;
            }
            Some(Request::RequestPut(request)) => kv::check_put(txn, lessor, request)?,
            Some(Request::RequestDeleteRange(request)) if request.key.is_empty() => {
                return Err(Refusal::EmptyKey.into());
            }
            Some(Request::RequestDeleteRange(_)) => {}
            Some(Request::RequestTxn(_)) => {
                check(txn, lessor, nested.next().expect("every nested transaction has its path"))?;
            }
            None => return Err(Refusal::KeyNotFound.into()),
        }
    }
    Ok(())
}

fn execute(txn: &mut WriteTxn<'_>, lessor: &Lessor, path: &Path<'_>) -> Result<pb::TxnResponse, Failure> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::with_capacity(path.operations.len());
    for operation in path.operations {
        let response = match &operation.request {
            Some(Request::RequestRange(request)) => Response::ResponseRange(kv::range(txn, request)?),
            Some(Request::RequestPut(request)) => Response::ResponsePut(kv::put(txn, lessor, request)?),
            Some(Request::RequestDeleteRange(request)) => {
                Response::ResponseDeleteRange(kv::delete_range(txn, request)?)
            }
            Some(Request::RequestTxn(_)) => {
                let path = nested.next().expect("every nested transaction has its path");
                Response::ResponseTxn(execute(txn, lessor, path)?)
            }
            None => return Err(Refusal::KeyNotFound.into()),
        };
        responses.push(pb::ResponseOp { response: Some(response) });
    }
    // The header of a nested transaction is there and empty.
    let header = Some(pb::ResponseHeader::default());
    Ok(pb::TxnResponse { header, succeeded: path.succeeded, responses })
}

/// Whether a compare holds for every key of its range; a range without keys is compared like a missing key.
fn holds(txn: &mut impl View, compare: &pb::Compare) -> Result<bool, Failure> {
    let range = KeyRange::from_request(&compare.key, &compare.range_end);
    let rows = txn.read(range, &RangeOptions::default())?.rows;
    if rows.is_empty() {
        let missing = mvccpb::KeyValue::default();
        return Ok(compare.target != CompareTarget::Value as i32 && holds_for(&missing, compare));
    }
    for row in (0..rows.len()).filter_map(|n| rows.get(n)) {
        if !holds_for(&kv::decode(row)?, compare) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds_for(pair: &mvccpb::KeyValue, compare: &pb::Compare) -> bool {
    let operand = compare.target_union.as_ref();
    let number =
        |stored: i64, pick: fn(&TargetUnion) -> Option<i64>| stored.cmp(&operand.and_then(pick).unwrap_or(0));
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(pair.version, |u| match u {
            TargetUnion::Version(n) => Some(*n),
            _ => None,
        }),
        Ok(CompareTarget::Create) => number(pair.create_revision, |u| match u {
            TargetUnion::CreateRevision(n) => Some(*n),
            _ => None,
        }),
        Ok(CompareTarget::Mod) => number(pair.mod_revision, |u| match u {
            TargetUnion::ModRevision(n) => Some(*n),
            _ => None,
        }),
        Ok(CompareTarget::Lease) => number(pair.lease, |u| match u {
            TargetUnion::Lease(n) => Some(*n),
            _ => None,
        }),
        Ok(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(value)) => pair.value.cmp(value),
            _ => pair.value.cmp(&Bytes::new()),
        },
        // A target that does not exist compares as equal.
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        // A result that does not exist holds.
        Err(_) => true,
    }
}

/// Whether any branch at any depth puts.
pub(super) fn has_put(request: &pb::TxnRequest) -> bool {
    operations(request).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(inner)) => has_put(inner),
        _ => false,
    })
}

/// What a transaction costs of the quota: the dearer of its branches.
pub(super) fn cost(request: &pb::TxnRequest) -> u64 {
    let branch = |operations: &[pb::RequestOp]| -> u64 {
        let one = |operation: &pb::RequestOp| match &operation.request {
            Some(Request::RequestPut(put)) => super::put_cost(put),
            Some(Request::RequestTxn(inner)) => cost(inner),
            _ => 0,
        };
        operations.iter().map(one).sum()
    };
    branch(&request.success).max(branch(&request.failure))
}

fn operations(request: &pb::TxnRequest) -> impl Iterator<Item = &pb::RequestOp> {
    request.success.iter().chain(&request.failure)
}
