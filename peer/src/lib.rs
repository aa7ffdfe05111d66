//! How members talk to each other: etcd's peer protocol, to the byte, over HTTP/1.1.
//!
//! What lives here: streams, posts, snapshots, probes, the peer port and questions to other members. What may not: what
//! a message means (raft), what is stored (replica), and any decision about membership; those are asked of the caller by
//! three traits, [`Handler`], [`Endpoints`] and [`Observer`].
//!
//! # Who dials whom
//!
//! Every member opens two streams at every other, and data flows from the dialled side to the dialler. To send to a
//! peer, a member writes on the streams which that peer has opened; while there are none, messages go by POST.
//!
//! # What is promised
//!
//! - [`Transport::send`] never waits. Each peer has its own bounded queues (4096 messages and 64 MiB for a stream, 64
//!   messages for posts): what has no room is lost, and raft is told by [`Handler::report_unreachable`].
//! - Bytes of peers never panic and never make memory grow beyond what has arrived.
//! - A snapshot passes in pieces: about 1.5 MiB at each end, whatever the database's size.
//! - The same failure of a peer is logged once until the peer has been reached again, and what a peer's requests are
//!   refused for once until it has been let in.

mod ask;
mod client;
pub mod codec;
mod handler;
mod identity;
mod idle;
mod io;
mod peer;
mod pipeline;
mod probe;
mod queue;
mod reader;
mod refusals;
mod serve;
mod shared;
mod snapshot;
mod status;
mod transport;
mod url;
mod version;
mod writer;

pub use ask::{AskError, Asker};
pub use handler::{
    Answer, DatabaseWriter, Endpoints, Handler, HashError, HashKv, LeaseError, MemberInfo, Observer,
    OutgoingSnapshot, PromoteError, Refused, SnapshotOutcome, SnapshotSink, Unobserved, VersionInfo,
};
pub use identity::{Identity, Mismatch};
pub use serve::{PeerListener, PeerServer};
pub use shared::Timing;
pub use transport::Transport;
pub use url::{PeerUrl, PeerUrlError};
pub use version::{Version, VersionError};

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctest;
