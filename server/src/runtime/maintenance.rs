//! What operators ask of a member: its status, hashes, an image of its database, handing over leadership.

use std::io::{self, Write};

use bytes::Bytes;
use stanchion_api::etcdserverpb as pb;
use stanchion_mvcc::ReadTxn;
use tokio::sync::{mpsc, oneshot};

use super::answers;
use super::committer::{ToCommitter, commit_now};
use super::handle::{Handle, answer};
use super::raft_loop::ToRaft;
use crate::member::{Answer, Image, Member as _};
use crate::refusal::{self, Refusal};

/// Pieces of an image that wait for a slow reader: with [`PIECE`] this bounds its memory.
const PIECES_AHEAD: usize = 4;
/// Bytes of a piece of an image.
const PIECE: usize = 256 * 1024;
/// What Status shows as the quota where none is configured, in bytes.
const DEFAULT_QUOTA: i64 = 2 * 1024 * 1024 * 1024;

/// Runs `read` where it may wait for the disk.
async fn on_disk<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(read).await.map_err(Refusal::unknown)?
}

impl Handle {
    pub(super) fn show_status(&self) -> pb::StatusResponse {
        let (standing, raft, versions) = (self.standing(), self.raft_status(), self.versions());
        let mut errors: Vec<String> = Vec::new();
        if standing.leader == 0 {
            errors.push(refusal::NO_LEADER.message.into_owned());
        }
        for alarm in self.alarms() {
            let kind = pb::AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
            // As the text form of a message has it: a zero is left out.
            errors.push(match alarm.member_id {
                0 => format!("alarm:{kind}"),
                id => format!("memberID:{id} alarm:{kind}"),
            });
        }
        pb::StatusResponse {
            header: None,
            version: versions.server,
            db_size: self.store.now().size().cast_signed(),
            leader: standing.leader,
            raft_index: raft.commit,
            raft_term: raft.term,
            raft_applied_index: raft.applied,
            errors,
            db_size_in_use: self.store.now().size_in_use().cast_signed(),
            is_learner: standing.is_learner,
            storage_version: versions.storage.unwrap_or_default(),
            db_size_quota: self.quota_bytes.map_or(DEFAULT_QUOTA, u64::cast_signed),
            downgrade_info: Some(versions.downgrade),
        }
    }

    /// Over the file as it is with everything that is applied.
    pub(super) fn hash_file(&self) -> Answer<u32> {
        let (store, metrics) = (self.store.now(), self.proposer.metrics.clone());
        answer(on_disk(move || {
            let _timer = metrics.mvcc.hash_duration.start_timer();
            commit_now(&store, &metrics).map_err(Refusal::unknown)?;
            store.read().hash_file().map_err(Refusal::unknown)
        }))
    }

    pub(super) fn hash_history(&self, revision: i64) -> Answer<pb::HashKvResponse> {
        let (store, metrics) = (self.store.now(), self.proposer.metrics.clone());
        answer(on_disk(move || {
            let _timer = metrics.mvcc.hash_rev_duration.start_timer();
            let hash = store.hash_kv(revision).map_err(|error| answers::read_failed(error.into()))?;
            Ok(pb::HashKvResponse {
                header: None,
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.revision,
            })
        }))
    }

    /// Resolves when the file has no more free pages to give back than it keeps for itself.
    pub(super) fn shrink_file(&self) -> Answer<()> {
        let (reply, done) = oneshot::channel();
        let _ = self.to_committer.send(ToCommitter::Defragment(reply));
        answer(async move { done.await.map_err(|_| refusal::STOPPED) })
    }

    /// Commits what is pending and opens an image; writers go on meanwhile.
    pub(super) fn open_image(&self) -> Answer<Image> {
        let store = self.store.now();
        let version = self.versions().storage.unwrap_or_default();
        let metrics = self.proposer.metrics.clone();
        answer(async move {
            let counting = metrics.clone();
            let image = on_disk(move || {
                commit_now(&store, &counting).map_err(Refusal::unknown)?;
                Ok(store.read())
            });
            let image = image.await?;
            let size = image.file_size();
            let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
            // It ends when the image is through or nobody reads any more.
            drop(tokio::task::spawn_blocking(move || {
                let _timer = metrics.backend.snapshot_duration.start_timer();
                send_image(&image, sender);
            }));
            Ok(Image { size, version, pieces })
        })
    }

    /// Resolves when `target` leads; how long that may take is the caller's deadline alone.
    pub(super) fn hand_over(&self, target: u64) -> Answer<()> {
        let standing = self.standing();
        let votes = self.shared.view.read().cluster.member(target).is_some_and(|member| !member.is_learner);
        let mut changes = self.shared.leader_changes.subscribe();
        let proposer = self.proposer.clone();
        answer(async move {
            match () {
                () if standing.leader != standing.member_id => return Err(refusal::NOT_LEADER),
                () if !votes => return Err(refusal::BAD_TRANSFEREE),
                () if target == standing.member_id => return Ok(()),
                () => {}
            }
            proposer.send(ToRaft::TransferLeader(target));
            let led = changes.wait_for(|leadership| leadership.leader == target).await;
            led.map(|_| ()).map_err(|_| refusal::STOPPED)
        })
    }
}

/// Writes an image into a channel in pieces.
struct Pieces {
    sender: mpsc::Sender<Result<Bytes, Refusal>>,
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = &data[..data.len().min(PIECE)];
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(piece)));
        sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send_image(image: &ReadTxn, sender: mpsc::Sender<Result<Bytes, Refusal>>) {
    let mut pieces = Pieces { sender };
    if let Err(error) = image.write_file_to(&mut pieces)
        && !pieces.sender.is_closed()
    {
        tracing::warn!(%error, "an image of the database could not be read");
        // Who has gone needs no answer.
        let _ = pieces.sender.blocking_send(Err(Refusal::unknown(error)));
    }
}
