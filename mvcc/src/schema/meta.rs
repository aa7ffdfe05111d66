//! Bucket `meta`: how far the file is, and in which version.

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::members::{from_json, to_json};
use super::{ReadRecords, RecordSink, Table, WriteRecords};
use crate::{Error, Result, Revision, RowKey};

/// The last raft entry whose effects are in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    /// Its index; 0 for none.
    pub index: u64,
    /// Its term; 0 for unknown.
    pub term: u64,
}

/// The raft configuration as of the applied index. Kept for older servers; nobody reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfStateRecord {
    /// Voters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<u64>,
    /// Learners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    /// Voters of the outgoing configuration of a joint one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters_outgoing: Vec<u64>,
    /// Learners once a joint configuration is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners_next: Vec<u64>,
    /// A joint configuration is left by itself.
    #[serde(default)]
    pub auto_leave: bool,
}

const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";
const STORAGE_VERSION: &[u8] = b"storageVersion";
const SCHEDULED_COMPACTION: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACTION: &[u8] = b"finishedCompactRev";

/// The newest storage version that we read and write, as `major.minor`.
pub(crate) const SUPPORTED_VERSION: (u64, u64, &str) = (3, 7, "3.7");

/// Whether the hash of the whole file leaves this record out: members may differ in it.
pub(crate) fn is_outside_hash(key: &[u8]) -> bool {
    [CONSISTENT_INDEX, TERM, STORAGE_VERSION].contains(&key)
}

fn number(from: &impl ReadRecords, key: &[u8]) -> Result<u64> {
    let Some(value) = from.record(Table::Meta, key)? else {
        return Ok(0);
    };
    let bytes: [u8; 8] = value[..]
        .try_into()
        .map_err(|_| Error::record(Table::Meta.name(), key, format!("{} bytes instead of 8", value.len())))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The last applied entry; zeros when none was stored.
///
/// # Errors
/// A record that is no number.
pub fn applied(from: &impl ReadRecords) -> Result<Applied> {
    Ok(Applied { index: number(from, CONSISTENT_INDEX)?, term: number(from, TERM)? })
}

/// Stores the last applied entry. Zeros are never stored: absent means unknown.
pub(crate) fn put_applied(to: &mut RecordSink<'_>, applied: Applied) {
    for (key, number) in [(CONSISTENT_INDEX, applied.index), (TERM, applied.term)] {
        if number != 0 {
            to(Table::Meta, key, &number.to_be_bytes());
        }
    }
}

/// The stored raft configuration.
///
/// # Errors
/// A record that is no configuration.
pub fn conf_state(from: &impl ReadRecords) -> Result<Option<ConfStateRecord>> {
    let record = from.record(Table::Meta, CONF_STATE)?;
    record.map(|value| from_json(Table::Meta, CONF_STATE, &value)).transpose()
}

/// Stores the raft configuration.
pub fn put_conf_state(to: &mut impl WriteRecords, conf_state: &ConfStateRecord) {
    to.put_record(Table::Meta, CONF_STATE, to_json(conf_state));
}

/// The storage version's text, like `3.6.0`; `None` in files of 3.5 and before.
///
/// # Errors
/// A record that is not UTF-8.
pub fn storage_version(from: &impl ReadRecords) -> Result<Option<String>> {
    let Some(value) = from.record(Table::Meta, STORAGE_VERSION)? else {
        return Ok(None);
    };
    let text =
        std::str::from_utf8(&value).map_err(|e| Error::record(Table::Meta.name(), STORAGE_VERSION, e))?;
    Ok(Some(text.to_owned()))
}

/// Stores the storage version, or removes it for 3.5.
pub fn put_storage_version(to: &mut impl WriteRecords, version: Option<&str>) {
    match version {
        Some(text) => to.put_record(Table::Meta, STORAGE_VERSION, Bytes::copy_from_slice(text.as_bytes())),
        None => to.delete_record(Table::Meta, STORAGE_VERSION),
    }
}

/// Refuses a storage version that is newer than ours, or that is none.
pub(crate) fn check_storage_version(from: &impl ReadRecords, path: &Path) -> Result<()> {
    let Some(found) = storage_version(from)? else {
        return Ok(());
    };
    let mut parts = found.split('.').map(str::parse::<u64>);
    let (major, minor, supported) = SUPPORTED_VERSION;
    match (parts.next(), parts.next()) {
        (Some(Ok(a)), Some(Ok(b))) if a == major && b <= minor => Ok(()),
        _ => Err(Error::StorageVersion { path: path.to_path_buf(), found, supported }),
    }
}

fn compaction(from: &impl ReadRecords, key: &[u8]) -> Result<Option<i64>> {
    let Some(value) = from.record(Table::Meta, key)? else {
        return Ok(None);
    };
    match RowKey::decode(&value) {
        Some(RowKey { revision, tombstone: false }) => Ok(Some(revision.main)),
        _ => {
            Err(Error::record(Table::Meta.name(), key, format!("{} bytes that are no revision", value.len())))
        }
    }
}

/// The revision up to which old rows are to be removed.
///
/// # Errors
/// A record that is no revision.
pub fn scheduled_compaction(from: &impl ReadRecords) -> Result<Option<i64>> {
    compaction(from, SCHEDULED_COMPACTION)
}

/// The revision up to which old rows have been removed.
///
/// # Errors
/// A record that is no revision.
pub fn finished_compaction(from: &impl ReadRecords) -> Result<Option<i64>> {
    compaction(from, FINISHED_COMPACTION)
}

pub(crate) fn put_scheduled_compaction(to: &mut impl WriteRecords, main: i64) {
    let revision = RowKey::put(Revision::new(main, 0)).encode();
    to.put_record(Table::Meta, SCHEDULED_COMPACTION, Bytes::copy_from_slice(&revision));
}

pub(crate) fn put_finished_compaction(to: &mut RecordSink<'_>, main: i64) {
    to(Table::Meta, FINISHED_COMPACTION, &RowKey::put(Revision::new(main, 0)).encode());
}
