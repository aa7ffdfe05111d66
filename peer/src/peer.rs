//! One member to which messages go: its streams, its pipeline, its URLs and its state.

use std::sync::Arc;
use std::time::Instant;

use stanchion_raft::{Message, MessageType};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::AbortHandle;

use crate::codec::StreamKind;
use crate::handler::{OutgoingSnapshot, SnapshotOutcome};
use crate::pipeline::{PIPELINE_QUEUE, PIPELINE_SENDERS, Sender};
use crate::queue::Pushed;
use crate::reader::Reader;
use crate::shared::Shared;
use crate::status::Status;
use crate::url::{PeerUrl, UrlPick};
use crate::writer::{StreamBody, Writer};
use crate::{probe, snapshot};

/// A member that is dialled and that dials. Dropping it ends everything that talks to it.
pub(crate) struct Peer {
    id: u64,
    shared: Arc<Shared>,
    status: Arc<Status>,
    urls: Arc<UrlPick>,
    message: Arc<Writer>,
    msgapp: Arc<Writer>,
    pipeline: mpsc::Sender<Message>,
    heard: Arc<Notify>,
    tasks: Vec<AbortHandle>,
}

/// What a member is to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// A member of the cluster: streams both ways.
    Peer,
    /// Somebody who has introduced itself and is not known as a member yet: it is answered by the pipeline alone.
    Remote,
}

impl Peer {
    pub(crate) fn start(
        id: u64,
        urls: Vec<PeerUrl>,
        relation: Relation,
        shared: &Arc<Shared>,
        runtime: &tokio::runtime::Handle,
    ) -> Peer {
        let status = Arc::new(Status::new(id, shared.observer.clone()));
        let urls = Arc::new(UrlPick::new(urls));
        let heard = Arc::new(Notify::new());
        let (pipeline, queue) = mpsc::channel(PIPELINE_QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = Vec::new();
        for _ in 0..PIPELINE_SENDERS {
            let sender = Sender {
                peer_id: id,
                shared: shared.clone(),
                status: status.clone(),
                urls: urls.clone(),
                queue: queue.clone(),
            };
            tasks.push(runtime.spawn(sender.run()).abort_handle());
        }
        if relation == Relation::Peer {
            for kind in [StreamKind::Message, StreamKind::MsgApp] {
                let reader = Reader {
                    kind,
                    peer_id: id,
                    shared: shared.clone(),
                    status: status.clone(),
                    urls: urls.clone(),
                    heard: heard.clone(),
                };
                tasks.push(runtime.spawn(reader.run()).abort_handle());
            }
            tasks.push(runtime.spawn(probe::run(id, shared.clone(), urls.clone())).abort_handle());
        }
        let writer = |kind| Writer::new(kind, id, shared.clone(), status.clone());
        Peer {
            id,
            shared: shared.clone(),
            message: writer(StreamKind::Message),
            msgapp: writer(StreamKind::MsgApp),
            status,
            urls,
            pipeline,
            heard,
            tasks,
        }
    }

    /// Sends a message by the first channel that there is; if that has no room, the message is lost and raft is told.
    pub(crate) fn send(&self, message: Message) {
        let streams: &[&Arc<Writer>] = match message.msg_type {
            MessageType::Snap => &[],
            MessageType::App => &[&self.msgapp, &self.message],
            _ => &[&self.message],
        };
        let mut message = message;
        for stream in streams {
            match stream.push(message) {
                Pushed::Taken => return,
                Pushed::Full(lost) => return self.lose(&lost),
                Pushed::Closed(back) => message = back,
            }
        }
        if let Err(error) = self.pipeline.try_send(message) {
            self.lose(&error.into_inner());
        }
    }

    fn lose(&self, message: &Message) {
        self.shared.observer.send_failed(self.id);
        self.shared.handler.report_unreachable(self.id);
        if message.msg_type == MessageType::Snap {
            self.shared.handler.report_snapshot(self.id, SnapshotOutcome::Failed);
        }
    }

    pub(crate) fn send_snapshot(&self, snapshot: OutgoingSnapshot, runtime: &tokio::runtime::Handle) {
        runtime.spawn(snapshot::send(self.shared.clone(), self.status.clone(), self.urls.clone(), snapshot));
    }

    /// The peer has opened a stream.
    pub(crate) fn attach(&self, kind: StreamKind) -> StreamBody {
        // Both readers may be resting.
        self.heard.notify_waiters();
        match kind {
            StreamKind::Message => self.message.attach(),
            StreamKind::MsgApp => self.msgapp.attach(),
        }
    }

    pub(crate) fn update(&self, urls: Vec<PeerUrl>) {
        self.urls.replace(urls);
        self.heard.notify_waiters();
    }

    pub(crate) fn active_since(&self) -> Option<Instant> {
        self.status.active_since()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.message.close();
        self.msgapp.close();
    }
}
