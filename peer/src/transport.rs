//! All peers of a member: who they are, and where a message for each of them goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use stanchion_raft::{Message, MessageType};
use tokio::runtime::Handle as Tokio;

use crate::codec::StreamKind;
use crate::handler::{Handler, Observer, OutgoingSnapshot, SnapshotOutcome};
use crate::identity::Identity;
use crate::peer::{Peer, Relation};
use crate::refusals::Refusals;
use crate::shared::{Shared, Timing};
use crate::url::{PeerUrlError, parse_all};
use crate::writer::StreamBody;

/// Most members that are remembered only because they have introduced themselves.
const REMOTES_MAX: usize = 32;

#[derive(Default)]
struct Table {
    peers: BTreeMap<u64, Arc<Peer>>,
    remotes: BTreeMap<u64, Arc<Peer>>,
}

/// Sends messages to peers and reads theirs. Cheap to clone; the last clone that is dropped ends everything.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
    table: Arc<RwLock<Table>>,
    tokio: Tokio,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("identity", &self.shared.identity).finish_non_exhaustive()
    }
}

impl Transport {
    /// A transport without peers. Its tasks run on `tokio`, which needs I/O and time.
    #[must_use]
    pub fn new(
        identity: Identity,
        timing: Timing,
        handler: Arc<dyn Handler>,
        observer: Arc<dyn Observer>,
        tokio: Tokio,
    ) -> Transport {
        let shared = Arc::new(Shared { identity, timing, handler, observer, refusals: Refusals::default() });
        Transport { shared, table: Arc::default(), tokio }
    }

    /// Who this member is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Starts to talk to a member. One that is known gets the URLs as by [`update_peer`](Self::update_peer).
    ///
    /// # Errors
    /// [`PeerUrlError`]: the URLs cannot be dialled.
    pub fn add_peer(&self, id: u64, urls: &[String]) -> Result<(), PeerUrlError> {
        let urls = parse_all(urls)?;
        let mut table = self.table.write();
        table.remotes.remove(&id);
        if let Some(peer) = table.peers.get(&id) {
            peer.update(urls);
        } else {
            let peer = Peer::start(id, urls, Relation::Peer, &self.shared, &self.tokio);
            table.peers.insert(id, Arc::new(peer));
        }
        Ok(())
    }

    /// Remembers where somebody is who is not a member as far as this one knows, so that it can be answered.
    pub fn add_remote(&self, id: u64, urls: &[String]) {
        // What is not dialled cannot be answered; its messages are processed all the same.
        let Ok(urls) = parse_all(urls) else { return };
        let own = self.shared.identity.member_id;
        let mut table = self.table.write();
        let known = table.peers.contains_key(&id) || table.remotes.contains_key(&id);
        if id == own || id == 0 || known || table.remotes.len() >= REMOTES_MAX {
            return;
        }
        let remote = Peer::start(id, urls, Relation::Remote, &self.shared, &self.tokio);
        table.remotes.insert(id, Arc::new(remote));
    }

    /// Stops to talk to a member; its streams end at once.
    pub fn remove_peer(&self, id: u64) {
        let removed = {
            let mut table = self.table.write();
            (table.peers.remove(&id), table.remotes.remove(&id))
        };
        if removed.0.is_some() {
            self.shared.observer.inactive(id);
        }
    }

    /// Stops to talk to everybody.
    pub fn remove_all(&self) {
        let table = std::mem::take(&mut *self.table.write());
        drop(table);
    }

    /// A member has moved.
    ///
    /// # Errors
    /// [`PeerUrlError`]: the URLs cannot be dialled; the old ones stay.
    pub fn update_peer(&self, id: u64, urls: &[String]) -> Result<(), PeerUrlError> {
        let urls = parse_all(urls)?;
        if let Some(peer) = self.peer(id) {
            peer.update(urls);
        }
        Ok(())
    }

    /// The ids of all peers, rising.
    #[must_use]
    pub fn peer_ids(&self) -> Vec<u64> {
        self.table.read().peers.keys().copied().collect()
    }

    /// Since when a peer is reached without a break; nothing if it is not.
    #[must_use]
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        self.peer(id)?.active_since()
    }

    /// Sends messages. Never waits: what has no room is lost, and the handler is told. Messages to 0, to this member and
    /// to members that nobody knows are dropped. A `MsgSnap` goes by [`send_snapshot`](Self::send_snapshot), or is
    /// reported as failed here.
    pub fn send(&self, messages: impl IntoIterator<Item = Message>) {
        let table = self.table.read();
        for message in messages {
            let id = message.to;
            if message.msg_type == MessageType::Snap {
                self.shared.handler.report_snapshot(id, SnapshotOutcome::Failed);
                continue;
            }
            match table.peers.get(&id).or_else(|| table.remotes.get(&id)) {
                Some(peer) => peer.send(message),
                None => tracing::debug!(to = %format_args!("{id:x}"), "no such peer, message dropped"),
            }
        }
    }

    /// Sends a snapshot beside everything else; the handler is told how it ended.
    pub fn send_snapshot(&self, snapshot: OutgoingSnapshot) {
        let id = snapshot.message.to;
        match self.peer(id) {
            Some(peer) => peer.send_snapshot(snapshot, &self.tokio),
            None => self.shared.handler.report_snapshot(id, SnapshotOutcome::Failed),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The stream that a peer has asked for; nothing if it is no peer.
    pub(crate) fn attach(&self, id: u64, kind: StreamKind) -> Option<StreamBody> {
        self.peer(id).map(|peer| peer.attach(kind))
    }

    fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.table.read().peers.get(&id).cloned()
    }
}
