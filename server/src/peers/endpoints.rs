//! The peer port's answers, given by this member.

use std::sync::Arc;

use stanchion_api::etcdserverpb as pb;
use stanchion_peer::{
    Answer, Endpoints, HashError, HashKv, LeaseError, MemberInfo, PromoteError, VersionInfo,
};

use crate::member::{Caller, MemberHandle};
use crate::refusal::{self, Refusal};
use crate::runtime::Shared;

/// Answers for one member.
pub(crate) struct Questions {
    shared: Arc<Shared>,
    member: MemberHandle,
}

impl Questions {
    pub(crate) fn new(shared: Arc<Shared>, member: MemberHandle) -> Questions {
        Questions { shared, member }
    }

    /// This member leads, and has applied what is committed by now.
    fn ready_to_lead(&self) -> impl Future<Output = Result<(), LeaseError>> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            shared.catch_up().await.map_err(|_| LeaseError::Behind)?;
            if shared.is_leader() { Ok(()) } else { Err(LeaseError::NotPrimary) }
        }
    }
}

fn info(member: pb::Member) -> MemberInfo {
    MemberInfo {
        id: member.id,
        peer_urls: member.peer_ur_ls,
        is_learner: member.is_learner,
        name: member.name,
        client_urls: member.client_ur_ls,
    }
}

fn about_lease(error: Refusal) -> LeaseError {
    match error {
        error if error == refusal::NOT_PRIMARY_LESSOR => LeaseError::NotPrimary,
        error if error == refusal::LEASE_NOT_FOUND => LeaseError::NotFound,
        error => LeaseError::Other(error.to_string()),
    }
}

impl Endpoints for Questions {
    fn members(&self) -> Vec<MemberInfo> {
        let view = self.shared.view.read();
        let members = view.cluster.members().map(|member| MemberInfo {
            id: member.id,
            peer_urls: member.peer_urls.clone(),
            is_learner: member.is_learner,
            name: member.name.clone(),
            client_urls: member.client_urls.clone(),
        });
        members.collect()
    }

    fn version(&self) -> VersionInfo {
        let versions = self.member.versions();
        VersionInfo {
            etcdserver: versions.server,
            etcdcluster: versions.cluster.unwrap_or_else(|| "not_decided".to_owned()),
            storage: versions.storage.unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    fn promote(&self, member_id: u64, _: Option<String>) -> Answer<Vec<MemberInfo>, PromoteError> {
        let promoting = self.member.member_promote(member_id);
        Box::pin(async move {
            match promoting.await {
                Ok(members) => Ok(members.into_iter().map(info).collect()),
                Err(error) if error == refusal::MEMBER_NOT_FOUND => Err(PromoteError::NotFound),
                Err(error) if error == refusal::NOT_A_LEARNER => Err(PromoteError::NotALearner),
                Err(error) if error == refusal::LEARNER_NOT_READY => Err(PromoteError::NotReady),
                Err(error) => Err(PromoteError::Other(error.to_string())),
            }
        })
    }

    fn renew_lease(&self, lease_id: i64) -> Answer<i64, LeaseError> {
        let (ready, member) = (self.ready_to_lead(), self.member.clone());
        Box::pin(async move {
            ready.await?;
            match member.lease_renew(Caller::default(), lease_id).await {
                Ok(0) => Err(LeaseError::NotFound),
                Ok(ttl) => Ok(ttl),
                Err(error) => Err(about_lease(error)),
            }
        })
    }

    fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Answer<pb::LeaseTimeToLiveResponse, LeaseError> {
        let (ready, member) = (self.ready_to_lead(), self.member.clone());
        Box::pin(async move {
            ready.await?;
            match member.lease_time_to_live(Caller::default(), request).await {
                Ok(found) if found.ttl < 0 && found.granted_ttl == 0 => Err(LeaseError::NotFound),
                Ok(found) => Ok(found),
                Err(error) => Err(about_lease(error)),
            }
        })
    }

    fn downgrade_enabled(&self) -> Answer<bool, String> {
        let member = self.member.clone();
        Box::pin(async move {
            member.read_barrier().await.map_err(|error| error.to_string())?;
            Ok(member.versions().downgrade.enabled)
        })
    }

    fn hash_kv(&self, revision: i64) -> Answer<HashKv, HashError> {
        let member = self.member.clone();
        Box::pin(async move {
            match member.hash_kv(revision).await {
                Ok(hash) => Ok(HashKv {
                    header_revision: member.standing().revision,
                    hash: hash.hash,
                    compact_revision: hash.compact_revision,
                    hash_revision: hash.hash_revision,
                }),
                Err(error) if error == refusal::COMPACTED => Err(HashError::Compacted),
                Err(error) if error == refusal::FUTURE_REVISION => Err(HashError::Future),
                Err(error) => Err(HashError::Other(error.to_string())),
            }
        })
    }
}
