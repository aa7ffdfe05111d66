//! The Maintenance service.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health::ServingStatus;

use super::door::Call;
use super::{Front, Outbound, Raw};
use crate::member::{Encoded, Image};
use crate::refusal::Refusal;

/// Bytes of the image in one message.
const SNAPSHOT_CHUNK: usize = 32 * 1024;

/// An unknown action must never reach the log: etcd's members die of it.
const UNKNOWN_ALARM: Refusal = Refusal::fixed(Code::InvalidArgument, "etcdserver: unknown alarm action");

pub(super) async fn alarm(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::AlarmRequest>,
) -> Result<Encoded<pb::AlarmResponse>, Refusal> {
    if pb::alarm_request::AlarmAction::try_from(request.message.action).is_err() {
        return Err(UNKNOWN_ALARM);
    }
    front.propose(call, RequestKind::Alarm, request.bytes).await
}

pub(super) async fn status(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::StatusRequest>,
) -> Result<Encoded<pb::StatusResponse>, Refusal> {
    let mut status = front.member.status().await?;
    status.header = Some(front.header());
    Ok(status.into())
}

pub(super) async fn defragment(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::DefragmentRequest>,
) -> Result<Encoded<pb::DefragmentResponse>, Refusal> {
    // To its end even if the caller goes: what was said of the service must be taken back.
    let defragmenting = tokio::spawn(async move {
        let stops = front.limits.stop_on_defrag;
        if stops {
            front.health.set_service_status("", ServingStatus::NotServing).await;
        }
        let done = front.member.defragment().await;
        if stops {
            front.health.set_service_status("", ServingStatus::Serving).await;
        }
        done
    });
    defragmenting.await.map_err(Refusal::unknown)??;
    Ok(pb::DefragmentResponse { header: None }.into())
}

pub(super) async fn hash(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::HashRequest>,
) -> Result<Encoded<pb::HashResponse>, Refusal> {
    let hash = front.member.hash().await?;
    Ok(pb::HashResponse { header: Some(front.header()), hash }.into())
}

pub(super) async fn hash_kv(
    front: Arc<Front>,
    _: Call,
    request: Raw<pb::HashKvRequest>,
) -> Result<Encoded<pb::HashKvResponse>, Refusal> {
    let mut hashed = front.member.hash_kv(request.message.revision).await?;
    hashed.header = Some(front.header());
    Ok(hashed.into())
}

pub(super) async fn move_leader(
    front: Arc<Front>,
    _: Call,
    request: Raw<pb::MoveLeaderRequest>,
) -> Result<Encoded<pb::MoveLeaderResponse>, Refusal> {
    front.member.move_leader(request.message.target_id).await?;
    Ok(pb::MoveLeaderResponse { header: None }.into())
}

/// The image in chunks that count down, then its checksum.
pub(super) async fn snapshot(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::SnapshotRequest>,
) -> Result<Outbound<pb::SnapshotResponse>, Refusal> {
    let image = front.member.image().await?;
    let (chunks, out) = mpsc::channel(2);
    // The checksum is work.
    front.lanes.workers().spawn(async move {
        if let Err(refusal) = send_image(image, &chunks).await {
            // A failed send means that nobody listens any more.
            let _ = chunks.send(Err(refusal.into())).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(out)))
}

type Chunks = mpsc::Sender<Result<Encoded<pb::SnapshotResponse>, Status>>;

async fn send_image(mut image: Image, chunks: &Chunks) -> Result<(), Refusal> {
    let mut digest = Sha256::new();
    let mut waiting = BytesMut::new();
    let mut left = image.size;
    loop {
        let piece = image.pieces.recv().await;
        let ended = piece.is_none();
        if let Some(piece) = piece {
            waiting.extend_from_slice(&piece?);
        }
        while waiting.len() >= SNAPSHOT_CHUNK || (ended && !waiting.is_empty()) {
            let blob = waiting.split_to(waiting.len().min(SNAPSHOT_CHUNK)).freeze();
            left = left.checked_sub(blob.len() as u64).ok_or_else(|| wrong_size(image.size))?;
            digest.update(&blob);
            if !send_chunk(chunks, blob, left, &image.version).await {
                return Ok(());
            }
        }
        if ended {
            break;
        }
    }
    if left != 0 {
        return Err(wrong_size(image.size));
    }
    let sum = Bytes::copy_from_slice(&digest.finalize());
    send_chunk(chunks, sum, 0, &image.version).await;
    Ok(())
}

async fn send_chunk(chunks: &Chunks, blob: Bytes, remaining_bytes: u64, version: &str) -> bool {
    let chunk = pb::SnapshotResponse { header: None, remaining_bytes, blob, version: version.to_owned() };
    chunks.send(Ok(chunk.into())).await.is_ok()
}

fn wrong_size(size: u64) -> Refusal {
    Refusal::unknown(format_args!("the database image does not have its {size} bytes"))
}
