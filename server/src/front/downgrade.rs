//! Maintenance's Downgrade: whether the cluster may go down one minor release, and the request to do so. Lowering the
//! version is the leader's business afterwards.

use std::sync::Arc;

use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::downgrade_request::DowngradeAction;
use stanchion_api::membershippb::DowngradeInfoSetRequest;
use stanchion_api::raft_request::RequestKind;
use stanchion_replica::version::Version;

use super::door::Call;
use super::{Front, Raw};
use crate::member::Encoded;
use crate::refusal::{
    DOWNGRADE_FORMAT, DOWNGRADE_IN_PROGRESS, DOWNGRADE_NO_VERSION, DOWNGRADE_TARGET, Refusal, UNKNOWN_METHOD,
};

pub(super) async fn downgrade(
    front: Arc<Front>,
    call: Call,
    request: Raw<pb::DowngradeRequest>,
) -> Result<Encoded<pb::DowngradeResponse>, Refusal> {
    let action = DowngradeAction::try_from(request.message.action).map_err(|_| UNKNOWN_METHOD)?;
    if action == DowngradeAction::Cancel {
        let cancel = DowngradeInfoSetRequest { enabled: false, ver: String::new() };
        // As in etcd a cancellation always succeeds; what went wrong is the operator's to read.
        if let Err(error) = front.set_downgrade(call, &cancel).await {
            tracing::warn!(%error, "failed to cancel downgrade");
        }
    } else {
        let target = Version::parse(&request.message.version).ok_or(DOWNGRADE_FORMAT)?;
        front.check_downgrade(target).await?;
        if action == DowngradeAction::Enable {
            let enable = DowngradeInfoSetRequest { enabled: true, ver: target.full() };
            front.set_downgrade(call, &enable).await?;
        }
    }
    let version = front.cluster_version()?.to_string();
    Ok(pb::DowngradeResponse { header: Some(front.header()), version }.into())
}

impl Front {
    fn cluster_version(&self) -> Result<Version, Refusal> {
        let known = self.member.versions().cluster;
        known.as_deref().and_then(Version::parse).ok_or(DOWNGRADE_NO_VERSION)
    }

    /// The target is judged before a downgrade that is under way.
    async fn check_downgrade(&self, target: Version) -> Result<(), Refusal> {
        self.cluster_version()?;
        self.member.read_barrier().await?;
        if self.cluster_version()?.one_below() != Some(target) {
            return Err(DOWNGRADE_TARGET);
        }
        if self.member.versions().downgrade.enabled { Err(DOWNGRADE_IN_PROGRESS) } else { Ok(()) }
    }

    async fn set_downgrade(&self, call: Call, request: &DowngradeInfoSetRequest) -> Result<(), Refusal> {
        let bytes = request.encode_to_vec().into();
        self.member.propose(call.caller, RequestKind::DowngradeInfoSet, bytes).await.map(|_| ())
    }
}
