//! Bucket `lease`: leases by id.

use bytes::Bytes;

use super::{ReadRecords, Table, WriteRecords};
use crate::pb::{self, DecodeError, Reader};
use crate::{Error, Result};

/// A stored lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The lease's id, not 0.
    pub id: i64,
    /// Granted time to live in seconds.
    pub ttl: i64,
    /// Remaining time to live in seconds at the last checkpoint; 0 for none.
    pub remaining_ttl: i64,
}

impl LeaseRecord {
    fn encode(self) -> Bytes {
        let mut out = Vec::new();
        pb::put_int(&mut out, 1, self.id);
        pb::put_int(&mut out, 2, self.ttl);
        pb::put_int(&mut out, 3, self.remaining_ttl);
        out.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut record = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => record.id = value.int(field)?,
                2 => record.ttl = value.int(field)?,
                3 => record.remaining_ttl = value.int(field)?,
                _ => {}
            }
        }
        Ok(record)
    }
}

/// All leases, by rising id.
///
/// # Errors
/// A record that is no lease.
pub fn leases(from: &impl ReadRecords) -> Result<Vec<LeaseRecord>> {
    let decode = |(key, value): (Bytes, Bytes)| {
        LeaseRecord::decode(&value).map_err(|e| Error::record(Table::Lease.name(), &key, e))
    };
    from.records(Table::Lease)?.into_iter().map(decode).collect()
}

/// Stores a lease.
pub fn put_lease(to: &mut impl WriteRecords, lease: LeaseRecord) {
    to.put_record(Table::Lease, &lease.id.to_be_bytes(), lease.encode());
}

/// Removes a lease.
pub fn delete_lease(to: &mut impl WriteRecords, id: i64) {
    to.delete_record(Table::Lease, &id.to_be_bytes());
}
