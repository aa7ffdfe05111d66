//! Members without a log: who they are, and what their log begins with.

use bytes::Bytes;
use stanchion_raft::{ConfChange, ConfChangeType};
use stanchion_wal::{Entry, EntryRef, HardState, Wal};

use super::BootError;
use crate::membership::{ChangeContext, Member, bootstrap_member_id, cluster_id};

/// Who a member is; written into its log once and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The member's id.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
}

/// A cluster to be made: what all its first members are started with alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCluster {
    /// Tells clusters with equal addresses apart.
    pub token: String,
    /// Name and peer URLs of every first member.
    pub members: Vec<(String, Vec<String>)>,
    /// The name of the one that starts here.
    pub name: String,
}

impl NewCluster {
    /// The members with their ids, by rising id.
    fn members(&self) -> Vec<Member> {
        let member = |(name, peer_urls): &(String, Vec<String>)| Member {
            id: bootstrap_member_id(peer_urls, &self.token),
            name: name.clone(),
            peer_urls: peer_urls.clone(),
            ..Member::default()
        };
        let mut members: Vec<Member> = self.members.iter().map(member).collect();
        members.sort_unstable_by_key(|member| member.id);
        members
    }

    /// The ids that this member and its cluster get.
    ///
    /// # Errors
    /// [`BootError::NotAmongMembers`], [`BootError::EqualIds`].
    pub fn identity(&self) -> Result<Identity, BootError> {
        let members = self.members();
        if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(BootError::EqualIds { id: pair[0].id });
        }
        let own = members.iter().find(|member| member.name == self.name);
        let member_id = own.ok_or_else(|| BootError::NotAmongMembers { name: self.name.clone() })?.id;
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        Ok(Identity { member_id, cluster_id: cluster_id(&ids) })
    }
}

/// How a member without a log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// It founds a cluster together with others.
    New(NewCluster),
    /// It was added to a running cluster, which has told who it is. Its log begins empty: the leader sends it all.
    Join(Identity),
}

impl Bootstrap {
    pub(super) fn identity(&self) -> Result<Identity, BootError> {
        match self {
            Bootstrap::New(cluster) => cluster.identity(),
            Bootstrap::Join(identity) => Ok(*identity),
        }
    }

    /// The first entries.
    pub(super) fn found(&self, wal: &mut Wal) -> Result<(HardState, Vec<Entry>), BootError> {
        match self {
            Bootstrap::New(cluster) => bootstrap(wal, cluster),
            Bootstrap::Join(_) => Ok((HardState::default(), Vec::new())),
        }
    }
}

/// Writes the first members into an empty log, as changes that are committed.
fn bootstrap(wal: &mut Wal, new_cluster: &NewCluster) -> Result<(HardState, Vec<Entry>), BootError> {
    let entries = bootstrap_entries(&new_cluster.members());
    let hard_state = HardState { term: 1, vote: 0, commit: entries.len() as u64 };
    let refs: Vec<EntryRef<'_>> =
        entries.iter().map(|e| EntryRef::new(e.index, e.term, e.kind, &e.data)).collect();
    wal.save(&hard_state, &refs)?;
    Ok((hard_state, entries))
}

/// The kind of an entry that holds a membership change.
const ENTRY_CONF_CHANGE: u8 = 1;

/// One membership change for each first member, by rising id, as every first member writes them alike.
fn bootstrap_entries(members: &[Member]) -> Vec<Entry> {
    let entry = |(member, index): (&Member, u64)| {
        let context = ChangeContext { member: member.clone(), is_promote: false };
        let context = context.to_json().into();
        let change = ConfChange { context, ..ConfChange::new(ConfChangeType::AddNode, member.id) };
        let data = Bytes::from(change.encode());
        Entry { index, term: 1, kind: ENTRY_CONF_CHANGE, data, encoded: Bytes::new() }
    };
    members.iter().zip(1..).map(entry).collect()
}
