#![doc = include_str!("../README.md")]
//!
//! # Where to read on
//!
//! [`Wal`] writes, [`Opening`] and [`Replay`] read what counts, [`Records`] reads everything with its place. In the
//! source: `record` is the format, `segment` and `torn` tell a torn end from damage, `wal` has the order of effects.
//!
//! What may not live here: any knowledge of what entries contain, and any access to files other than through
//! [`stanchion_disk`].

mod committer;
mod crc;
mod dir;
mod entry;
mod error;
mod frame;
#[cfg(feature = "mutants")]
pub mod mutant;
mod name;
mod open;
mod order;
mod pipeline;
mod proto;
mod record;
mod records;
mod repair;
mod replay;
mod segment;
mod torn;
mod wal;

pub use committer::Committer;
pub use dir::{exists, purge};
pub use entry::{ENTRY_NORMAL, Entry, EntryRef};
pub use error::{Damage, Error, Result, Torn};
pub use name::SegmentName;
pub use open::{Opening, Options, SEGMENT_SIZE};
pub use order::OrderError;
pub use pipeline::Prepare;
pub use record::{HardState, Record, SnapshotMark};
pub use records::{End, Position, Records};
pub use repair::Repair;
pub use replay::{Recovery, Replay, valid_snapshots, verify};
pub use wal::{SyncDone, SyncJob, Wal};
