//! The members in a directory that 3.5 or an older release wrote last.
//!
//! 3.5 keeps its members in the v2 store: in the newest snapshot file, and in the log behind it. Many of its releases
//! never update a record of the database's `members` bucket once it is there, so the bucket may show a promoted member
//! as a learner, under URLs and a name of long ago. What lives here: reading the v2 store and following the log up to
//! where the database is. What may not: deciding when; that is the start's (`boot`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use serde::Deserialize;
use stanchion_api::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use stanchion_api::raft_request::{RaftRequest, RequestKind};
use stanchion_raft::ConfChange;
use stanchion_snap::Snapshotter;
use stanchion_wal::{Entry, SnapshotMark};

use crate::apply::v2::{self, V2};
use crate::apply::{Applier, Request};
use crate::change::meaning;
use crate::membership::{Cluster, Member};

/// Kinds of entries in the log.
const NORMAL: u8 = 0;
const CONF_CHANGE: u8 = 1;

/// A node of the v2 store.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    value: String,
    #[serde(default)]
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    fn child(&self, name: &str) -> Option<&Node> {
        self.children.as_ref()?.get(name)
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.children.iter().flatten().map(|(name, node)| (name.as_str(), node))
    }
}

#[derive(Deserialize)]
struct Store {
    #[serde(rename = "Root")]
    root: Node,
}

/// Why a v2 store says nothing of members.
#[derive(Debug, thiserror::Error)]
pub enum OlderError {
    /// The file is no `raftpb.Snapshot`.
    #[error("the snapshot cannot be read: {0}")]
    Envelope(String),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] stanchion_snap::Error),
    /// The snapshot file's content is no v2 store.
    #[error("the snapshot's v2 store cannot be read: {0}")]
    Store(#[from] serde_json::Error),
    /// A member of it cannot be read.
    #[error("the v2 store's member {id}: {what}")]
    Member {
        /// Its id as it stands there.
        id: String,
        /// What is wrong.
        what: String,
    },
}

/// The members of a v2 store, as a snapshot file carries it.
///
/// # Errors
/// [`OlderError`].
pub fn members_of_snapshot(data: &[u8]) -> Result<Cluster, OlderError> {
    let store: Store = serde_json::from_slice(data)?;
    let empty = Node::default();
    let top = store.root.child("0").unwrap_or(&empty);
    let mut members = Vec::new();
    for (id, node) in top.child("members").unwrap_or(&empty).entries() {
        members.push(read_member(id, node)?);
    }
    let mut removed = Vec::new();
    for (id, _) in top.child("removed_members").unwrap_or(&empty).entries() {
        removed.push(read_id(id)?);
    }
    Ok(Cluster::new(members, removed))
}

/// The members at a mark of the log: nobody before the first one. `None` without the mark's snapshot file: then the
/// database is all there is.
///
/// # Errors
/// [`OlderError`].
pub fn members_at(snapshots: &Snapshotter, mark: &SnapshotMark) -> Result<Option<Cluster>, OlderError> {
    if mark.index == 0 {
        return Ok(Some(Cluster::default()));
    }
    let (found, _) = snapshots.load_newest_of(&[(mark.term, mark.index)])?;
    let Some(file) = found else { return Ok(None) };
    let snapshot =
        stanchion_raft::Snapshot::decode(file.data).map_err(|e| OlderError::Envelope(e.to_string()))?;
    members_of_snapshot(&snapshot.data).map(Some)
}

fn read_id(id: &str) -> Result<u64, OlderError> {
    u64::from_str_radix(id, 16).map_err(|e| OlderError::Member { id: id.to_owned(), what: e.to_string() })
}

fn read_member(id: &str, node: &Node) -> Result<Member, OlderError> {
    #[derive(Deserialize)]
    struct RaftAttributes {
        #[serde(rename = "peerURLs", default)]
        peer_urls: Option<Vec<String>>,
        #[serde(rename = "isLearner", default)]
        is_learner: bool,
    }
    let wrong = |what: String| OlderError::Member { id: id.to_owned(), what };
    let raft = node.child("raftAttributes").ok_or_else(|| wrong("it has no raftAttributes".to_owned()))?;
    let raft: RaftAttributes = serde_json::from_str(&raft.value).map_err(|e| wrong(e.to_string()))?;
    // Absent until the member has published itself.
    let published = node.child("attributes").and_then(|node| v2::attributes(&node.value)).unwrap_or_default();
    Ok(Member {
        id: read_id(id)?,
        peer_urls: raft.peer_urls.unwrap_or_default(),
        is_learner: raft.is_learner,
        name: published.name,
        client_urls: published.client_urls,
    })
}

/// Follows the log from a snapshot to the entry `applied`: what members did and published on the way.
pub fn follow(cluster: &mut Cluster, entries: &[Entry], applied: u64, max_learners: usize) {
    for entry in entries.iter().filter(|entry| entry.index <= applied) {
        match entry.kind {
            CONF_CHANGE => {
                let change = ConfChange::decode(entry.data.clone()).ok();
                let change = change.and_then(|change| meaning(&change).ok());
                // What the members refused had no effect then and has none now.
                if let Some(change) = change.filter(|change| cluster.check(change, max_learners).is_ok()) {
                    cluster.apply(&change);
                }
            }
            NORMAL => {
                if let Some((id, attributes)) = published(entry.data.clone()) {
                    cluster.publish(id, &attributes.name, &attributes.client_urls);
                }
            }
            _ => {}
        }
    }
}

/// What an entry publishes of a member, in the form of 3.5 or of today.
fn published(data: Bytes) -> Option<(u64, Attributes)> {
    let request = match v2::read(data.clone()) {
        Some(V2::Request(Request::MemberAttributes(request))) => request,
        Some(_) => return None,
        None => match RaftRequest::parse(data).ok()?.request? {
            (RequestKind::ClusterMemberAttrSet, bytes) => ClusterMemberAttrSetRequest::decode(bytes).ok()?,
            _ => return None,
        },
    };
    Some((request.member_id, request.member_attributes.unwrap_or_default()))
}

/// Brings the `members` bucket to `cluster` if that knows members. Returns whether anything was wrong there.
pub fn repair(applier: &mut Applier, cluster: Cluster) -> bool {
    let stale = cluster.members().next().is_some() && *applier.cluster() != cluster;
    if stale {
        applier.replace_cluster(cluster);
    }
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store as 3.5 writes it, with what nobody reads left out.
    const STORE: &str = r#"{"Root":{"Path":"/","Children":{"0":{"Path":"/0","Children":{
        "members":{"Path":"/0/members","Children":{
            "c3be6ae9f3ea6a98":{"Children":{
                "attributes":{"Value":"{\"name\":\"m4\",\"clientURLs\":[\"http://c\"]}","Children":null},
                "raftAttributes":{"Value":"{\"peerURLs\":[\"http://a\",\"http://b\"]}","Children":null}}},
            "7":{"Children":{"raftAttributes":{"Value":"{\"peerURLs\":[\"http://d\"],\"isLearner\":true}"}}}}},
        "removed_members":{"Children":{"9":{"Value":""}}},
        "version":{"Value":"3.5.0","Children":null}}},"1":{"Children":{}}}},"CurrentIndex":3,"CurrentVersion":2}"#;

    #[test]
    fn members_stand_in_the_v2_store() {
        let cluster = members_of_snapshot(STORE.as_bytes()).unwrap();
        let promoted = cluster.member(0xc3be_6ae9_f3ea_6a98).unwrap();
        assert_eq!((promoted.name.as_str(), promoted.is_learner, promoted.peer_urls.len()), ("m4", false, 2));
        let learner = cluster.member(7).unwrap();
        assert!(learner.is_learner && !learner.is_started());
        assert!(cluster.is_removed(9));
        assert!(members_of_snapshot(b"{}").is_err());
    }

    #[test]
    fn the_log_behind_it_is_followed_up_to_the_database() {
        use crate::membership::ChangeContext;
        use stanchion_raft::ConfChangeType;

        let mut cluster = members_of_snapshot(STORE.as_bytes()).unwrap();
        let promote = ChangeContext { member: Member { id: 7, ..Member::default() }, is_promote: true };
        let entry = |index, kind, context: &ChangeContext| {
            let context = context.to_json().into();
            let data = ConfChange { context, ..ConfChange::new(kind, 7) }.encode().into();
            Entry { index, term: 1, kind: CONF_CHANGE, data, encoded: Bytes::new() }
        };
        let moved = Member { id: 7, peer_urls: vec!["http://e".into()], ..Member::default() };
        let moved = ChangeContext { member: moved, is_promote: false };
        let entries = [
            entry(4, ConfChangeType::AddNode, &promote),
            entry(5, ConfChangeType::UpdateNode, &moved),
            entry(6, ConfChangeType::RemoveNode, &promote),
        ];
        follow(&mut cluster, &entries, 5, 1);
        let member = cluster.member(7).unwrap();
        assert_eq!((member.is_learner, member.peer_urls[0].as_str()), (false, "http://e"));
        follow(&mut cluster, &entries[2..], 6, 1);
        assert!(cluster.is_removed(7));
    }
}
