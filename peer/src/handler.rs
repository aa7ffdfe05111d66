//! What this crate asks of the member that it serves: raft on one side, the cluster's other questions on the other,
//! and who counts what happens.
//!
//! All calls of [`Handler`] come from tokio workers: they return at once and wait for nothing. Those that may take time
//! are futures, and a [`SnapshotSink`] runs on a thread where it may block.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use stanchion_api::etcdserverpb as pb;
use stanchion_raft::Message;

use crate::codec::StreamKind;

/// Why a message was not handed to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its sender was removed from the cluster.
    #[error("cannot process message from removed member")]
    RemovedSender,
    /// It is meant for another member.
    #[error("cannot process message to mismatch member")]
    WrongTarget,
}

/// How the transfer of a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It arrived.
    Finished,
    /// It did not.
    Failed,
}

/// The raft side of a member.
pub trait Handler: Send + Sync + 'static {
    /// Takes a message of a peer. If there is no room it is dropped, as a network would: that is no refusal.
    ///
    /// # Errors
    /// [`Refused`]; the peer is told that its message was not processed.
    fn process(&self, message: Message) -> Result<(), Refused>;
    /// Whether a member was removed: it gets no streams.
    fn is_removed(&self, member_id: u64) -> bool;
    /// Messages to a peer were lost.
    fn report_unreachable(&self, member_id: u64);
    /// The transfer of a snapshot to a peer has ended.
    fn report_snapshot(&self, member_id: u64, outcome: SnapshotOutcome);
    /// A peer says that this member was removed from the cluster: it has to stop.
    fn removed_by(&self, peer_id: u64);
    /// A peer sends a snapshot, whose `message` is given to [`process`](Self::process) when the database is complete.
    ///
    /// # Errors
    /// It cannot be taken; the peer tries again later.
    fn receive_snapshot(&self, message: &Message) -> io::Result<Box<dyn SnapshotSink>>;
}

/// Where a database is written as it comes. Dropping it unfinished throws away what was written.
pub trait SnapshotSink: Send {
    /// Appends a piece. May block.
    ///
    /// # Errors
    /// The transfer ends.
    fn write(&mut self, piece: &[u8]) -> io::Result<()>;
    /// Everything is there: makes it durable. May block.
    ///
    /// # Errors
    /// The transfer has failed.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Writes a database into whatever takes it.
pub type DatabaseWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// A snapshot to be sent: the message and the database as a stream.
pub struct OutgoingSnapshot {
    /// The `MsgSnap`, with the metadata of the database that is sent.
    pub message: Message,
    /// Exact size of the database in bytes.
    pub size: u64,
    /// Writes the database, exactly `size` bytes. Runs on a thread where it may block, and ends with an error when
    /// nobody takes the bytes any more.
    pub database: DatabaseWriter,
}

impl std::fmt::Debug for OutgoingSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingSnapshot")
            .field("to", &self.message.to)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// An answer that takes time.
pub type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// One member as `/members` lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberInfo {
    /// Its id.
    pub id: u64,
    /// Where peers reach it.
    #[serde(rename = "peerURLs", deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    /// It does not vote.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// Its name; empty until it has started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has started.
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub client_urls: Vec<String>,
}

/// Go writes an absent list as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(<Option<Vec<String>> as serde::Deserialize>::deserialize(from)?.unwrap_or_default())
}

/// What `/version` tells.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VersionInfo {
    /// Release of the member.
    pub etcdserver: String,
    /// Version of the cluster, or `not_decided`.
    pub etcdcluster: String,
    /// Version of the stored form, or `unknown`; 3.5 and before do not tell it.
    #[serde(default)]
    pub storage: String,
}

/// A member's hash of its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKv {
    /// The store's current revision.
    pub header_revision: i64,
    /// The hash.
    pub hash: u32,
    /// The compacted revision.
    pub compact_revision: i64,
    /// The revision up to which was hashed; 0 if the peer does not tell.
    pub hash_revision: i64,
}

/// Why a learner was not promoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromoteError {
    /// There is no such member.
    #[error("membership: ID not found")]
    NotFound,
    /// It is a voter.
    #[error("membership: can only promote a learner member")]
    NotALearner,
    /// It lags.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    NotReady,
    /// Nobody could say in time.
    #[error("request timed out")]
    Timeout,
    /// Anything else: the caller may try again.
    #[error("{0}")]
    Other(String),
}

/// Why a question about a lease has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no such lease.
    #[error("lease not found")]
    NotFound,
    /// This member does not lead.
    #[error("not a primary lessor")]
    NotPrimary,
    /// This member is still applying what was committed before.
    #[error("waiting for node to catch up its applied index has timed out")]
    Behind,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why there is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The revision is compacted.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision has not been reached.
    #[error("mvcc: required revision is a future revision")]
    Future,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The questions of peers that are not raft's.
pub trait Endpoints: Send + Sync + 'static {
    /// All members by rising id, as this one knows them.
    fn members(&self) -> Vec<MemberInfo>;
    /// Versions.
    fn version(&self) -> VersionInfo;
    /// Promotes a learner; `token` is the client's `Authorization`. All members afterwards.
    fn promote(&self, member_id: u64, token: Option<String>) -> Answer<Vec<MemberInfo>, PromoteError>;
    /// Renews a lease as the leader; its granted TTL in seconds.
    fn renew_lease(&self, lease_id: i64) -> Answer<i64, LeaseError>;
    /// Looks a lease up as the leader.
    fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Answer<pb::LeaseTimeToLiveResponse, LeaseError>;
    /// Whether a downgrade is under way, after a linearizable read.
    fn downgrade_enabled(&self) -> Answer<bool, String>;
    /// Hashes the keys up to `revision`; 0 is the current one.
    fn hash_kv(&self, revision: i64) -> Answer<HashKv, HashError>;
}

/// Counts what happens. Every method does nothing by default.
#[allow(unused_variables, reason = "the names of arguments say what they are")]
pub trait Observer: Send + Sync + 'static {
    /// A peer is reached, after it was not.
    fn active(&self, peer_id: u64) {}
    /// A peer is not reached any more.
    fn inactive(&self, peer_id: u64) {}
    /// A peer has opened one of its two streams here: what goes on it does not go by post any more.
    fn stream_opened(&self, peer_id: u64, kind: StreamKind) {}
    /// A stream that a peer had opened here has ended, and there is no newer one.
    fn stream_closed(&self, peer_id: u64, kind: StreamKind) {}
    /// Bytes were sent to a peer.
    fn sent(&self, peer_id: u64, bytes: usize) {}
    /// Bytes were received from a peer; 0 if it has not introduced itself.
    fn received(&self, peer_id: u64, bytes: usize) {}
    /// Sending to a peer failed, or was given up because its queue was full.
    fn send_failed(&self, peer_id: u64) {}
    /// Receiving from a peer failed.
    fn receive_failed(&self, peer_id: u64) {}
    /// A probe took this long.
    fn round_trip(&self, peer_id: u64, time: Duration) {}
    /// A snapshot starts to leave for a peer.
    fn snapshot_send_started(&self, peer_id: u64) {}
    /// A snapshot has left, or has not.
    fn snapshot_send_ended(&self, peer_id: u64, time: Duration, succeeded: bool) {}
    /// A snapshot starts to come from a peer.
    fn snapshot_receive_started(&self, peer_id: u64) {}
    /// A snapshot has come, or has not.
    fn snapshot_receive_ended(&self, peer_id: u64, time: Duration, succeeded: bool) {}
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
