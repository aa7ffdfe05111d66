//! Looking for members whose store is not what the others have: before this member serves, and from time to time while
//! it leads. The rules are the replica's (`stanchion_replica::corruption`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use stanchion_mvcc::KvHash;
use stanchion_replica::apply::Applier;
use stanchion_replica::boot::Identity;
use stanchion_replica::corruption::{
    Compared, LeadersLook, PeerHash, compare_compaction, differing, find_corrupt,
};

use super::StartError;
use super::handle::Handle;
use crate::member::{Caller, Member as _};
use crate::peers::ask_hashes;
use crate::refusal::Refusal;

/// When stores are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Before a member that was started again serves.
    pub initial: bool,
    /// Whole stores, by the leader.
    pub period: Option<Duration>,
    /// What compactions saw, by the leader.
    pub compaction_period: Option<Duration>,
}

/// Compares this member's store, as it was found, with those of the members that answer.
///
/// # Errors
/// [`StartError::Inconsistent`]; silence of the others is none.
pub(super) async fn check_before_serving(
    identity: Identity,
    applier: &Applier,
    limit: Duration,
) -> Result<(), StartError> {
    let local = format!("{:x}", identity.member_id);
    tracing::info!(local_member_id = local, "starting initial corruption check");
    let store = applier.store().clone();
    let own = tokio::task::spawn_blocking(move || store.hash_kv(0)).await.map_err(std::io::Error::from)??;
    let others = applier.cluster().members().filter(|member| member.id != identity.member_id);
    let others: Vec<_> = others.map(|member| (member.id, member.peer_urls.clone())).collect();
    let peers = ask_hashes(others, identity.cluster_id, own.revision, limit).await;
    let differing = differing(own, &peers);
    if !differing.is_empty() {
        let members: Vec<String> = differing.iter().map(|id| format!("{id:x}")).collect();
        return Err(StartError::Inconsistent { local: identity.member_id, members: members.join(", ") });
    }
    tracing::info!(
        local_member_id = local,
        compared = peers.len(),
        "initial corruption checking passed; no corruption"
    );
    Ok(())
}

/// Compares whole stores at every `period`, while this member leads and is there.
pub(super) async fn keep_comparing(handle: Weak<Handle>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(member) = handle.upgrade() else { return };
        if !member.shared.is_leader() {
            continue;
        }
        if let Err(error) = compare(&member).await {
            tracing::warn!(%error, "failed to check hash KV");
        }
    }
}

/// One round: hash, ask, confirm that this member leads, hash again.
async fn compare(handle: &Arc<Handle>) -> Result<(), Refusal> {
    let first = own_hash(handle).await?;
    let peers = ask(handle, first.revision).await;
    handle.read_barrier().await?;
    let second = own_hash(handle).await?;
    let look = LeadersLook { member_id: handle.shared.identity.member_id, first, second };
    match find_corrupt(&look, &peers) {
        Some(member_id) => alarm(handle, member_id).await,
        None => {
            let revision = first.revision;
            tracing::info!(revision, compared = peers.len(), "finished peer corruption check");
            Ok(())
        }
    }
}

/// Compares what compactions saw at every `period`, while this member leads and is there.
pub(super) async fn keep_comparing_compactions(handle: Weak<Handle>, period: Duration) {
    // Up to here all members have had the same.
    let mut settled = 0;
    loop {
        tokio::time::sleep(period).await;
        let Some(member) = handle.upgrade() else { return };
        if !member.shared.is_leader() {
            continue;
        }
        if let Err(error) = compare_compactions(&member, &mut settled).await {
            tracing::warn!(%error, "failed to compare compaction hashes");
        }
    }
}

/// One round, from the newest compaction back to the first that settles the matter.
async fn compare_compactions(handle: &Arc<Handle>, settled: &mut i64) -> Result<(), Refusal> {
    let mut hashes = handle.store().compaction_hashes();
    hashes.retain(|hash| hash.revision > *settled);
    hashes.sort_by_key(|hash| std::cmp::Reverse(hash.revision));
    let leader = handle.shared.identity.member_id;
    for own in hashes {
        let others = others(handle).len();
        let peers = ask(handle, own.revision).await;
        match compare_compaction(leader, own, &peers, others) {
            Compared::Incomplete => continue,
            Compared::Same => *settled = own.revision,
            Compared::Minority(members) => {
                tracing::error!(revision = own.revision, "Detected compaction hash mismatch");
                for member_id in members {
                    alarm(handle, member_id).await?;
                }
            }
            Compared::NoMajority => {
                tracing::error!(
                    revision = own.revision,
                    "Detected compaction hash mismatch without a majority"
                );
                alarm(handle, 0).await?;
            }
        }
        break;
    }
    tracing::info!(settled, "finished compaction hash check");
    Ok(())
}

fn others(handle: &Handle) -> Vec<(u64, Vec<String>)> {
    let own = handle.shared.identity.member_id;
    let view = handle.shared.view.read();
    let others = view.cluster.members().filter(|member| member.id != own);
    others.map(|member| (member.id, member.peer_urls.clone())).collect()
}

async fn ask(handle: &Handle, revision: i64) -> Vec<PeerHash> {
    let cluster_id = handle.shared.identity.cluster_id;
    ask_hashes(others(handle), cluster_id, revision, handle.request_timeout()).await
}

/// At the current revision.
async fn own_hash(handle: &Handle) -> Result<KvHash, Refusal> {
    let answer = handle.hash_history(0).await?;
    Ok(KvHash {
        hash: answer.hash,
        compact_revision: answer.compact_revision,
        revision: answer.hash_revision,
    })
}

/// Tells the whole cluster; from then on nothing is written until an operator has looked.
async fn alarm(handle: &Arc<Handle>, member_id: u64) -> Result<(), Refusal> {
    tracing::error!(
        corrupt_member = %format_args!("{member_id:x}"),
        "found data inconsistency with peers; raising the CORRUPT alarm"
    );
    let request = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate as i32,
        member_id,
        alarm: pb::AlarmType::Corrupt as i32,
    };
    let request = request.encode_to_vec().into();
    handle.propose(Caller::default(), RequestKind::Alarm, request).await.map(drop)
}
