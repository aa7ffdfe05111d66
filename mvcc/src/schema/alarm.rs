//! Bucket `alarm`: the alarms that are on, as keys.

use bytes::Bytes;

use super::{ReadRecords, Table, WriteRecords};
use crate::pb::{self, DecodeError, Reader};
use crate::{Error, Result};

/// An alarm of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlarmRecord {
    /// The member that raised it, or that it was raised for.
    pub member_id: u64,
    /// The kind: 1 no space, 2 corrupt.
    pub alarm: i32,
}

impl AlarmRecord {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        pb::put_int(&mut out, 1, self.member_id.cast_signed());
        pb::put_int(&mut out, 2, i64::from(self.alarm));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut record = Self { member_id: 0, alarm: 0 };
        let mut reader = Reader::new(bytes);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => record.member_id = value.int(field)?.cast_unsigned(),
                2 => record.alarm = value.int(field)? as i32,
                _ => {}
            }
        }
        Ok(record)
    }
}

/// All alarms, in the order of their records.
///
/// # Errors
/// A record that is no alarm.
pub fn alarms(from: &impl ReadRecords) -> Result<Vec<AlarmRecord>> {
    let decode = |(key, _): (Bytes, Bytes)| {
        AlarmRecord::decode(&key).map_err(|e| Error::record(Table::Alarm.name(), &key, e))
    };
    from.records(Table::Alarm)?.into_iter().map(decode).collect()
}

/// Stores an alarm.
pub fn put_alarm(to: &mut impl WriteRecords, alarm: AlarmRecord) {
    to.put_record(Table::Alarm, &alarm.encode(), Bytes::new());
}

/// Removes an alarm.
pub fn delete_alarm(to: &mut impl WriteRecords, alarm: AlarmRecord) {
    to.delete_record(Table::Alarm, &alarm.encode());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_has_the_documented_bytes() {
        let alarm = AlarmRecord { member_id: u64::MAX, alarm: 1 };
        assert_eq!(AlarmRecord::decode(&alarm.encode()), Ok(alarm));
        let seen = b"\x08\xf8\x98\xf8\xa7\xaf\xe7\x8c\xcd\x24\x10\x01";
        let decoded = AlarmRecord::decode(seen).expect("an alarm");
        assert_eq!((decoded.alarm, decoded.encode()), (1, seen.to_vec()));
    }
}
