//! The cluster's version and the stored one: the leader's look at its members, and each member's look at its own file.
//! The rules are the replica's (`stanchion_replica::version`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use prost::Message as _;
use stanchion_api::membershippb::{ClusterVersionSetRequest, DowngradeInfoSetRequest};
use stanchion_api::raft_request::RequestKind;
use stanchion_mvcc::{Applied, schema};
use stanchion_replica::version::{
    Known, Version, downgrade_is_over, next_cluster_version, next_storage_version,
};
use tokio::sync::oneshot;

use super::handle::Handle;
use super::raft_loop::ToRaft;
use crate::config::ETCD_VERSION;
use crate::member::{Caller, Member as _};
use crate::refusal::Refusal;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(4);

/// The release that we keep the behaviour of.
pub(super) fn own() -> Version {
    Version::parse(ETCD_VERSION).expect("our own version is one")
}

/// Looks every [`INTERVAL`], and at once when the leader has changed, until the member is gone.
pub(super) async fn keep(handle: Weak<Handle>) {
    let Some(mut leader_changes) = handle.upgrade().map(|handle| handle.shared.leader_changes.subscribe())
    else {
        return;
    };
    loop {
        let Some(member) = handle.upgrade() else { return };
        if let Err(error) = look(&member).await {
            tracing::warn!(%error, "failed to update cluster version");
        }
        drop(member);
        if let Ok(Err(_)) = tokio::time::timeout(INTERVAL, leader_changes.changed()).await {
            return;
        }
    }
}

/// One look: proposes the cluster's version if this member leads, and brings the file to it.
pub(super) async fn look(handle: &Arc<Handle>) -> Result<(), Refusal> {
    if handle.shared.is_leader() {
        handle.peers.learn_versions().await;
        let known = known(handle);
        let held =
            |next: &Version| handle.hold_cluster_version && known.cluster.is_some_and(|now| *next > now);
        if let Some(next) = next_cluster_version(known).filter(|next| !held(next)) {
            let request = ClusterVersionSetRequest { ver: next.full() }.encode_to_vec();
            handle.propose(Caller::default(), RequestKind::ClusterVersionSet, request.into()).await?;
            tracing::info!(cluster_version = %next, "updated cluster version");
        } else if downgrade_is_over(known) {
            let request = DowngradeInfoSetRequest { enabled: false, ver: String::new() }.encode_to_vec();
            handle.propose(Caller::default(), RequestKind::DowngradeInfoSet, request.into()).await?;
            tracing::info!("the cluster has been downgraded");
        }
    }
    bring_storage(handle).await;
    Ok(())
}

fn known(handle: &Handle) -> Known {
    let view = handle.shared.view.read();
    let versions = handle.shared.member_versions.lock();
    let running = |id: u64| {
        if id == handle.shared.identity.member_id { Some(own()) } else { versions.get(&id).copied() }
    };
    // One that does not say makes the lowest unknown.
    let lowest = view.cluster.members().map(|member| running(member.id)).collect::<Option<Vec<_>>>();
    let downgrade = view.downgrade.enabled.then(|| Version::parse(&view.downgrade.target_version)).flatten();
    Known {
        cluster: view.cluster_version.as_deref().and_then(Version::parse),
        lowest_member: lowest.and_then(|all| all.into_iter().min()),
        downgrade,
    }
}

/// A held version never rises, so that the release that wrote the directory can take it back.
async fn bring_storage(handle: &Handle) {
    let versions = handle.versions();
    let read = |text: &Option<String>| text.as_deref().and_then(Version::parse);
    let (cluster, stored) = (read(&versions.cluster), read(&versions.storage));
    let Some(next) = next_storage_version(cluster, stored) else { return };
    if handle.hold_cluster_version && stored.is_some() && next > stored {
        return;
    }
    // A file without term cannot be told from one of 3.4, and becomes 3.6 no earlier than with its first entry.
    if handle.store.now().applied() == Applied::default() {
        return;
    }
    // Entries in another release's words are left behind a mark: the release that comes next need not read them. The mark
    // comes first, as a stop between the two would leave a version whose release cannot read the log.
    let (done, marked) = oneshot::channel();
    handle.proposer.send(ToRaft::Mark(done));
    if marked.await.is_err() {
        return;
    }
    let text = next.map(Version::full);
    let store = handle.store.now();
    let mut txn = store.write();
    schema::put_storage_version(&mut txn, text.as_deref());
    let _ = txn.end();
    tracing::info!(new_storage_version = text.as_deref().unwrap_or("3.5.0"), "updated storage version");
}

#[cfg(test)]
mod tests;
