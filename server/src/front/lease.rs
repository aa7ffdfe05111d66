//! The Lease service.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use prost::encoding::int64;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::door::Call;
use super::{Front, Inbound, Outbound, Raw, check};
use crate::member::Encoded;
use crate::refusal::{NO_LEADER, Refusal};

const ID_FIELD: u32 = 2;

pub(super) async fn grant(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::LeaseGrantRequest>,
) -> Result<Encoded<pb::LeaseGrantResponse>, Refusal> {
    front.admit(&call, check::LEASE_COST).await?;
    let mut bytes = request.bytes;
    if request.message.id == 0 {
        // The last value of a field counts, so a chosen id is written behind the request.
        let id = choose_id(&front);
        let mut longer = BytesMut::with_capacity(bytes.len() + 11);
        longer.put_slice(&bytes);
        int64::encode(ID_FIELD, &id, &mut longer);
        bytes = longer.freeze();
    }
    front.propose(call, RequestKind::LeaseGrant, bytes).await
}

/// A positive id of 63 bits.
pub(super) fn choose_id(front: &Front) -> i64 {
    loop {
        let id = (front.member.next_id() & (i64::MAX as u64)) as i64;
        if id != 0 {
            return id;
        }
    }
}

pub(super) async fn revoke(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::LeaseRevokeRequest>,
) -> Result<Encoded<pb::LeaseRevokeResponse>, Refusal> {
    front.propose(call, RequestKind::LeaseRevoke, request.bytes).await
}

pub(super) async fn time_to_live(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::LeaseTimeToLiveRequest>,
) -> Result<Encoded<pb::LeaseTimeToLiveResponse>, Refusal> {
    let mut found = front.member.lease_time_to_live(call.caller, request.message).await?;
    found.header = Some(front.header());
    Ok(found.into())
}

pub(super) async fn leases(
    front: Arc<Front>,
    call: Call,
    _: Raw<pb::LeaseLeasesRequest>,
) -> Result<Encoded<pb::LeaseLeasesResponse>, Refusal> {
    let ids = front.member.lease_ids(call.caller).await?;
    let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
    Ok(pb::LeaseLeasesResponse { header: Some(front.header()), leases }.into())
}

/// One answer per request, in order; the header is taken before the renewal.
pub(super) async fn keep_alive(
    front: Arc<Front>,
    call: Call,
    mut requests: Inbound<pb::LeaseKeepAliveRequest>,
) -> Result<Outbound<pb::LeaseKeepAliveResponse>, Refusal> {
    let (answers, out) = mpsc::channel(1);
    tokio::spawn(async move {
        let lost = front.leader_lost(&call);
        tokio::pin!(lost);
        loop {
            let answer = tokio::select! {
                () = answers.closed() => return,
                () = &mut lost => Err(Status::from(NO_LEADER)),
                request = requests.next() => match request {
                    None => return,
                    Some(Err(status)) => Err(status),
                    Some(Ok(request)) => renew(&front, &call, request.message.id).await.map_err(Status::from),
                },
            };
            let failed = answer.is_err();
            if answers.send(answer).await.is_err() || failed {
                return;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(out)))
}

async fn renew(front: &Front, call: &Call, id: i64) -> Result<Encoded<pb::LeaseKeepAliveResponse>, Refusal> {
    let header = Some(front.header());
    let ttl = front.member.lease_renew(call.caller.clone(), id).await?;
    Ok(pb::LeaseKeepAliveResponse { header, id, ttl }.into())
}

impl Front {
    /// A header with the current revision.
    pub(super) fn header(&self) -> pb::ResponseHeader {
        let standing = self.member.standing();
        standing.header(standing.revision)
    }
}
