//! The other members: `stanchion-peer`'s transport between this member's raft thread and theirs, and what members ask
//! each other beside raft.
//!
//! What lives here: who is a peer (as membership says), what comes in and its bounds, the peer port's answers, and
//! questions to the leader. What may not: what a message or a change means.

mod compatibility;
mod endpoints;
mod hashes;
mod inbox;
mod joining;
mod observe;
mod questions;
mod snapshots;
mod strangers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use stanchion_peer::{Asker, Identity, Timing, Transport};
use stanchion_raft::{Message, MessageType};
use stanchion_replica::membership::Cluster;
use stanchion_snap::Snapshotter;

use crate::config::ETCD_VERSION;
use crate::metrics::Metrics;
use crate::runtime::{Shared, StoreCell, ToRaft};

pub use compatibility::Joinable;
pub(crate) use endpoints::Questions;
pub(crate) use hashes::ask_hashes;
pub use inbox::PeerMessage;
pub use joining::{JoinError, Joined, check_new, join};
pub use strangers::{OtherCluster, await_other_cluster};

/// Longest dial and answer of a look at another member's version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);
/// From the moment that a member sees its own removal until it stops: what it sends meanwhile lets others see it too.
const REMOVAL_NOTICE: Duration = Duration::from_secs(1);

/// What the peers' side is told at start.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    /// Peer URLs that this member tells others.
    pub advertised: Vec<String>,
    /// Members that this one knows of before its log names them: id and peer URLs.
    pub acquainted: Vec<(u64, Vec<String>)>,
    /// Election timeout.
    pub election: Duration,
    /// Longest wait of a request.
    pub request_timeout: Duration,
}

/// All that this member has to do with others.
pub(crate) struct Peers {
    transport: Transport,
    shared: Arc<Shared>,
    to_raft: Sender<ToRaft>,
    store: Arc<StoreCell>,
    request_timeout: Duration,
    election: Duration,
    asker: Asker,
    /// Peers and their URLs as the transport has them.
    known: Mutex<BTreeMap<u64, Vec<String>>>,
    tokio: tokio::runtime::Handle,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl Peers {
    /// A member's side without peers: [`follow`](Self::follow) says who they are. Must be called within tokio.
    pub(crate) fn start(
        config: PeersConfig,
        shared: Arc<Shared>,
        to_raft: Sender<ToRaft>,
        (store, snapshots): (Arc<StoreCell>, Arc<Snapshotter>),
        metrics: Arc<Metrics>,
    ) -> Arc<Peers> {
        let tokio = tokio::runtime::Handle::current();
        let identity = Identity {
            cluster_id: shared.identity.cluster_id,
            member_id: shared.identity.member_id,
            version: ETCD_VERSION.parse().expect("our own version is one"),
            peer_urls: config.advertised,
        };
        let local = format!("{:x}", identity.member_id);
        let inbox = Arc::new(inbox::Inbox::new(shared.clone(), to_raft.clone(), snapshots));
        let observer = Arc::new(observe::Counts::new(local, shared.clone(), metrics));
        let timing = Timing::for_election(config.election);
        let transport = Transport::new(identity, timing, inbox, observer, tokio.clone());
        let peers = Arc::new(Peers {
            transport,
            shared,
            to_raft,
            store,
            request_timeout: config.request_timeout,
            election: config.election,
            asker: Asker::new(VERSION_TIMEOUT),
            known: Mutex::default(),
            tokio,
        });
        peers.meet(config.acquainted.into_iter().collect());
        peers
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends raft's messages. Removed members get none.
    pub(crate) fn send(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let removed: Vec<u64> = {
            let view = self.shared.view.read();
            let targets = messages.iter().map(|message| message.to);
            targets.filter(|id| view.cluster.is_removed(*id)).collect()
        };
        let furthest = furthest_acknowledgements(&messages);
        let due = messages.into_iter().enumerate().filter(|(at, message)| {
            !removed.contains(&message.to) && (!is_acknowledgement(message) || furthest.contains(at))
        });
        self.transport.send(due.map(|(_, message)| message));
    }

    /// Membership may have changed: talks to those who are members now, where they are now. Who is not in `cluster` but
    /// was not removed either may be named further on in the log.
    pub(crate) fn follow(&self, cluster: &Cluster) {
        let own = self.shared.identity.member_id;
        let gone: Vec<u64> = {
            let mut known = self.known.lock();
            let gone = known.keys().copied().filter(|id| cluster.is_removed(*id)).collect::<Vec<_>>();
            known.retain(|id, _| !gone.contains(id));
            gone
        };
        for id in gone {
            self.transport.remove_peer(id);
            tracing::info!(peer = %format_args!("{id:x}"), "stopped remote peer");
        }
        let members = cluster.members().filter(|member| member.id != own);
        self.meet(members.map(|member| (member.id, member.peer_urls.clone())).collect());
        if cluster.is_removed(own) {
            let shared = self.shared.clone();
            self.tokio.spawn(async move {
                tokio::time::sleep(REMOVAL_NOTICE).await;
                shared.removed.send_replace(true);
            });
        }
    }

    /// Talks to these members from now on, where they are now.
    fn meet(&self, members: BTreeMap<u64, Vec<String>>) {
        let mut known = self.known.lock();
        for (id, urls) in members {
            if known.get(&id) == Some(&urls) {
                continue;
            }
            match self.transport.add_peer(id, &urls) {
                Ok(()) => tracing::info!(peer = %format_args!("{id:x}"), ?urls, "added remote peer"),
                Err(error) => {
                    tracing::error!(peer = %format_args!("{id:x}"), %error, "a member cannot be reached");
                }
            }
            known.insert(id, urls);
        }
    }

    /// Ends all connections.
    pub(crate) fn stop(&self) {
        self.transport.remove_all();
    }
}

fn is_acknowledgement(message: &Message) -> bool {
    message.msg_type == MessageType::AppResp && !message.reject
}

/// Of the acknowledgements that have gathered for one leader, the furthest says what the others say. Gives their places.
fn furthest_acknowledgements(messages: &[Message]) -> BTreeSet<usize> {
    let mut furthest: BTreeMap<(u64, u64), (u64, usize)> = BTreeMap::new();
    for (at, message) in messages.iter().enumerate().filter(|(_, message)| is_acknowledgement(message)) {
        let best = furthest.entry((message.to, message.term)).or_default();
        *best = (*best).max((message.index, at));
    }
    furthest.into_values().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_acknowledgement_is_sent_and_rejections_are_none() {
        let ack = |index, reject| Message { index, reject, ..Message::new(MessageType::AppResp, 1) };
        let messages = [ack(3, false), ack(4, false), ack(9, true), ack(2, false), ack(4, false)];
        assert_eq!(furthest_acknowledgements(&messages), [4].into());
        assert_eq!(furthest_acknowledgements(&messages[2..3]), [].into());
    }
}
