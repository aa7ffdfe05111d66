//! Changes of membership: the checks of this member before it proposes one (`--strict-reconfig-check`), and waiting until
//! raft works with it. Whether a change takes effect is judged at apply, alike on all members.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stanchion_api::etcdserverpb as pb;
use stanchion_raft::{ConfChange, ConfChangeType};
use stanchion_replica::membership::{ChangeContext, Member as Peer, added_member_id};
use tokio::sync::oneshot;

use super::answers;
use super::handle::{Handle, answer};
use super::proposer::Proposer;
use super::raft_loop::ToRaft;
use super::shared::Shared;
use crate::member::{Answer, Member as _};
use crate::refusal::{self, Refusal};

/// How long a voter must have been connected to count.
const STEADY: Duration = Duration::from_secs(5);

/// The share of the leader's log, in percent, that a learner must have to become a voter.
const READY_PERCENT: u64 = 90;

/// Proposes a change; the members once it is applied and raft has it.
fn changed(
    proposer: &Proposer,
    id: u64,
    kind: ConfChangeType,
    node_id: u64,
    context: Option<ChangeContext>,
) -> impl Future<Output = Result<Vec<pb::Member>, Refusal>> + Send + use<> {
    let context = context.map(|context| context.to_json().into()).unwrap_or_default();
    let change = ConfChange { id, context, ..ConfChange::new(kind, node_id) };
    let submitted = proposer.submit(id, ToRaft::ProposeChange(change));
    let shared = proposer.shared.clone();
    async move {
        submitted.await?;
        Ok(Handle::listed(&shared))
    }
}

impl Handle {
    pub(super) fn listed(shared: &Shared) -> Vec<pb::Member> {
        shared.view.read().cluster.members().map(answers::member).collect()
    }

    fn change(
        &self,
        kind: ConfChangeType,
        node_id: u64,
        context: Option<ChangeContext>,
    ) -> Answer<Vec<pb::Member>> {
        answer(changed(&self.proposer, self.next_id(), kind, node_id, context))
    }

    pub(super) fn add_member(
        &self,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Answer<(pb::Member, Vec<pb::Member>)> {
        if let Err(refusal) = self.may_add(learner) {
            return answer(async { Err(refusal) });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = added_member_id(&peer_urls, now.as_secs());
        let member = Peer { id, peer_urls, is_learner: learner, ..Peer::default() };
        let kind = if learner { ConfChangeType::AddLearnerNode } else { ConfChangeType::AddNode };
        let added = answers::member(&member);
        let changed = self.change(kind, id, Some(ChangeContext { member, is_promote: false }));
        answer(async move { Ok((added, changed.await?)) })
    }

    pub(super) fn remove_member(&self, id: u64) -> Answer<Vec<pb::Member>> {
        match self.may_remove(id) {
            Ok(()) => self.change(ConfChangeType::RemoveNode, id, None),
            Err(refusal) => answer(async { Err(refusal) }),
        }
    }

    pub(super) fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Answer<Vec<pb::Member>> {
        let member = Peer { id, peer_urls, ..Peer::default() };
        self.change(ConfChangeType::UpdateNode, id, Some(ChangeContext { member, is_promote: false }))
    }

    /// Only the leader knows how far a learner is, so the others ask it.
    pub(super) fn promote_member(&self, id: u64) -> Answer<Vec<pb::Member>> {
        if !self.shared.is_leader() {
            let promoted = self.peers.clone().promote_at_leader(id);
            return answer(async { Ok(promoted.await?.into_iter().map(answers::listed_member).collect()) });
        }
        let promoting = self.promote_ready(id);
        let metrics = self.proposer.metrics.clone();
        answer(async move {
            let promoted = promoting.await;
            match &promoted {
                Ok(_) => metrics.server.learner_promote_successes.inc(),
                Err(refusal) => {
                    let reason: &str = &refusal.message;
                    metrics.server.learner_promote_failures.with_label_values(&[reason]).inc();
                }
            }
            promoted
        })
    }

    fn promote_ready(
        &self,
        id: u64,
    ) -> impl Future<Output = Result<Vec<pb::Member>, Refusal>> + Send + use<> {
        let (reply, matched) = oneshot::channel();
        self.proposer.send(ToRaft::Matched(id, reply));
        let may = self.may_promote();
        let (proposer, request_id) = (self.proposer.clone(), self.next_id());
        async move {
            match matched.await.map_err(|_| refusal::STOPPED)? {
                None => return Err(refusal::MEMBER_NOT_FOUND),
                Some((matched, own)) if matched < own.saturating_mul(READY_PERCENT) / 100 => {
                    return Err(refusal::LEARNER_NOT_READY);
                }
                Some(_) => may?,
            }
            let member = Peer { id, ..Peer::default() };
            let context = ChangeContext { member, is_promote: true };
            changed(&proposer, request_id, ConfChangeType::AddNode, id, Some(context)).await
        }
    }

    fn may_add(&self, learner: bool) -> Result<(), Refusal> {
        if !self.strict_reconfig_check {
            return Ok(());
        }
        let voters = {
            let view = self.shared.view.read();
            if !learner && !view.cluster.is_ready_to_add_voter() {
                return Err(refusal::NOT_ENOUGH_STARTED);
            }
            view.cluster.voters().count()
        };
        let quorum_after = voters.div_ceil(2) + 1;
        if voters > 1 && self.shared.steady_voters(STEADY) < quorum_after {
            return Err(refusal::UNHEALTHY);
        }
        Ok(())
    }

    fn may_remove(&self, id: u64) -> Result<(), Refusal> {
        let view = self.shared.view.read().cluster.clone();
        if !self.strict_reconfig_check || view.member(id).is_some_and(|member| member.is_learner) {
            return Ok(());
        }
        if !view.is_ready_to_remove(id) {
            return Err(refusal::NOT_ENOUGH_STARTED);
        }
        let own = id == self.shared.identity.member_id;
        if !own && !self.shared.connected_since.lock().contains_key(&id) {
            // What is away already cannot be missed more.
            return Ok(());
        }
        let quorum_after = (view.voters().count().saturating_sub(1)) / 2 + 1;
        if self.shared.steady_voters(STEADY).saturating_sub(1) < quorum_after {
            return Err(refusal::UNHEALTHY);
        }
        Ok(())
    }

    fn may_promote(&self) -> Result<(), Refusal> {
        if self.strict_reconfig_check && !self.shared.view.read().cluster.is_ready_to_promote() {
            return Err(refusal::NOT_ENOUGH_STARTED);
        }
        Ok(())
    }
}
