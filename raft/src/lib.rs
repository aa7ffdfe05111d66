//! Raft consensus as a pure state machine, wire-compatible with etcd's.
//!
//! There is no I/O here, no clock and no thread: ticks, proposals and messages go in through [`RawNode`], and a
//! [`Ready`] comes out that says what to persist, send and apply. The algorithm is that of Ongaro and Ousterhout,
//! *In Search of an Understandable Consensus Algorithm* ("paper"), and of Ongaro's dissertation ("thesis"); its
//! messages and answers are those of etcd's raft library 3.5 to 3.7, so that members of both kinds form one cluster.
//!
//! # The contract
//!
//! - **IDs** are never 0 and never reused, not even by the same machine after it lost its storage.
//! - **Durability**: what [`Ready`] lists under "persist" is durable before `messages_after_persist` leave and before
//!   [`RawNode::advance`]. Votes, vote requests and acknowledgements all wait there.
//! - **Order**: committed entries are applied in the order in which they come, each configuration change through
//!   [`RawNode::apply_conf_change`], before the next ready's entries.
//! - **Messages** may be lost, repeated, delayed and reordered, but not altered. [`RawNode::step`] refuses with a typed
//!   error what no honest peer sends; it never panics on a message.
//! - **Determinism**: the same calls with the same [`Config::seed`] give the same outputs.
//! - **Storage writes** go through ready and advance, or, with [`Config::async_storage_writes`], as messages to
//!   [`LOCAL_APPEND_THREAD`] and [`LOCAL_APPLY_THREAD`]: each thread works in order, makes its message's content
//!   durable (or applied) and then delivers the message's `responses`, those for this node by
//!   [`RawNode::step_response`].
//!
//! # Reading order
//!
//! [`proto`] for the words, `raft/mod.rs` for the state and its table of topics, `raw_node/ready.rs` for what comes
//! out. [`quorum`] and [`tracker`] stand alone.

#![forbid(unsafe_code)]

mod confchange;
mod config;
mod error;
mod log;
pub mod proto;
pub mod quorum;
mod raft;
mod raw_node;
mod read_only;
mod rng;
mod storage;
mod trace;
pub mod tracker;

#[cfg(feature = "mutants")]
#[doc(hidden)]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
#[allow(dead_code, reason = "the list is used in full by the tests that enable the feature")]
mod mutant;

pub use self::confchange::ConfChangeError;
pub use self::config::{Config, ConfigError, ReadOnlyOption};
pub use self::error::{DropReason, Error};
pub use self::log::EntryId;
pub use self::proto::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, DecodeError,
    Entry, EntryType, HardState, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, Message, MessageType, NONE,
    Snapshot, SnapshotMetadata, WireForm,
};
pub use self::raft::{Role, SoftState};
pub use self::raw_node::{Peer, PeerStatus, RawNode, Ready, Status};
pub use self::read_only::ReadState;
pub use self::storage::{InitialState, MemStorage, Storage, StorageError};
pub use self::trace::TraceEvent;

/// `n` cases of a property from a fixed seed: the same ones in every run.
#[cfg(test)]
fn cases(n: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { rng_seed: RngSeed::Fixed(1), cases: n, failure_persistence: None, ..Config::default() }
}

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctest;
