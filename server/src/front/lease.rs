//! The Lease service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use futures_util::stream::unfold;
use prost::encoding::int64;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use tokio_stream::StreamExt as _;
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

/// A stream of keep-alives under way.
struct KeepAlive {
    front: Arc<Front>,
    call: Call,
    requests: Inbound<pb::LeaseKeepAliveRequest>,
    leader_lost: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// One answer per request, in order; the header is taken before the renewal.
pub(super) async fn keep_alive(
    front: Arc<Front>,
    call: Call,
    requests: Inbound<pb::LeaseKeepAliveRequest>,
) -> Result<Outbound<pb::LeaseKeepAliveResponse>, Refusal> {
    let (looking, asked) = (front.clone(), call.clone());
    let leader_lost = Box::pin(async move { looking.leader_lost(&asked).await });
    let stream = KeepAlive { front, call, requests, leader_lost };
    // The connection asks for the next answer, so that nobody else is woken for it. The first error is the last answer.
    Ok(Box::pin(unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        let answer = stream.next().await?;
        let going_on = answer.is_ok().then_some(stream);
        Some((answer, going_on))
    })))
}

impl KeepAlive {
    /// `None` once the client says no more.
    async fn next(&mut self) -> Option<Result<Encoded<pb::LeaseKeepAliveResponse>, Status>> {
        let request = tokio::select! {
            () = &mut self.leader_lost => return Some(Err(NO_LEADER.into())),
            request = self.requests.next() => request?,
        };
        Some(match request {
            Ok(request) => renew(&self.front, &self.call, request.message.id).await.map_err(Status::from),
            Err(status) => Err(status),
        })
    }
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
