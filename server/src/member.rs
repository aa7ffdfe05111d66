//! The boundary between the network front and the member behind it: what the front may ask, and what the runtime
//! answers. Neither engines nor HTTP are known here.
//!
//! The front has checked a request's form (keys, sort options, transaction structure, URLs) before it asks, and has
//! settled who the caller is. The member does everything that needs the log, the store or the clock: backlog, size
//! limit, proposing, waiting (never longer than the request timeout), permissions at apply, alarms at apply.
//!
//! Every future may be dropped at any time, which means that the caller has gone; what was proposed may still happen.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// What an asynchronous question to the member resolves to.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'static>>;

/// The member as every part of the front holds it.
pub type MemberHandle = Arc<dyn Member>;

/// Who asks. Decided at the front door, carried through the log, judged again at apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// User name; empty while auth is off.
    pub username: String,
    /// Auth revision at which the caller was identified; 0 while auth is off.
    pub auth_revision: u64,
}

/// An encoded message of type `M`, so that stored bytes reach the socket without being decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<M> {
    bytes: Bytes,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Encoded<M> {
    /// Takes bytes that are the encoding of an `M`.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Encoded { bytes, message: PhantomData }
    }

    /// The encoding.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The encoding, by value.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The message itself, for those who must look inside (JSON, locks, elections).
    pub fn decode(self) -> Result<M, Refusal> {
        M::decode(self.bytes).map_err(Refusal::unknown)
    }
}

impl<M: Message + Default> From<M> for Encoded<M> {
    fn from(message: M) -> Self {
        let mut buf = BytesMut::with_capacity(message.encoded_len());
        message.encode_raw(&mut buf);
        Encoded::from_bytes(buf.freeze())
    }
}

/// What every response header is made of, read in one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Id of the cluster.
    pub cluster_id: u64,
    /// Id of this member.
    pub member_id: u64,
    /// Term of the last applied entry.
    pub raft_term: u64,
    /// The store's current revision.
    pub revision: i64,
    /// Id of the leader that this member knows, 0 if none.
    pub leader: u64,
    /// Whether this member is a learner.
    pub is_learner: bool,
}

impl Standing {
    /// A response header with `revision` in it.
    pub fn header(&self, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.raft_term,
        }
    }
}

/// Versions that `/version` and Status report, each as `X.Y.Z`, and the way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The etcd release whose behaviour we keep.
    pub server: String,
    /// Agreed version of the cluster; `None` while undecided.
    pub cluster: Option<String>,
    /// Version of the stored form; `None` while unknown.
    pub storage: Option<String>,
    /// The downgrade that is under way, if any.
    pub downgrade: pb::DowngradeInfo,
}

/// The database's size against its quota, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the backend file.
    pub allocated: u64,
    /// Limit on it; `None` if switched off.
    pub quota: Option<u64>,
}

/// One watcher to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWatcher {
    /// Wanted id; 0 lets the stream choose the smallest free one counting up from 0.
    pub id: i64,
    /// First key; never empty.
    pub key: Bytes,
    /// Empty = `key` alone, one zero byte = all keys from `key` on, else exclusive end. Not yet checked against `key`.
    pub range_end: Bytes,
    /// First revision wanted; 0 = events after now. Never negative.
    pub start_revision: i64,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
    /// Events carry the pair before the change, if it can still be read.
    pub prev_kv: bool,
}

/// A created watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatcherCreated {
    /// The watcher's id on its stream.
    pub id: i64,
    /// The store's revision at creation; the first event of an unbounded watcher comes after it.
    pub revision: i64,
}

/// Why a watcher was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatcherRefused {
    /// `range_end` is not above `key`.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The id is in use on this stream, or is reserved by a watcher that a compaction has cancelled.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// What a watch stream receives. For one watcher deliveries come in order, without gap or repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchDelivery {
    /// Events of whole revisions, oldest first; never empty.
    Events {
        /// The watcher's id.
        id: i64,
        /// The revision that the response header shows.
        revision: i64,
        /// Encoded `mvccpb.Event`s, shared by all watchers that get them.
        events: Vec<Bytes>,
    },
    /// Everything up to `revision` has been delivered; `id` is -1 for the whole stream.
    Progress {
        /// The watcher's id, or -1.
        id: i64,
        /// The store's current revision.
        revision: i64,
    },
    /// The watcher is gone because its history is; its id stays reserved until it is cancelled.
    Compacted {
        /// The watcher's id.
        id: i64,
        /// The compacted revision.
        compact_revision: i64,
    },
}

/// How many deliveries wait for a stream that does not read before its watchers become victims.
pub const WATCH_STREAM_CAPACITY: usize = 128;

/// One watch stream: the front steers it here and reads the [`Deliveries`] that came with it.
/// Dropping it removes all its watchers. Calls hold short locks only.
pub trait WatchControl: Send {
    /// Creates a watcher. Its first delivery may be ready before this returns.
    fn create(&mut self, watcher: NewWatcher) -> Result<WatcherCreated, WatcherRefused>;
    /// Removes a watcher and frees its id; false if there is none. No delivery of it is queued afterwards.
    fn cancel(&mut self, id: i64) -> bool;
    /// Queues a [`WatchDelivery::Progress`] for this watcher if it is synced and has reached its start revision and
    /// there is room; else nothing happens.
    fn request_progress(&mut self, id: i64);
    /// Queues a [`WatchDelivery::Progress`] with id -1 if there is a watcher and all are synced and have reached their
    /// start revisions; else nothing happens.
    fn request_progress_all(&mut self);
}

/// What a watch stream is told. What waits is fetched when this is polled and held by the member until then, at most
/// [`WATCH_STREAM_CAPACITY`] of them. Once [`cancel`](WatchControl::cancel) has returned, what is left of that watcher is
/// ready at once: after the first `Pending` nothing of it comes.
pub type Deliveries = Pin<Box<dyn Stream<Item = WatchDelivery> + Send>>;

/// A new watch stream: its steering and its deliveries.
pub type WatchStream = (Box<dyn WatchControl>, Deliveries);

/// A point-in-time image of the database.
#[derive(Debug)]
pub struct Image {
    /// Exact number of bytes that `pieces` yields in all.
    pub size: u64,
    /// Storage version as `X.Y.Z`; empty when unknown.
    pub version: String,
    /// The image in pieces of any length. The producer waits when nobody reads, and stops when the receiver is dropped.
    pub pieces: mpsc::Receiver<Result<Bytes, Refusal>>,
}

/// Raft's state for `/debug/vars`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// Current term.
    pub term: u64,
    /// Vote of this term, 0 if none.
    pub vote: u64,
    /// Committed index.
    pub commit: u64,
    /// Applied index.
    pub applied: u64,
    /// `StateLeader`, `StateFollower`, `StateCandidate` or `StatePreCandidate`.
    pub role: &'static str,
}

/// A member as the front sees it.
pub trait Member: Send + Sync + 'static {
    /// Ids, term, revision and leader of this instant.
    fn standing(&self) -> Standing;
    /// Versions for `/version`.
    fn versions(&self) -> Versions;
    /// Size and quota for the check at the front door.
    fn space(&self) -> Space;
    /// Sets the gauges that show this member's state.
    fn refresh(&self, metrics: &Metrics);
    /// Active alarms, by member id and type.
    fn alarms(&self) -> Vec<pb::AlarmMember>;
    /// Raft's state.
    fn raft_status(&self) -> RaftStatus;
    /// A fresh request id: 16 bits of member id, 40 of start time, 8 and up of a counter.
    fn next_id(&self) -> u64;

    /// Proposes `request` (the encoded message of `kind`, kept as it came) and resolves with the encoded response
    /// once this member has applied it; its header is complete.
    ///
    /// Refuses with TOO_MANY_REQUESTS, REQUEST_TOO_LARGE, TIMEOUT… or what apply decided.
    fn propose(&self, caller: Caller, kind: RequestKind, request: Bytes) -> Answer<Bytes>;
    /// Waits until everything that was committed before the call is applied here.
    fn read_barrier(&self) -> Answer<()>;
    /// Reads one interval, after a barrier unless `serializable`; the header is complete.
    fn range(&self, caller: Caller, request: pb::RangeRequest) -> Answer<Encoded<pb::RangeResponse>>;
    /// Runs a transaction whose operations are all ranges on one image of the store, after a barrier unless all of them
    /// are serializable (a transaction without operations counts as such); headers are complete.
    fn read_txn(&self, caller: Caller, request: pb::TxnRequest) -> Answer<Encoded<pb::TxnResponse>>;
    /// Opens a watch stream without watchers.
    fn watch_stream(&self) -> WatchStream;

    /// Renews a lease on the leader; the granted TTL in seconds, or 0 if there is no such lease.
    fn lease_renew(&self, caller: Caller, id: i64) -> Answer<i64>;
    /// Looks a lease up on the leader; the answer's header is left to the front. Unknown: TTL -1.
    fn lease_time_to_live(
        &self,
        caller: Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Answer<pb::LeaseTimeToLiveResponse>;
    /// Ids of the leases in this member's store.
    fn lease_ids(&self, caller: Caller) -> Answer<Vec<i64>>;

    /// Members by rising id, after a barrier if `linearizable`.
    fn members(&self, linearizable: bool) -> Answer<Vec<pb::Member>>;
    /// Adds a member with checked peer URLs; the new one and all.
    fn member_add(&self, peer_urls: Vec<String>, learner: bool) -> Answer<(pb::Member, Vec<pb::Member>)>;
    /// Removes a member; those that are left.
    fn member_remove(&self, id: u64) -> Answer<Vec<pb::Member>>;
    /// Sets a member's checked peer URLs; all members.
    fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Answer<Vec<pb::Member>>;
    /// Makes a learner a voter; all members.
    fn member_promote(&self, id: u64) -> Answer<Vec<pb::Member>>;

    /// Status of this member; the header is left to the front.
    fn status(&self) -> Answer<pb::StatusResponse>;
    /// Gives free pages back to the file system; resolves when done.
    fn defragment(&self) -> Answer<()>;
    /// Hash over the whole backend.
    fn hash(&self) -> Answer<u32>;
    /// Hash over the history up to `revision` (0 = current); the header is left to the front.
    fn hash_kv(&self, revision: i64) -> Answer<pb::HashKvResponse>;
    /// Opens a point-in-time image of the backend.
    fn image(&self) -> Answer<Image>;
    /// Hands leadership over; resolves when `target` leads.
    fn move_leader(&self, target: u64) -> Answer<()>;
}

/// Puts a header before the encoded rest of a response (`header` is field 1 of every response).
pub fn with_header(header: &pb::ResponseHeader, rest: &[u8]) -> Bytes {
    let len = header.encoded_len();
    let mut out = BytesMut::with_capacity(len + rest.len() + 12);
    prost::encoding::message::encode(1, header, &mut out);
    out.put_slice(rest);
    out.freeze()
}
