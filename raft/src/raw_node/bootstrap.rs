//! The first start of a new cluster: every member writes the same first entries.

use bytes::Bytes;

use super::RawNode;
use crate::error::Error;
use crate::proto::{ConfChange, ConfChangeType, Entry, EntryType, HardState};
use crate::storage::Storage;

/// A founding member of a cluster that begins as etcd's do, with a change for each of them (thesis, 4.4, begins with
/// one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its ID.
    pub id: u64,
    /// The application's bytes for its configuration change.
    pub context: Bytes,
}

impl<S: Storage> RawNode<S> {
    /// Starts a new cluster of `peers`: one entry for each of them, all committed at term 1 (thesis, 4.4).
    /// Every founding member must be given the same list in the same order. The changes are in force at once, and come
    /// out again as committed entries, where applying them changes nothing.
    ///
    /// # Errors
    /// The log is not empty, or there are no peers.
    pub fn bootstrap(&mut self, peers: &[Peer]) -> Result<(), Error> {
        let last = self.raft.log.last_index();
        if last != 0 {
            return Err(Error::NotEmpty { last });
        }
        if peers.is_empty() {
            return Err(Error::EmptyProposal);
        }
        self.handed_hard = HardState::default();
        let entries = peers.iter().zip(1..).map(|(peer, index)| {
            let change = ConfChange {
                context: peer.context.clone(),
                ..ConfChange::new(ConfChangeType::AddNode, peer.id)
            };
            Entry { entry_type: EntryType::ConfChange, term: 1, index, data: change.encode().into() }
        });
        self.raft.bootstrap(entries.collect())?;
        for peer in peers {
            self.raft.apply_conf_change(&ConfChange::new(ConfChangeType::AddNode, peer.id).into())?;
        }
        Ok(())
    }
}
