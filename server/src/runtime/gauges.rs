//! Gauges that show a state: they are set when somebody looks, at no cost to the threads that change it.

use stanchion_api::etcdserverpb as pb;

use super::handle::Handle;
use crate::member::Member as _;
use crate::metrics::Metrics;

impl Handle {
    /// Sets every gauge to what is now.
    pub(super) fn set_gauges(&self, metrics: &Metrics) {
        let (standing, raft) = (self.standing(), self.raft_status());
        let server = &metrics.server;
        server.has_leader.set(i64::from(standing.leader != 0));
        server.is_leader.set(i64::from(standing.leader == standing.member_id));
        server.is_learner.set(i64::from(standing.is_learner));
        server.proposals_committed.set(raft.commit.cast_signed());
        server.proposals_applied.set(raft.applied.cast_signed());
        server.proposals_pending.set(self.shared.waiting() as i64);
        server.quota_backend_bytes.set(self.quota_bytes.map_or(-1, u64::cast_signed));
        if let Some(version) = self.versions().cluster.as_deref().and_then(minor) {
            server.cluster_version.reset();
            server.cluster_version.with_label_values(&[version]).set(1);
        }
        self.set_store_gauges(metrics);
        self.set_watch_gauges(metrics);
        self.set_members(metrics);
    }

    fn set_store_gauges(&self, metrics: &Metrics) {
        let store = self.store.now();
        metrics.mvcc.db_size.set(store.size().cast_signed());
        metrics.mvcc.db_size_in_use.set(store.size_in_use().cast_signed());
        metrics.debugging.current_revision.set(store.revision());
        metrics.debugging.compact_revision.set(store.compact_revision());
        metrics.debugging.keys.set(store.key_count().cast_signed());
    }

    fn set_watch_gauges(&self, metrics: &Metrics) {
        let counts = self.watch.counts();
        let families = &metrics.debugging;
        families.watch_streams.set(counts.streams as i64);
        families.watchers.set(counts.watchers as i64);
        families.slow_watchers.set(counts.slow_watchers as i64);
        families.events.inc_by(counts.events.saturating_sub(families.events.get()));
    }

    fn set_members(&self, metrics: &Metrics) {
        let view = self.shared.view.read();
        let own = format!("{:x}", self.shared.identity.member_id);
        metrics.network.known_peers.reset();
        for member in view.cluster.members() {
            let labels = [own.clone(), format!("{:x}", member.id)];
            metrics.network.known_peers.with_label_values(&labels).set(1);
        }
        metrics.debugging.alarms.reset();
        for alarm in &view.alarms {
            let kind = pb::AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
            let labels = [format!("{:x}", alarm.member_id), kind.to_owned()];
            metrics.debugging.alarms.with_label_values(&labels).set(1);
        }
    }
}

/// `3.7.0` as `3.7`.
fn minor(version: &str) -> Option<&str> {
    version.rsplit_once('.').map(|(minor, _)| minor)
}
