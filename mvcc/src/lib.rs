#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! `revision`, `kv`, `pb`: the bytes of a row. `index`: which keys live when, in memory. `buffer`, `commit`, `file`:
//! how rows reach the file. `read`, `range`, `history`, `write`: transactions. `compact`, `shrink`,
//! `restore`, `hash`: work over all rows. `schema`: the other buckets. `store` ties them together and says which lock is held for what.

mod buffer;
mod commit;
mod compact;
mod error;
mod file;
mod hash;
mod history;
mod index;
mod kv;
#[cfg(feature = "mutants")]
pub mod mutant;
mod pb;
mod range;
mod read;
mod restore;
mod revision;
pub mod schema;
mod shrink;
mod store;
mod write;

pub use crate::commit::{CommitSchedule, Committed};
pub use crate::compact::{CompactionProgress, CompactionStep};
pub use crate::error::{Error, Result};
pub use crate::file::FileError;
pub use crate::hash::KvHash;
pub use crate::history::History;
pub use crate::index::{KeyMeta, KeyRange, RangeEnd};
pub use crate::kv::KeyValueRef;
pub use crate::pb::DecodeError;
pub use crate::range::{RangeOptions, RangeResult, RevisionFilter, Rows, SortOrder, SortTarget};
pub use crate::read::{FileRecords, ReadTxn};
pub use crate::revision::{EncodedRowKey, REVISION_LEN, Revision, RowKey, TOMBSTONE_LEN};
pub use crate::schema::Applied;
pub use crate::shrink::ShrinkStep;
pub use crate::store::{LeaseKey, Recovered, Store, StoreOptions};
pub use crate::write::{Deleted, Event, Put, ROW_MAX, WriteTxn, Written};
