//! Releases of members, the cluster's version and the stored one, by the replica's rules.

use prost::Message as _;
use stanchion_api::membershippb::ClusterVersionSetRequest;
use stanchion_api::raft_request::RequestKind;
use stanchion_mvcc::{Applied, schema};
use stanchion_replica::version::{Known, Version, next_cluster_version, next_storage_version};

use super::load::wrapped;
use super::node::{Node, Trouble, or_stop};
use super::{NEWEST_MINOR, State, World};
use crate::random::Random;
use crate::scenario::Fault;

impl World {
    /// A member that starts may run a newer release than before; after the faults all run the newest.
    pub(super) fn upgrade(&mut self, slot: usize) {
        if !self.scenario.has(Fault::Upgrade) {
            return;
        }
        let mut random = Random::of(self.scenario.seed, "release", self.starts);
        let place = &mut self.slots[slot];
        place.release = match random.below(3) {
            _ if self.finish.is_some() => NEWEST_MINOR,
            0 => NEWEST_MINOR.min(place.release + 1),
            _ => place.release,
        };
        place.holds_version = random.chance(0.2);
    }

    /// Each member brings its file to the cluster's version, and the leader the cluster to that of its members.
    pub(super) fn look_at_versions(&mut self, slot: usize) -> Result<(), String> {
        if !self.scenario.has(Fault::Upgrade) || self.slots[slot].paused_until > self.now {
            return Ok(());
        }
        let holds = self.slots[slot].holds_version;
        self.with_node(slot, None, |world, node| {
            let known = world.known(node);
            let held = |next: &Version| holds && known.cluster.is_some_and(|now| *next > now);
            if node.leads.is_some()
                && let Some(next) = next_cluster_version(known).filter(|next| !held(next))
            {
                let request = ClusterVersionSetRequest { ver: next.full() }.encode_to_vec();
                let op = world.number();
                node.proposals.push(wrapped(op, RequestKind::ClusterVersionSet, &request));
                world.hand_out(slot, node)?;
            }
            bring_storage(node, holds)
        })
    }

    fn known(&self, node: &Node) -> Known {
        let says = |id: u64| {
            let slot = self.by_id.get(&id).map(|&slot| &self.slots[slot])?;
            (slot.state == State::Up).then_some(Version { major: 3, minor: slot.release })
        };
        let lowest =
            node.applier.cluster().members().map(|member| says(member.id)).collect::<Option<Vec<_>>>();
        Known {
            cluster: node.applier.cluster_version().and_then(Version::parse),
            lowest_member: lowest.and_then(|all| all.into_iter().min()),
            downgrade: None,
        }
    }
}

fn bring_storage(node: &mut Node, holds: bool) -> Result<(), Trouble> {
    let store = node.applier.store();
    let stored = or_stop!(schema::storage_version(&store.read()), "reading the stored version");
    let stored = stored.as_deref().and_then(Version::parse);
    let cluster = node.applier.cluster_version().and_then(Version::parse);
    let Some(next) = next_storage_version(cluster, stored) else { return Ok(()) };
    let rises = stored.is_some() && next > stored;
    if (holds && rises) || node.applier.applied() == Applied::default() {
        return Ok(());
    }
    let mut txn = store.write();
    schema::put_storage_version(&mut txn, next.map(Version::full).as_deref());
    let _ = txn.end();
    Ok(())
}
