//! Buckets `members`, `members_removed` and `cluster`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ReadRecords, Table, WriteRecords};
use crate::{Error, Result};

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The member's id.
    pub id: u64,
    /// Where peers reach it.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    /// It does not vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// Its name; empty until it has started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has started.
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub client_urls: Vec<String>,
}

/// A running or finished downgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DowngradeRecord {
    /// Version aimed at; empty after a cancel.
    #[serde(rename = "target-version", default)]
    pub target_version: String,
    /// It is going on.
    #[serde(default)]
    pub enabled: bool,
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(from)?.unwrap_or_default())
}

const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const DOWNGRADE: &[u8] = b"downgrade";
const REMOVED: &[u8] = b"removed";

/// The JSON that Go's encoder would write: it escapes what could end a script element.
pub(super) fn to_json(value: &impl Serialize) -> Bytes {
    let text = serde_json::to_string(value).expect("records have string keys only");
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").into()
}

pub(super) fn from_json<'a, T: Deserialize<'a>>(table: Table, key: &[u8], value: &'a [u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|e| Error::record(table.name(), key, e))
}

fn text(table: Table, key: &[u8], value: &[u8]) -> Result<String> {
    std::str::from_utf8(value).map(str::to_owned).map_err(|e| Error::record(table.name(), key, e))
}

fn member_key(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

fn member_id(table: Table, key: &[u8]) -> Result<u64> {
    let id = std::str::from_utf8(key).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    id.ok_or_else(|| Error::record(table.name(), key, "the key is not a hexadecimal member id"))
}

/// All members, in the order of their records.
///
/// # Errors
/// A record that is no member.
pub fn members(from: &impl ReadRecords) -> Result<Vec<MemberRecord>> {
    from.records(Table::Members)?.iter().map(|(key, value)| from_json(Table::Members, key, value)).collect()
}

/// Stores a member, over an older record of it.
pub fn put_member(to: &mut impl WriteRecords, member: &MemberRecord) {
    to.put_record(Table::Members, &member_key(member.id), to_json(member));
}

/// Removes a member's record; see [`put_removed_member`].
pub fn delete_member(to: &mut impl WriteRecords, id: u64) {
    to.delete_record(Table::Members, &member_key(id));
}

/// Ids of members that were removed and may never come back.
///
/// # Errors
/// A key that is no member id.
pub fn removed_members(from: &impl ReadRecords) -> Result<Vec<u64>> {
    from.records(Table::MembersRemoved)?
        .iter()
        .map(|(key, _)| member_id(Table::MembersRemoved, key))
        .collect()
}

/// Remembers that a member was removed.
pub fn put_removed_member(to: &mut impl WriteRecords, id: u64) {
    to.put_record(Table::MembersRemoved, &member_key(id), Bytes::from_static(REMOVED));
}

/// The cluster version's text, like `3.7.0`.
///
/// # Errors
/// A record that is not UTF-8.
pub fn cluster_version(from: &impl ReadRecords) -> Result<Option<String>> {
    let record = from.record(Table::Cluster, CLUSTER_VERSION)?;
    record.map(|value| text(Table::Cluster, CLUSTER_VERSION, &value)).transpose()
}

/// Stores the cluster version.
pub fn put_cluster_version(to: &mut impl WriteRecords, version: &str) {
    to.put_record(Table::Cluster, CLUSTER_VERSION, Bytes::copy_from_slice(version.as_bytes()));
}

/// The downgrade, if there ever was one.
///
/// # Errors
/// A record that is no downgrade.
pub fn downgrade(from: &impl ReadRecords) -> Result<Option<DowngradeRecord>> {
    let record = from.record(Table::Cluster, DOWNGRADE)?;
    record.map(|value| from_json(Table::Cluster, DOWNGRADE, &value)).transpose()
}

/// Stores the downgrade.
pub fn put_downgrade(to: &mut impl WriteRecords, downgrade: &DowngradeRecord) {
    to.put_record(Table::Cluster, DOWNGRADE, to_json(downgrade));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_the_documented_json() {
        let seen = r#"{"id":14104732411336048408,"peerURLs":["http://127.0.0.1:24797"],"isLearner":true}"#;
        let member: MemberRecord = from_json(Table::Members, b"c3bd", seen.as_bytes()).expect("a member");
        assert_eq!(
            (member.id, member.is_learner, member.name.as_str()),
            (14_104_732_411_336_048_408, true, "")
        );
        assert_eq!(to_json(&member), seen);
        let odd = MemberRecord { name: "a<b>&c".into(), ..member };
        let json = to_json(&odd);
        assert!(json.windows(17).any(|part| part == br"a\u003cb\u003e\u0"), "{json:?}");
        assert_eq!(from_json::<MemberRecord>(Table::Members, b"", &json).expect("a member"), odd);
        let null = br#"{"id":1,"peerURLs":null}"#;
        assert!(
            from_json::<MemberRecord>(Table::Members, b"1", null).expect("a member").peer_urls.is_empty()
        );
    }

    #[test]
    fn a_downgrade_has_the_documented_json() {
        let record = DowngradeRecord { target_version: "3.6.0".into(), enabled: true };
        assert_eq!(to_json(&record), r#"{"target-version":"3.6.0","enabled":true}"#);
    }

    #[test]
    fn a_broken_record_names_bucket_and_key() {
        let error = from_json::<MemberRecord>(Table::Members, b"1f", b"{").expect_err("broken");
        assert!(error.to_string().starts_with("record 1f of bucket members: "), "{error}");
        assert!(member_id(Table::MembersRemoved, b"xyz").is_err());
    }
}
