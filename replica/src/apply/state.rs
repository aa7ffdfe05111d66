//! Loading what was applied before the last stop, and the translation of records.
//!
//! Users and permissions are not built yet: a store in which authentication is on is refused here, since serving it
//! without would open it to everybody.

use std::sync::Arc;

use stanchion_lease::{Lessor, Stored};
use stanchion_mvcc::schema::{self, ConfStateRecord, LeaseRecord, MemberRecord, ReadRecords};
use stanchion_mvcc::{Recovered, Store};

use super::{Applier, Config, Fatal};
use crate::membership::{Cluster, Member};

impl Applier {
    /// Loads leases, alarms, members and versions from an opened store. Keys whose lease no longer exists are kept,
    /// without a lease.
    ///
    /// # Errors
    /// [`Fatal::Load`]: records that cannot be read, or authentication that is on.
    pub fn open(config: Config, store: Arc<Store>, recovered: &Recovered) -> Result<Applier, Fatal> {
        let from = store.read();
        if schema::auth_enabled(&from).map_err(load)? {
            return Err(Fatal::Load {
                what: "authentication is on, and this version does not know it yet".to_owned(),
            });
        }
        let leases = schema::leases(&from).map_err(load)?;
        let mut lessor =
            Lessor::recover(config.lease.clone(), leases.into_iter().map(stored_lease)).map_err(load)?;
        for attached in &recovered.lease_keys {
            if lessor.contains(attached.lease) {
                lessor.attach(attached.lease, &attached.key).map_err(load)?;
            }
        }
        let cluster = stored_cluster(&from).map_err(load)?;
        Ok(Applier {
            lessor,
            cluster,
            cluster_version: schema::cluster_version(&from).map_err(load)?,
            downgrade: schema::downgrade(&from).map_err(load)?.unwrap_or_default(),
            alarms: schema::alarms(&from).map_err(load)?.into_iter().collect(),
            applied: recovered.applied,
            settings_changed: 0,
            config,
            store,
        })
    }
}

/// The membership as it is stored.
pub(crate) fn stored_cluster(from: &impl ReadRecords) -> stanchion_mvcc::Result<Cluster> {
    let members = schema::members(from)?.into_iter().map(member);
    Ok(Cluster::new(members, schema::removed_members(from)?))
}

impl Applier {
    /// Puts other members in the place of those that are stored.
    pub(crate) fn replace_cluster(&mut self, cluster: Cluster) {
        let mut txn = self.store.write();
        for member in self.cluster.members() {
            schema::delete_member(&mut txn, member.id);
        }
        for member in cluster.members() {
            schema::put_member(&mut txn, &member_record(member));
        }
        for id in cluster.removed() {
            schema::put_removed_member(&mut txn, id);
        }
        _ = txn.end();
        self.cluster = cluster;
        self.settings_changed += 1;
    }
}

fn load(error: impl std::fmt::Display) -> Fatal {
    Fatal::Load { what: error.to_string() }
}

pub(super) fn stored_lease(record: LeaseRecord) -> Stored {
    Stored { id: record.id, ttl_seconds: record.ttl, remaining_seconds: record.remaining_ttl }
}

pub(super) fn member_record(member: &Member) -> MemberRecord {
    MemberRecord {
        id: member.id,
        peer_urls: member.peer_urls.clone(),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_urls.clone(),
    }
}

/// As the file remembers the configuration, for those who look into it with etcd's tools.
pub(super) fn conf_state_record(cluster: &Cluster) -> ConfStateRecord {
    let conf_state = crate::snapshot::conf_state(cluster);
    ConfStateRecord { voters: conf_state.voters, learners: conf_state.learners, ..ConfStateRecord::default() }
}

fn member(record: MemberRecord) -> Member {
    Member {
        id: record.id,
        peer_urls: record.peer_urls,
        is_learner: record.is_learner,
        name: record.name,
        client_urls: record.client_urls,
    }
}
