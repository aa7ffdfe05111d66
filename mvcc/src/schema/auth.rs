//! Buckets `auth`, `authUsers` and `authRoles`.

use bytes::Bytes;

use super::{ReadRecords, Table, WriteRecords};
use crate::pb::{self, DecodeError, Reader};
use crate::{Error, Result};

/// A stored user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// The user's name; the record's key.
    pub name: Bytes,
    /// The bcrypt text of the password; empty for a user without one.
    pub password: Bytes,
    /// Names of granted roles, sorted.
    pub roles: Vec<Bytes>,
    /// Options: `Some(true)` for a user without password; `None` when no options are stored.
    pub no_password: Option<bool>,
}

/// A stored role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleRecord {
    /// The role's name; the record's key.
    pub name: Bytes,
    /// What it grants, sorted by key.
    pub permissions: Vec<PermissionRecord>,
}

/// A grant on a range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionRecord {
    /// 0 read, 1 write, 2 both.
    pub kind: i32,
    /// The lowest key.
    pub key: Bytes,
    /// The end, in a request's form.
    pub range_end: Bytes,
}

const ENABLED: &[u8] = b"authEnabled";
const REVISION: &[u8] = b"authRevision";

/// Whether authentication is on.
///
/// # Errors
/// When the file cannot be read.
pub fn auth_enabled(from: &impl ReadRecords) -> Result<bool> {
    Ok(from.record(Table::Auth, ENABLED)?.is_some_and(|value| value[..] == [1]))
}

/// Stores whether authentication is on.
pub fn put_auth_enabled(to: &mut impl WriteRecords, enabled: bool) {
    to.put_record(Table::Auth, ENABLED, Bytes::copy_from_slice(&[u8::from(enabled)]));
}

/// The revision of users and roles; 0 when none is stored.
///
/// # Errors
/// A record that is no number.
pub fn auth_revision(from: &impl ReadRecords) -> Result<u64> {
    let Some(value) = from.record(Table::Auth, REVISION)? else {
        return Ok(0);
    };
    let bytes: [u8; 8] = value[..].try_into().map_err(|_| {
        Error::record(Table::Auth.name(), REVISION, format!("{} bytes instead of 8", value.len()))
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// Stores the revision of users and roles.
pub fn put_auth_revision(to: &mut impl WriteRecords, revision: u64) {
    to.put_record(Table::Auth, REVISION, Bytes::copy_from_slice(&revision.to_be_bytes()));
}

/// A record that is stored under its own name.
trait Named: Sized {
    const TABLE: Table;
    fn encode(&self) -> Bytes;
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The record `name`.
    fn get(from: &impl ReadRecords, name: &[u8]) -> Result<Option<Self>> {
        from.record(Self::TABLE, name)?.map(|value| Self::read(name, &value)).transpose()
    }

    /// All records by name.
    fn all(from: &impl ReadRecords) -> Result<Vec<Self>> {
        from.records(Self::TABLE)?.iter().map(|(name, value)| Self::read(name, value)).collect()
    }

    fn read(name: &[u8], value: &[u8]) -> Result<Self> {
        Self::decode(value).map_err(|e| Error::record(Self::TABLE.name(), name, e))
    }
}

impl Named for UserRecord {
    const TABLE: Table = Table::AuthUsers;

    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        pb::put_bytes(&mut out, 1, &self.name);
        pb::put_bytes(&mut out, 2, &self.password);
        for role in &self.roles {
            pb::put_message(&mut out, 3, role);
        }
        if let Some(no_password) = self.no_password {
            let mut options = Vec::new();
            pb::put_int(&mut options, 1, i64::from(no_password));
            pb::put_message(&mut out, 4, &options);
        }
        out.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut record = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => record.name = Bytes::copy_from_slice(value.bytes(field)?),
                2 => record.password = Bytes::copy_from_slice(value.bytes(field)?),
                3 => record.roles.push(Bytes::copy_from_slice(value.bytes(field)?)),
                4 => record.no_password = Some(decode_options(value.bytes(field)?)?),
                _ => {}
            }
        }
        Ok(record)
    }
}

fn decode_options(bytes: &[u8]) -> Result<bool, DecodeError> {
    let (mut reader, mut no_password) = (Reader::new(bytes), false);
    while let Some((field, value)) = reader.next()? {
        if field == 1 {
            no_password = value.int(field)? != 0;
        }
    }
    Ok(no_password)
}

impl Named for RoleRecord {
    const TABLE: Table = Table::AuthRoles;

    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        pb::put_bytes(&mut out, 1, &self.name);
        for permission in &self.permissions {
            let mut inner = Vec::new();
            pb::put_int(&mut inner, 1, i64::from(permission.kind));
            pb::put_bytes(&mut inner, 2, &permission.key);
            pb::put_bytes(&mut inner, 3, &permission.range_end);
            pb::put_message(&mut out, 2, &inner);
        }
        out.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut record = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => record.name = Bytes::copy_from_slice(value.bytes(field)?),
                2 => record.permissions.push(PermissionRecord::decode(value.bytes(field)?)?),
                _ => {}
            }
        }
        Ok(record)
    }
}

impl PermissionRecord {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut record = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => record.kind = value.int(field)? as i32,
                2 => record.key = Bytes::copy_from_slice(value.bytes(field)?),
                3 => record.range_end = Bytes::copy_from_slice(value.bytes(field)?),
                _ => {}
            }
        }
        Ok(record)
    }
}

/// One user.
///
/// # Errors
/// A record that is no user.
pub fn user(from: &impl ReadRecords, name: &[u8]) -> Result<Option<UserRecord>> {
    UserRecord::get(from, name)
}

/// All users by name.
///
/// # Errors
/// A record that is no user.
pub fn users(from: &impl ReadRecords) -> Result<Vec<UserRecord>> {
    UserRecord::all(from)
}

/// Stores a user.
pub fn put_user(to: &mut impl WriteRecords, user: &UserRecord) {
    to.put_record(Table::AuthUsers, &user.name, user.encode());
}

/// Removes a user.
pub fn delete_user(to: &mut impl WriteRecords, name: &[u8]) {
    to.delete_record(Table::AuthUsers, name);
}

/// One role.
///
/// # Errors
/// A record that is no role.
pub fn role(from: &impl ReadRecords, name: &[u8]) -> Result<Option<RoleRecord>> {
    RoleRecord::get(from, name)
}

/// All roles by name.
///
/// # Errors
/// A record that is no role.
pub fn roles(from: &impl ReadRecords) -> Result<Vec<RoleRecord>> {
    RoleRecord::all(from)
}

/// Stores a role.
pub fn put_role(to: &mut impl WriteRecords, role: &RoleRecord) {
    to.put_record(Table::AuthRoles, &role.name, role.encode());
}

/// Removes a role.
pub fn delete_role(to: &mut impl WriteRecords, name: &[u8]) {
    to.delete_record(Table::AuthRoles, name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_roles_read_back() {
        let user = UserRecord {
            name: "ann".into(),
            password: "$2a$10$x".into(),
            roles: vec!["r1".into(), "r2".into()],
            no_password: Some(false),
        };
        let bytes = user.encode();
        assert!(bytes.ends_with(b"\x1a\x02r2\x22\x00"), "{bytes:?}");
        assert_eq!(UserRecord::decode(&bytes), Ok(user));
        let permission = PermissionRecord { kind: 2, key: "a".into(), range_end: "b".into() };
        let role =
            RoleRecord { name: "r1".into(), permissions: vec![permission, PermissionRecord::default()] };
        let bytes = role.encode();
        assert_eq!(&bytes[..], b"\x0a\x02r1\x12\x08\x08\x02\x12\x01a\x1a\x01b\x12\x00");
        assert_eq!(RoleRecord::decode(&bytes), Ok(role));
    }
}
