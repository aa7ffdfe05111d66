//! The KV service: form and quota, then the member.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::door::Call;
use super::{Front, Outbound, Raw, check};
use crate::member::{Caller, Encoded};
use crate::refusal::{LEARNER, NO_SPACE, Refusal};

/// Keys in the first chunk of a streamed range.
const FIRST_CHUNK: i64 = 10;
/// Chunks that wait for a slow reader.
const CHUNKS_AHEAD: usize = 2;

pub(super) async fn range(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::RangeRequest>,
) -> Result<Encoded<pb::RangeResponse>, Refusal> {
    if !request.message.serializable && front.member.standing().is_learner {
        return Err(LEARNER);
    }
    check::range(&request.message)?;
    front.read(call.caller, request.message).await
}

pub(super) async fn put(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::PutRequest>,
) -> Result<Encoded<pb::PutResponse>, Refusal> {
    front.admit(&call, check::put_cost(&request.message)).await?;
    check::put(&request.message)?;
    front.propose(call, RequestKind::Put, request.bytes).await
}

pub(super) async fn delete_range(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::DeleteRangeRequest>,
) -> Result<Encoded<pb::DeleteRangeResponse>, Refusal> {
    check::delete_range(&request.message)?;
    front.propose(call, RequestKind::DeleteRange, request.bytes).await
}

pub(super) async fn txn(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::TxnRequest>,
) -> Result<Encoded<pb::TxnResponse>, Refusal> {
    front.admit(&call, check::txn_cost(&request.message)).await?;
    check::txn(&request.message, front.limits.max_txn_ops)?;
    if check::is_read_only(&request.message) {
        return front.lanes.aside(front.member.read_txn(call.caller, request.message)).await;
    }
    front.propose(call, RequestKind::Txn, request.bytes).await
}

pub(super) async fn compact(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::CompactionRequest>,
) -> Result<Encoded<pb::CompactionResponse>, Refusal> {
    front.propose(call, RequestKind::Compaction, request.bytes).await
}

/// The answer of a range in chunks, all of one revision.
pub(super) async fn range_stream(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::RangeRequest>,
) -> Result<Outbound<pb::RangeStreamResponse>, Refusal> {
    check::range_stream(&request.message)?;
    let (chunks, out) = mpsc::channel(CHUNKS_AHEAD);
    front.lanes.workers().clone().spawn(async move {
        if let Err(refusal) = send_chunks(&front, &call, request.message, &chunks).await {
            // A failed send means that nobody listens any more.
            let _ = chunks.send(Err(refusal.into())).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(out)))
}

type Chunks = mpsc::Sender<Result<Encoded<pb::RangeStreamResponse>, Status>>;

async fn send_chunks(
    front: &Front,
    call: &Call,
    mut request: pb::RangeRequest,
    chunks: &Chunks,
) -> Result<(), Refusal> {
    use pb::range_request::{SortOrder, SortTarget};
    request.set_sort_order(SortOrder::None);
    request.set_sort_target(SortTarget::Key);
    let mut left = (request.limit > 0).then_some(request.limit);
    let mut size = if request.limit < 0 { 0 } else { FIRST_CHUNK };
    let mut pinned: Option<(pb::ResponseHeader, i64)> = None;
    loop {
        request.limit = if request.count_only { 0 } else { left.map_or(size, |left| left.min(size)) };
        let mut chunk = front.member.range(call.caller.clone(), request.clone()).await?.decode()?;
        let (header, count) = *pinned.get_or_insert((chunk.header.unwrap_or_default(), chunk.count));
        left = left.map(|left| left - chunk.kvs.len() as i64);
        let last = !chunk.more || left == Some(0);
        let encoded = chunk.encoded_len();
        let next = chunk.kvs.last().map(|kv| Bytes::from([kv.key.as_ref(), b"\0"].concat()));
        chunk.header = last.then_some(header);
        chunk.count = if last { count } else { 0 };
        chunk.more = last && chunk.more;
        let message = pb::RangeStreamResponse { range_response: Some(chunk) };
        if chunks.send(Ok(message.into())).await.is_err() || last {
            return Ok(());
        }
        let Some(next) = next else { return Ok(()) };
        request.key = next;
        request.serializable = true;
        if request.revision <= 0 {
            request.revision = header.revision;
        }
        size = next_size(size, encoded, front.limits.max_request_bytes);
    }
}

fn next_size(size: i64, encoded: usize, target: usize) -> i64 {
    if encoded < target / 2 {
        size.saturating_mul(2)
    } else if encoded > target.saturating_mul(2) {
        (size / 2).max(1)
    } else {
        size
    }
}

impl Front {
    /// Reads on a worker what may be many keys: how many there are is seen too late.
    pub(super) async fn read(
        &self,
        caller: Caller,
        request: pb::RangeRequest,
    ) -> Result<Encoded<pb::RangeResponse>, Refusal> {
        let one = request.range_end.is_empty();
        let read = self.member.range(caller, request);
        if one { read.await } else { self.lanes.aside(read).await }
    }

    /// Proposes the request's own bytes and names the type of the answer.
    pub(super) async fn propose<M: Message + Default>(
        &self,
        call: Call,
        kind: RequestKind,
        request: Bytes,
    ) -> Result<Encoded<M>, Refusal> {
        self.member.propose(call.caller, kind, request).await.map(Encoded::from_bytes)
    }

    /// The quota at the front door: what would not fit raises the alarm of this member and is refused.
    pub(super) async fn admit(&self, call: &Call, cost: u64) -> Result<(), Refusal> {
        let space = self.member.space();
        if cost == 0 || space.quota.is_none_or(|quota| space.allocated.saturating_add(cost) < quota) {
            return Ok(());
        }
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: self.member.standing().member_id,
            alarm: pb::AlarmType::Nospace.into(),
        };
        let raised =
            self.member.propose(call.caller.clone(), RequestKind::Alarm, alarm.encode_to_vec().into());
        if let Err(refusal) = raised.await {
            tracing::warn!(error = %refusal, "failed to raise alarm");
        }
        Err(NO_SPACE)
    }
}

#[cfg(test)]
mod tests {
    use super::next_size;

    #[test]
    fn kvs_3_chunks_follow_their_encoded_size() {
        assert_eq!(next_size(10, 49, 100), 20);
        assert_eq!(next_size(10, 50, 100), 10);
        assert_eq!(next_size(10, 201, 100), 5);
        assert_eq!(next_size(1, 999, 100), 1);
    }
}
