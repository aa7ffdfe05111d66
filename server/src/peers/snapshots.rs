//! Databases between members: an image of this one's for a member that has fallen behind, and a place for a leader's.

use std::io;
use std::sync::Arc;

use stanchion_peer::{OutgoingSnapshot, SnapshotSink};
use stanchion_raft::Message;
use stanchion_replica::snapshot::of_image;
use stanchion_snap::{Receiver, Snapshotter};

use super::Peers;
use crate::runtime::ToRaft;

impl Peers {
    /// Sends this member's state to one that raft cannot help with entries any more. What is sent is the state of the
    /// moment, not the older one that raft has in mind.
    pub(crate) fn send_snapshot(self: &Arc<Self>, message: Message) {
        let peers = self.clone();
        self.tokio.spawn_blocking(move || {
            let member_id = message.to;
            if let Err(error) = peers.open_and_send(message) {
                tracing::warn!(peer = %format_args!("{member_id:x}"), %error, "no snapshot could be made");
                peers.tell(ToRaft::SnapshotSent { member_id, delivered: false });
            }
        });
    }

    fn open_and_send(&self, mut message: Message) -> Result<(), stanchion_mvcc::Error> {
        let store = self.store.now();
        store.commit()?;
        let image = store.read();
        let snapshot = of_image(&image)?;
        let index = snapshot.metadata.index;
        self.tell(ToRaft::SnapshotStarted { member_id: message.to, index });
        message.snapshot = Some(Box::new(snapshot));
        tracing::info!(peer = %format_args!("{:x}", message.to), index, "sending database snapshot");
        self.transport.send_snapshot(OutgoingSnapshot {
            message,
            size: image.file_size(),
            database: Box::new(move |out| image.write_file_to(out).map(|_| ()).map_err(io::Error::other)),
        });
        Ok(())
    }

    fn tell(&self, input: ToRaft) {
        // A thread that is gone means that the member stops.
        let _ = self.to_raft.send(input);
    }
}

/// A leader's database on its way to a file.
struct Incoming {
    receiver: Receiver,
}

/// Opens the place for the database of a `MsgSnap`.
pub(super) fn receive(snapshots: &Snapshotter, message: &Message) -> io::Result<Box<dyn SnapshotSink>> {
    let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.metadata.index);
    if index == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message holds no snapshot"));
    }
    let receiver = snapshots.receive_database(index).map_err(io::Error::other)?;
    Ok(Box::new(Incoming { receiver }))
}

impl SnapshotSink for Incoming {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.receiver.write(piece).map_err(io::Error::other)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        // The stream announces no length: its orderly end is all that there is.
        let written = self.receiver.written();
        self.receiver.finish(written).map(|_| ()).map_err(io::Error::other)
    }
}
