//! Leases on a min-heap of deadlines; the clock is an argument.
//!
//! A [`Lessor`] is a plain state machine: it knows which leases exist, which keys hang on them and, while it is
//! *primary*, when each of them runs out. It owns no clock, no thread and no storage. The caller passes the time in,
//! persists what [`Lessor::grant`] and [`Lessor::checkpoint`] hand back, deletes the keys that [`Lessor::revoke`]
//! returns, and proposes the batches of [`Lessor::take_expired`] and [`Lessor::take_checkpoints`] to its cluster.
//!
//! What lives where: `lessor` the state machine, `deadlines` the indexed heap, `schedule` what only the primary does
//! (promotion, expiry, checkpoints), `error` what can go wrong.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod deadlines;
mod error;
mod lessor;
#[cfg(feature = "mutants")]
pub mod mutant;
mod schedule;

pub use error::{Error, RenewError};
pub use lessor::{Config, LeaseId, Lessor, MAX_TTL_SECONDS, Renewal, Stored, TimeToLive};
pub use schedule::{
    CHECKPOINT_BATCH_MAX, CHECKPOINT_BATCHES_PER_ROUND, Checkpoint, EXPIRED_BATCH_MAX, EXPIRED_BATCHES_MAX,
    EXPIRIES_PER_SECOND_MAX, ROUND_MS, SPREAD_FROM_LEASES,
};
