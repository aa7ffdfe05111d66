//! The membership a member has applied: who belongs to the cluster, who was removed, and which changes are allowed.
//!
//! Invariants: no removed id is a member; no two members share a peer URL after a change that passed
//! [`Cluster::check`]; ids are never reused. Every verdict depends on replicated state only, so that all members
//! reach the same one.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::member::{ChangeContext, Member};

/// A change of membership, as a committed entry carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new voter or learner.
    Add(Member),
    /// A learner becomes a voter.
    Promote(u64),
    /// New peer URLs.
    Update {
        /// Who.
        id: u64,
        /// All its peer URLs from now on.
        peer_urls: Vec<String>,
    },
    /// A member goes, for ever.
    Remove(u64),
}

impl Change {
    /// Reads an added, promoted or updated member from a conf change's context.
    #[must_use]
    pub fn from_context(context: ChangeContext, update: bool) -> Self {
        let member = context.member;
        match (update, context.is_promote) {
            (true, _) => Self::Update { id: member.id, peer_urls: member.peer_urls },
            (false, true) => Self::Promote(member.id),
            (false, false) => Self::Add(member),
        }
    }
}

/// Why a change has no effect. Such a change still commits, as a no-op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The id was removed once.
    #[error("membership: ID removed")]
    IdRemoved,
    /// There is such a member.
    #[error("membership: ID exists")]
    IdExists,
    /// There is no such member.
    #[error("membership: ID not found")]
    IdNotFound,
    /// Another member has one of the URLs.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// The member to promote votes already.
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// There are as many learners as allowed.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
}

/// The applied membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
}

impl Cluster {
    /// A membership as it was stored.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = Member>, removed: impl IntoIterator<Item = u64>) -> Self {
        Self {
            members: members.into_iter().map(|member| (member.id, member)).collect(),
            removed: removed.into_iter().collect(),
        }
    }

    /// The members, by rising id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether the id was removed once.
    #[must_use]
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The ids that were removed, rising.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// The voters, by rising id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_learner)
    }

    /// Whether a change may take effect.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, change: &Change, max_learners: usize) -> Result<(), ChangeError> {
        let id = match change {
            Change::Add(member) => member.id,
            Change::Promote(id) | Change::Remove(id) | Change::Update { id, .. } => *id,
        };
        if self.is_removed(id) {
            return Err(ChangeError::IdRemoved);
        }
        match (change, self.member(id)) {
            (Change::Add(_), Some(_)) => Err(ChangeError::IdExists),
            (Change::Add(member), None) => {
                self.check_urls(id, &member.peer_urls)?;
                let learners = self.members().filter(|m| m.is_learner).count();
                if member.is_learner && learners >= max_learners {
                    return Err(ChangeError::TooManyLearners);
                }
                Ok(())
            }
            (_, None) => Err(ChangeError::IdNotFound),
            (Change::Promote(_), Some(member)) if !member.is_learner => Err(ChangeError::NotLearner),
            (Change::Update { peer_urls, .. }, Some(_)) => self.check_urls(id, peer_urls),
            (Change::Promote(_) | Change::Remove(_), Some(_)) => Ok(()),
        }
    }

    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), ChangeError> {
        let taken =
            self.members().filter(|m| m.id != id).any(|m| m.peer_urls.iter().any(|url| urls.contains(url)));
        if taken { Err(ChangeError::PeerUrlExists) } else { Ok(()) }
    }

    /// Lets a checked change take effect. Applying a change twice, as a replay of the log does, changes nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Add(member) => {
                self.members.insert(member.id, member.clone());
            }
            Change::Promote(id) => {
                if let Some(member) = self.members.get_mut(id) {
                    member.is_learner = false;
                }
            }
            Change::Update { id, peer_urls } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.peer_urls.clone_from(peer_urls);
                }
            }
            Change::Remove(id) => {
                self.members.remove(id);
                self.removed.insert(*id);
            }
        }
    }

    /// Stores what a member published about itself; unknown members are ignored. Returns whether anything changed.
    pub fn publish(&mut self, id: u64, name: &str, client_urls: &[String]) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        let changed = member.name != name || member.client_urls != client_urls;
        name.clone_into(&mut member.name);
        member.client_urls = client_urls.to_vec();
        changed
    }
}

/// Refusals before a change is proposed, with strict reconfiguration checks on (etcd's `--strict-reconfig-check`).
impl Cluster {
    /// Whether enough started voters remain after a voter is added.
    #[must_use]
    pub fn is_ready_to_add_voter(&self) -> bool {
        let (voters, started) = self.count_voters(None);
        // A single started voter may always grow to two, else a cluster could never leave size one.
        (voters == 1 && started == 1) || started > voters.div_ceil(2)
    }

    /// Whether enough started voters remain after this member is removed.
    #[must_use]
    pub fn is_ready_to_remove(&self, id: u64) -> bool {
        if self.member(id).is_some_and(|member| member.is_learner) {
            return true;
        }
        let (voters, started) = self.count_voters(Some(id));
        voters > 0 && started > voters / 2
    }

    /// Whether enough started voters exist after a learner is promoted.
    #[must_use]
    pub fn is_ready_to_promote(&self) -> bool {
        let (voters, started) = self.count_voters(None);
        started + 1 > voters.div_ceil(2)
    }

    fn count_voters(&self, without: Option<u64>) -> (usize, usize) {
        let voters = || self.voters().filter(|member| Some(member.id) != without);
        (voters().count(), voters().filter(|member| member.is_started()).count())
    }
}
