//! `--force-new-cluster`: a member goes on alone, with its data and its ids, when the others are lost for good.
//!
//! What was committed stays; what was not is dropped, since nobody else can have promised it. Then the log gets one
//! change for each other member, which removes it.

use bytes::Bytes;
use stanchion_raft::{ConfChange, ConfChangeType};
use stanchion_wal::{Entry, EntryRef, HardState, Result};

use crate::boot::Booted;
use crate::membership::{ChangeContext, Member};

const CONF_CHANGE: u8 = 1;

/// Where a member that is missing from its own list is put; nobody dials it.
const OWN_PEER_URL: &str = "http://localhost:2380";

/// Makes a member that was started on its directory the only one of its cluster. Returns the ids that go.
///
/// # Errors
/// The log's.
pub fn force_new_cluster(booted: &mut Booted) -> Result<Vec<u64>> {
    let start = &mut booted.start;
    let applied = booted.applier.applied().index;
    let commit = start.hard_state.commit.max(applied);
    start.entries.retain(|entry| entry.index <= commit);
    let last = start.entries.last().map_or(start.base.index, |entry| entry.index);

    let own = booted.identity.member_id;
    let mut ids: Vec<u64> = start.voters.iter().chain(&start.learners).copied().collect();
    for entry in start.entries.iter().filter(|e| e.kind == CONF_CHANGE && e.index > start.applied) {
        let Ok(change) = ConfChange::decode(entry.data.clone()) else { continue };
        match change.change_type {
            ConfChangeType::RemoveNode => ids.retain(|id| *id != change.node_id),
            ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => ids.push(change.node_id),
            ConfChangeType::UpdateNode => {}
        }
    }
    ids.sort_unstable();
    ids.dedup();

    let mut changes = Vec::new();
    if !ids.contains(&own) {
        let member = Member { id: own, peer_urls: vec![OWN_PEER_URL.to_owned()], ..Member::default() };
        let context = ChangeContext { member, is_promote: false }.to_json().into();
        changes.push(ConfChange { context, ..ConfChange::new(ConfChangeType::AddNode, own) });
    }
    ids.retain(|id| *id != own);
    changes.extend(ids.iter().map(|id| ConfChange::new(ConfChangeType::RemoveNode, *id)));

    let term = start.hard_state.term.max(1);
    let appended: Vec<Entry> = changes
        .iter()
        .zip(last + 1..)
        .map(|(change, index)| {
            let data = Bytes::from(change.encode());
            Entry { index, term, kind: CONF_CHANGE, data, encoded: Bytes::new() }
        })
        .collect();
    let commit = last + appended.len() as u64;
    start.hard_state = HardState { term, commit, ..start.hard_state };
    let refs: Vec<EntryRef<'_>> =
        appended.iter().map(|e| EntryRef::new(e.index, e.term, e.kind, &e.data)).collect();
    booted.wal.save(&start.hard_state, &refs)?;
    start.entries.extend(appended);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stanchion_disk::RealDisk;
    use stanchion_mvcc::StoreOptions;
    use stanchion_wal::Options;

    use super::*;
    use crate::apply::Config;
    use crate::boot::{Bootstrap, Layout, NewCluster, boot};

    fn start(dir: &std::path::Path) -> Booted {
        let member = |name: &str, port: u16| (name.to_owned(), vec![format!("http://127.0.0.1:{port}")]);
        let cluster = NewCluster {
            token: "tok".into(),
            members: vec![member("a", 1), member("b", 2), member("c", 3)],
            name: "a".into(),
        };
        let config = Config {
            quota_bytes: None,
            max_learners: 1,
            persist_lease_checkpoints: true,
            lease: stanchion_lease::Config::default(),
        };
        let layout = Layout::new(dir, None);
        let (store, wal) = (StoreOptions::default(), Options::default());
        boot(Arc::new(RealDisk), &layout, config, &store, wal, &Bootstrap::New(cluster)).unwrap()
    }

    #[test]
    fn srv_30_the_others_go_and_what_was_not_committed_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut booted = start(dir.path());
        let own = booted.identity.member_id;
        // An entry that no quorum had.
        let lost = Bytes::from_static(b"x");
        let state = HardState { term: 2, vote: own, commit: 3 };
        booted.wal.save(&state, &[EntryRef::new(4, 2, 0, &lost)]).unwrap();
        drop(booted);

        let mut booted = start(dir.path());
        assert_eq!(booted.start.entries.len(), 4);
        let gone = force_new_cluster(&mut booted).unwrap();
        assert_eq!(gone.len(), 2);
        assert!(!gone.contains(&own));
        let kinds: Vec<u8> = booted.start.entries.iter().map(|entry| entry.kind).collect();
        assert_eq!((kinds, booted.start.hard_state.commit), (vec![1; 5], 5));
        drop(booted);
        // The log says so for good.
        let again = start(dir.path());
        assert_eq!((again.start.entries.len(), again.start.hard_state.commit), (5, 5));
    }
}
