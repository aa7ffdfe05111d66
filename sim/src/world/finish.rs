//! Looks at everything now and then; and the end: faults stop, and then the cluster must serve and agree within a bound.

use std::collections::BTreeSet;

use stanchion_mvcc::schema;

use super::node::{Node, Trouble, or_stop};
use super::queue::Event;
use super::watchers::Watcher;
use super::{INSPECT_US, Outcome, State, World};
use crate::trace::What;

/// How long after the last fault everything must be well, in microseconds.
const PATIENCE_US: u64 = 120_000_000;
/// Steps after the last fault: far more than a cluster at rest takes in that time.
pub(super) const FINISH_STEPS_MAX: u64 = 400_000;
/// Entries between two hashes of a member at least.
const HASH_EVERY: u64 = 20;
/// The least time that clients go on after the last fault.
const SERVE_US: u64 = 3_000_000;

/// The time after the faults.
#[derive(Debug)]
pub(super) struct Finish {
    since: u64,
    /// The first step of it.
    pub(super) first_step: u64,
    /// Clients that were answered since.
    pub(super) served: BTreeSet<usize>,
    /// Somebody was told since that it leads the election.
    pub(super) elected: bool,
    /// Clients ask no more.
    pub(super) quiet: bool,
}

impl World {
    /// All faults are over.
    pub(super) fn heal(&mut self) {
        self.trace.add(self.now, None, What::Healed);
        self.finish = Some(Finish {
            since: self.now,
            first_step: self.steps,
            served: BTreeSet::new(),
            elected: false,
            quiet: false,
        });
        self.blocked.clear();
        for slot in 0..self.slots.len() {
            self.slots[slot].paused_until = 0;
            self.slots[slot].rate = 1000;
            self.slots[slot].sync_us = 1_000;
            let now = self.now;
            if let Some(node) = &mut self.slots[slot].node {
                node.clock.change(now, 1000, 0);
            }
            self.disk_well(slot);
        }
    }

    /// Looks at every member; after the faults, whether it can end.
    pub(super) fn inspect(&mut self) -> Result<Option<Outcome>, String> {
        self.queue.plan(self.now + INSPECT_US, Event::Inspect);
        self.start_added();
        for slot in 0..self.slots.len() {
            if self.slots[slot].paused_until <= self.now && self.work_random.chance(0.5) {
                self.examine(slot, false)?;
            }
            self.look_at_versions(slot)?;
        }
        self.consider_end()
    }

    /// A member's state is that of the agreed history, and its hash that of others.
    ///
    /// A hash reads the whole history, so it waits until that has grown by a part of itself, unless it is the `last`.
    fn examine(&mut self, slot: usize, last: bool) -> Result<(), String> {
        self.with_node(slot, None, |world, node| {
            world.ledger.check_state(node.id, &node.applier)?;
            let (entries, (start, hashed)) = (world.ledger.last_index(), world.slots[slot].hashed);
            if !last && start == node.start && entries < hashed + HASH_EVERY + hashed / 4 {
                return Ok(());
            }
            world.slots[slot].hashed = (node.start, entries);
            if last {
                compacted(node)?;
            }
            // Without a live key the hash takes in rows that a compaction has not removed yet, as etcd's does.
            if node.applier.store().key_count() == 0 {
                return Ok(());
            }
            let hash = or_stop!(node.applier.store().hash_kv(0), "hashing");
            Ok(world.ledger.check_hash(node.id, hash)?)
        })
    }

    fn consider_end(&mut self) -> Result<Option<Outcome>, String> {
        let Some(finish) = &self.finish else { return Ok(None) };
        let (passed, served) = (self.now - finish.since, finish.served.len());
        // Who is quiet stands for nothing any more: the cluster may have been full until now.
        let leaderless = !finish.quiet && self.elects() && !finish.elected;
        if let Some((voters, lost)) = self.quorum()
            && voters.len() - lost <= voters.len() / 2
        {
            return Ok(Some(Outcome::NoQuorum));
        }
        let unfinished = match self.scenario.clients - served {
            0 if leaderless => Some("nobody was elected, although there are candidates".to_owned()),
            0 if passed >= SERVE_US => {
                if let Some(finish) = &mut self.finish {
                    finish.quiet = true;
                }
                self.unfinished()
            }
            waiting => Some(format!("{waiting} clients were not answered")),
        };
        match unfinished {
            None => {
                (0..self.slots.len()).try_for_each(|slot| self.examine(slot, true))?;
                Ok(Some(Outcome::Passed))
            }
            Some(_) if passed > PATIENCE_US && self.somebody_is_left_behind() => Ok(Some(Outcome::NoQuorum)),
            Some(what) if passed > PATIENCE_US => {
                let seconds = PATIENCE_US / 1_000_000;
                Err(format!("{seconds} s after the last fault: {what}"))
            }
            Some(_) => Ok(None),
        }
    }

    /// What is not yet as it must be in the end.
    fn unfinished(&self) -> Option<String> {
        if !self.ops.is_empty() {
            return Some(format!("{} operations are under way", self.ops.len()));
        }
        let last = self.ledger.last_index();
        let Some(newest) = self.most_advanced() else { return Some("no member runs".to_owned()) };
        for member in newest.applier.cluster().members() {
            let slot = self.by_id.get(&member.id).map(|&slot| &self.slots[slot]);
            match slot.and_then(|slot| slot.node.as_ref()) {
                Some(node) if node.told == last => {}
                Some(node) => {
                    return Some(format!("member {:x} has applied {} of {last}", member.id, node.told));
                }
                None if slot.is_some_and(|slot| slot.state == State::Lost) => {}
                None => return Some(format!("member {:x} does not run", member.id)),
            }
        }
        let model = &self.ledger.model;
        if !model.leases.is_empty() {
            return Some(format!("leases {:x?} have not run out", model.leases.keys().collect::<Vec<_>>()));
        }
        if let Some(node) = self.nodes().find(|node| node.applier.store().is_compacting()) {
            return Some(format!("member {:x} is compacting", node.id));
        }
        let behind = |(n, watcher): (usize, &Watcher)| Some((n, watcher.behind(model)?));
        let behind = self.watchers.iter().enumerate().find_map(behind);
        behind.map(|(n, what)| format!("watcher {n} {what}"))
    }
}

/// Rows that an accepted compaction made stale are gone in the end, whatever crashes came between.
fn compacted(node: &Node) -> Result<(), Trouble> {
    let store = node.applier.store();
    let finished = or_stop!(schema::finished_compaction(&store.read()), "reading how far compactions got");
    let (finished, accepted) = (finished.unwrap_or(-1), store.compact_revision());
    if finished == accepted {
        return Ok(());
    }
    let id = node.id;
    Err(Trouble::Broken(format!(
        "member {id:x} accepted a compaction at {accepted}, but finished {finished} only"
    )))
}
