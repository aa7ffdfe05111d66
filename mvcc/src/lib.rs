//! A multi-version key-value store over a bbolt file, byte-compatible with etcd's.

mod index;
mod kv;
mod pb;
mod revision;

pub use crate::index::{KeyMeta, KeyRange, RangeEnd};
pub use crate::kv::KeyValueRef;
pub use crate::pb::DecodeError;
pub use crate::revision::{EncodedRowKey, REVISION_LEN, Revision, RowKey, TOMBSTONE_LEN};
