//! The buckets of the file and the records in them, as typed accessors.
//!
//! What lives here: every bucket name, record key and record encoding beside the rows of `key`. What may not: when
//! something is stored, or what it means for the cluster.
//!
//! Reading goes through [`ReadRecords`], which a view and a write transaction have; writing through [`WriteRecords`],
//! which only a write transaction has, so records always change together with the applied index.

mod alarm;
mod auth;
mod lease;
mod members;
mod meta;

use bytes::Bytes;

pub use self::alarm::{AlarmRecord, alarms, delete_alarm, put_alarm};
pub use self::auth::{
    PermissionRecord, RoleRecord, UserRecord, auth_enabled, auth_revision, delete_role, delete_user,
    put_auth_enabled, put_auth_revision, put_role, put_user, role, roles, user, users,
};
pub use self::lease::{LeaseRecord, delete_lease, leases, put_lease};
pub use self::members::{
    DowngradeRecord, MemberRecord, cluster_version, delete_member, downgrade, members, put_cluster_version,
    put_downgrade, put_member, put_removed_member, removed_members,
};
pub(crate) use self::meta::is_outside_hash as meta_is_outside_hash;
pub use self::meta::{
    Applied, ConfStateRecord, applied, conf_state, finished_compaction, put_conf_state, put_storage_version,
    scheduled_compaction, storage_version,
};
pub(crate) use self::meta::{
    check_storage_version, put_applied, put_finished_compaction, put_scheduled_compaction,
};
use crate::Result;

/// A bucket of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Alarms that are on.
    Alarm,
    /// Whether authentication is on, and its revision.
    Auth,
    /// Roles by name.
    AuthRoles,
    /// Users by name.
    AuthUsers,
    /// Cluster version and downgrade.
    Cluster,
    /// Rows: what the store is for.
    Key,
    /// Leases by id.
    Lease,
    /// Members by id.
    Members,
    /// Ids of removed members.
    MembersRemoved,
    /// Applied index, compaction progress, versions.
    Meta,
}

impl Table {
    /// All buckets, in the order of their names.
    pub const ALL: [Self; 10] = [
        Self::Alarm,
        Self::Auth,
        Self::AuthRoles,
        Self::AuthUsers,
        Self::Cluster,
        Self::Key,
        Self::Lease,
        Self::Members,
        Self::MembersRemoved,
        Self::Meta,
    ];

    /// The bucket's name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Auth => "auth",
            Self::AuthRoles => "authRoles",
            Self::AuthUsers => "authUsers",
            Self::Cluster => "cluster",
            Self::Key => "key",
            Self::Lease => "lease",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Meta => "meta",
        }
    }
}

/// Takes records that go straight into a commit: bucket, key and value.
pub(crate) type RecordSink<'a> = dyn FnMut(Table, &[u8], &[u8]) + 'a;

/// Reading records of any bucket but [`Table::Key`].
pub trait ReadRecords {
    /// The record stored under `key`.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>>;

    /// All records of a bucket in the order of their keys.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn records(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>>;
}

/// Changing records of any bucket but [`Table::Key`].
pub trait WriteRecords: ReadRecords {
    /// Stores a record.
    fn put_record(&mut self, table: Table, key: &[u8], value: Bytes);

    /// Removes a record, if it is there.
    fn delete_record(&mut self, table: Table, key: &[u8]);
}
