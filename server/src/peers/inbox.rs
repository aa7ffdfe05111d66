//! What peers send to raft, and its bounds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::Sender;
use stanchion_peer::{Handler, Refused, SnapshotOutcome, SnapshotSink};
use stanchion_raft::Message;
use stanchion_snap::Snapshotter;

use super::snapshots;
use crate::runtime::{Shared, ToRaft};

/// Messages that may wait for the raft thread.
const MESSAGES_MAX: usize = 16_384;
/// Bytes of entries that may wait for the raft thread. A single larger message is taken when nothing else waits.
const BYTES_MAX: usize = 256 << 20;

/// What waits for the raft thread.
#[derive(Debug, Default)]
struct Waiting {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// A message on its way to the raft thread; it counts as waiting until it is dropped.
#[derive(Debug)]
pub struct PeerMessage {
    message: Message,
    bytes: usize,
    waiting: Arc<Waiting>,
}

impl PeerMessage {
    /// The message. It does not wait any more.
    pub(crate) fn take(mut self) -> Message {
        std::mem::take(&mut self.message)
    }
}

impl Drop for PeerMessage {
    fn drop(&mut self) {
        self.waiting.messages.fetch_sub(1, Ordering::Relaxed);
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes what peers send.
#[derive(Debug)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
    to_raft: Sender<ToRaft>,
    snapshots: Arc<Snapshotter>,
    waiting: Arc<Waiting>,
}

impl Inbox {
    pub(super) fn new(shared: Arc<Shared>, to_raft: Sender<ToRaft>, snapshots: Arc<Snapshotter>) -> Inbox {
        Inbox { shared, to_raft, snapshots, waiting: Arc::default() }
    }

    /// Counts a message in, unless there is no room.
    fn admit(&self, message: Message) -> Option<PeerMessage> {
        let bytes: usize = message.entries.iter().map(|entry| entry.data.len()).sum();
        let before = self.waiting.messages.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let admitted = PeerMessage { message, bytes, waiting: self.waiting.clone() };
        let full = before >= MESSAGES_MAX || bytes_before + bytes > BYTES_MAX;
        (before == 0 || !full).then_some(admitted)
    }

    fn tell(&self, input: ToRaft) {
        // A thread that is gone means that the member stops.
        let _ = self.to_raft.send(input);
    }
}

impl Handler for Inbox {
    fn process(&self, message: Message) -> Result<(), Refused> {
        if self.is_removed(message.from) {
            return Err(Refused::RemovedSender);
        }
        if message.to != self.shared.identity.member_id {
            return Err(Refused::WrongTarget);
        }
        // Without room it is lost, as on a network.
        if let Some(admitted) = self.admit(message) {
            self.tell(ToRaft::Message(admitted));
        }
        Ok(())
    }

    fn is_removed(&self, member_id: u64) -> bool {
        self.shared.view.read().cluster.is_removed(member_id)
    }

    fn report_unreachable(&self, member_id: u64) {
        self.tell(ToRaft::Unreachable(member_id));
    }

    fn report_snapshot(&self, member_id: u64, outcome: SnapshotOutcome) {
        self.tell(ToRaft::SnapshotSent { member_id, delivered: outcome == SnapshotOutcome::Finished });
    }

    fn removed_by(&self, peer_id: u64) {
        // Every peer says so, on every stream.
        if !self.shared.removed.send_replace(true) {
            tracing::error!(
                peer = %format_args!("{peer_id:x}"),
                "the member has been permanently removed from the cluster; the data-dir used by this member must be removed"
            );
        }
    }

    fn receive_snapshot(&self, message: &Message) -> io::Result<Box<dyn SnapshotSink>> {
        snapshots::receive(&self.snapshots, message)
    }
}
