//! Faults and other interventions: each has a number and draws from a stream of its own, so that leaving one out does
//! not change what the others do.

use stanchion_disk::{Disk as _, Faults};
use stanchion_raft::{ConfChange, ConfChangeType};
use stanchion_replica::membership::{ChangeContext, Cluster, Member};

use super::node::{Node, Trouble, layout};
use super::queue::Event;
use super::{State, World, url};
use crate::mutant::{self, Mutant};
use crate::random::Random;
use crate::scenario::Fault;
use crate::trace::What;

/// Members that a cluster may grow to.
const MEMBERS_MAX: usize = 7;
/// Slots over a whole run.
const SLOTS_MAX: usize = 16;

impl World {
    /// The next intervention, if faults are not over.
    pub(super) fn intervene(&mut self) -> Result<(), String> {
        if self.finish.is_some() {
            return Ok(());
        }
        let n = self.interventions;
        self.interventions += 1;
        let mut random = Random::of(self.scenario.seed, "intervention", n);
        let pause = random.below(2 * self.scenario.intervention_us) + 1;
        self.queue.plan(self.now + pause, Event::Intervene);
        let kinds: Vec<Fault> = self.scenario.faults.iter().copied().filter(|kind| is_event(*kind)).collect();
        if kinds.is_empty() || self.scenario.skipped.contains(&n) {
            return Ok(());
        }
        let kind = *random.pick(&kinds);
        self.trace.add(self.now, None, What::Intervened(n, kind.name()));
        self.make(kind, &mut random)
    }

    fn make(&mut self, kind: Fault, random: &mut Random) -> Result<(), String> {
        let Some(slot) = self.any_up(random) else { return Ok(()) };
        match kind {
            Fault::Partition => self.part(random),
            Fault::PowerCut => return self.cut_power(slot, random),
            Fault::Kill => {
                self.trace.add(self.now, Some(slot), What::Killed);
                self.take_down(slot);
            }
            Fault::DiskError => {
                let rate = *random.pick(&[0.02, 0.2, 1.0]);
                let faults = match random.below(10) {
                    0..3 => Faults { name_error: rate, ..Faults::default() },
                    // A write that ends amid a sector, without a power cut, leaves a record that cannot be told from rot:
                    // the log is right to refuse it, and the member may be lost.
                    3..5 if self.may_lose(slot) => {
                        self.slots[slot].damaged = true;
                        Faults { write_error: rate, ..Faults::default() }
                    }
                    _ => Faults { sync_error: rate, ..Faults::default() },
                };
                self.trouble_disk(slot, faults, random);
            }
            Fault::DiskFull => {
                let room = random.below(64 << 10);
                let space_bytes = Some(self.slots[slot].disk.used_bytes() + room);
                self.trouble_disk(slot, Faults { space_bytes, ..Faults::default() }, random);
            }
            Fault::Clock => {
                let (rate, leap) = (random.between(500, 2000), random.below(3) * random.below(4_000_000));
                self.slots[slot].rate = rate;
                let now = self.now;
                if let Some(node) = &mut self.slots[slot].node {
                    node.clock.change(now, rate, leap);
                }
            }
            Fault::Pause => {
                let until = self.now + *random.pick(&[50_000, 1_500_000, 8_000_000]);
                self.slots[slot].paused_until = until;
                self.trace.add(self.now, Some(slot), What::Paused(until));
            }
            Fault::Membership => return self.change_membership(random),
            Fault::DiskLoss => self.lose_disk(slot),
            Fault::Transfer => {
                let to = random.pick(&self.slots).id;
                return self.with_node(slot, None, |world, node| {
                    world.transfer(node, to)?;
                    world.hand_out(slot, node)
                });
            }
            Fault::Compaction => {
                let revision = self.ledger.model.revision - random.below(20).cast_signed();
                let request = self.compaction(revision.max(1));
                return self.with_node(slot, None, |world, node| {
                    if mutant::active(Mutant::CompactionNotAgreed) {
                        // It may be compacted already, or not be there yet.
                        let _ = node.applier.store().compact(revision.max(1));
                        return Ok(());
                    }
                    node.proposals.push(request);
                    world.hand_out(slot, node)
                });
            }
            Fault::BitFlip => self.flip_bit(slot, random),
            Fault::Alarm => {
                let member = self.slots[slot].id;
                let raised = self.ledger.model.full.first().copied();
                let request = match raised.filter(|_| random.chance(0.8)) {
                    Some(full) => self.alarm(full, false),
                    None => self.alarm(member, true),
                };
                return self.with_node(slot, None, |world, node| {
                    node.proposals.push(request);
                    world.hand_out(slot, node)
                });
            }
            // These are rates, not events, or happen with each start.
            Fault::Loss
            | Fault::Delay
            | Fault::Duplication
            | Fault::SlowDisk
            | Fault::Shrink
            | Fault::Flags
            | Fault::Upgrade => {}
        }
        Ok(())
    }

    fn any_up(&self, random: &mut Random) -> Option<usize> {
        let up: Vec<usize> =
            (0..self.slots.len()).filter(|&slot| self.slots[slot].state == State::Up).collect();
        (!up.is_empty()).then(|| *random.pick(&up))
    }

    /// Two parts, one direction, or a bridge: one member that alone reaches both parts.
    fn part(&mut self, random: &mut Random) {
        let members = self.slots.len();
        let side: Vec<bool> = (0..members).map(|_| random.chance(0.5)).collect();
        let bridge = random.chance(0.3).then(|| random.below(members as u64) as usize);
        let one_way = random.chance(0.3);
        self.blocked.clear();
        for from in 0..members {
            for to in 0..members {
                let apart = side[from] != side[to] && bridge != Some(from) && bridge != Some(to);
                if apart && (!one_way || side[from]) {
                    self.blocked.insert((from, to));
                }
            }
        }
        self.partitions += 1;
        let lasts = *random.pick(&[500_000, 3_000_000, 15_000_000]);
        self.queue.plan(self.now + lasts, Event::NetworkWell(self.partitions));
    }

    /// At once, or in the middle of one of the next changes on the disk.
    fn cut_power(&mut self, slot: usize, random: &mut Random) -> Result<(), String> {
        let disk = &self.slots[slot].disk;
        if random.chance(0.4) {
            disk.cut_power();
            self.lose_power(slot);
        } else {
            disk.crash_at(disk.changes() + 1 + random.below(60));
        }
        Ok(())
    }

    fn trouble_disk(&mut self, slot: usize, faults: Faults, random: &mut Random) {
        self.slots[slot].disk.set_faults(faults);
        self.slots[slot].disk_troubled = true;
        self.slots[slot].disk_failing = true;
        let lasts = *random.pick(&[100_000, 1_000_000, 5_000_000]);
        self.queue.plan(self.now + lasts, Event::DiskWell(slot));
    }

    /// A disk is well again. What it did to a running member may show later.
    pub(super) fn disk_well(&mut self, slot: usize) {
        self.slots[slot].disk.set_faults(Faults::default());
        self.slots[slot].disk_failing = false;
        if self.slots[slot].node.is_none() {
            self.slots[slot].disk_troubled = false;
        }
    }

    /// For good, if the others are still enough; its member is replaced when membership changes are on.
    fn lose_disk(&mut self, slot: usize) {
        if !self.may_lose(slot) {
            return;
        }
        self.trace.add(self.now, Some(slot), What::DiskLost);
        self.slots[slot].state = State::Lost;
        self.slots[slot].node = None;
    }

    /// Whether a voter may be lost: it is the only one, and the others are a majority by every member's membership.
    fn may_lose(&self, slot: usize) -> bool {
        let Some((voters, lost)) = self.quorum() else { return false };
        let id = self.slots[slot].id;
        voters.contains(&id)
            && lost == 0
            && voters.len() >= 3
            && !self.slots.iter().any(|other| other.damaged && voters.contains(&other.id))
            && self.nodes().all(|node| {
                let voters: Vec<u64> = node.applier.cluster().voters().map(|member| member.id).collect();
                let left = voters.iter().filter(|voter| **voter != id && !self.is_gone(**voter)).count();
                left > voters.len() / 2
            })
    }

    fn is_gone(&self, id: u64) -> bool {
        let state = self.by_id.get(&id).map(|&slot| self.slots[slot].state);
        matches!(state, Some(State::Lost | State::Removed))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().filter_map(|slot| slot.node.as_deref())
    }

    /// Whether a running member of the cluster keeps it from getting on by the membership that it knows; raft makes no
    /// promise then of how soon, or whether, it does.
    pub(super) fn somebody_is_left_behind(&self) -> bool {
        let Some(newest) = self.most_advanced() else { return false };
        let cluster = newest.applier.cluster();
        self.nodes()
            .filter(|node| cluster.member(node.id).is_some())
            .any(|node| self.finds_no_majority(node) || self.bars_the_others(node, newest))
    }

    /// Those that were removed stopped before it heard of it.
    fn finds_no_majority(&self, node: &Node) -> bool {
        let voters: Vec<u64> = node.applier.cluster().voters().map(|member| member.id).collect();
        let gone = voters.iter().filter(|voter| self.is_gone(**voter)).count();
        !voters.is_empty() && voters.len() - gone <= voters.len() / 2
    }

    /// Nobody leads, and it was promoted and takes itself for a learner still: it does not stand, and refuses its vote to
    /// those who have less in their logs than it has, who are no majority without it. etcd's raft has the same trap.
    fn bars_the_others(&self, node: &Node, newest: &Node) -> bool {
        let is_voter = |cluster: &Cluster, id| cluster.voters().any(|voter| voter.id == id);
        let voters: Vec<u64> = newest.applier.cluster().voters().map(|member| member.id).collect();
        let others = voters.iter().filter(|id| **id != node.id && !self.is_gone(**id)).count();
        self.leader().is_none()
            && voters.contains(&node.id)
            && !is_voter(node.applier.cluster(), node.id)
            && node.consensus.status().last_index >= newest.applier.applied().index
            && others <= voters.len() / 2
    }

    /// The process ends, and a bit of one of its log or snapshot files turns over before it starts again. Pages of the
    /// database have no sums in its format: what rots there is found by comparing hashes with others, not here.
    fn flip_bit(&mut self, slot: usize, random: &mut Random) {
        if !self.may_lose(slot) {
            return;
        }
        let layout = layout();
        let (kind, dir, ending) = match random.chance(0.8) {
            true => (0, layout.wal, ".wal"),
            false => (1, layout.snap, ".snap"),
        };
        let disk = self.slots[slot].disk.clone();
        // There may be no such file yet, or no power.
        let Ok(mut files) = disk.list(&dir) else { return };
        files.retain(|name| name.ends_with(ending));
        if files.is_empty() {
            return;
        }
        let path = dir.join(random.pick(&files));
        let Ok(len) = disk.metadata(&path).map(|file| file.len) else { return };
        // Most of a segment is empty space at its end.
        let part = *random.pick(&[len, len.min(4096), len.min(512)]);
        let offset = random.below(part);
        if disk.flip_bit(&path, offset, random.below(8) as u32).is_ok() {
            self.trace.add(self.now, Some(slot), What::BitFlipped(kind, offset));
            self.slots[slot].damaged = true;
            self.trace.add(self.now, Some(slot), What::Killed);
            self.take_down(slot);
        }
    }

    /// The voters as the most advanced member knows them, and how many of them are gone: they have lost their disks, or
    /// were removed and stopped before the others knew.
    pub(super) fn quorum(&self) -> Option<(Vec<u64>, usize)> {
        let node = self.most_advanced()?;
        let voters: Vec<u64> = node.applier.cluster().voters().map(|member| member.id).collect();
        let lost = voters.iter().filter(|voter| self.is_gone(**voter)).count();
        Some((voters, lost))
    }

    /// The running member that has applied most.
    pub(super) fn most_advanced(&self) -> Option<&Node> {
        self.nodes().max_by_key(|node| node.applier.applied().index)
    }

    fn leader(&self) -> Option<usize> {
        let leads = |slot: &usize| self.slots[*slot].node.as_ref().and_then(|node| node.leads);
        (0..self.slots.len()).filter(|slot| leads(slot).is_some()).max_by_key(leads)
    }

    /// One step: a learner comes, is promoted or goes; a voter goes, first one that has lost its disk.
    fn change_membership(&mut self, random: &mut Random) -> Result<(), String> {
        let (Some(leader), Some((voters, lost))) = (self.leader(), self.quorum()) else { return Ok(()) };
        let Some(node) = &self.slots[leader].node else { return Ok(()) };
        let members: Vec<(u64, bool)> =
            node.applier.cluster().members().map(|member| (member.id, member.is_learner)).collect();
        let learner = members.iter().find(|(_, is_learner)| *is_learner).map(|(id, _)| *id);
        let is_lost =
            |id: &u64| self.by_id.get(id).is_some_and(|&slot| self.slots[slot].state == State::Lost);
        let change = if let Some(dead) = voters.iter().find(|id| is_lost(id)) {
            ConfChange::new(ConfChangeType::RemoveNode, *dead)
        } else if let Some(learner) = learner {
            let caught_up =
                node.consensus.matched(learner).unwrap_or(0) * 10 >= node.consensus.committed() * 9;
            let running = self.by_id.get(&learner).is_some_and(|&slot| self.slots[slot].state == State::Up);
            match caught_up && running && random.chance(0.8) {
                true => promotion(learner),
                false => ConfChange::new(ConfChangeType::RemoveNode, learner),
            }
        } else if members.len() < MEMBERS_MAX && self.slots.len() < SLOTS_MAX && random.chance(0.6) {
            let slot = self.add_joining_slot();
            addition(self.slots[slot].id, slot as u64)
        } else if voters.len() > 2 && lost == 0 {
            ConfChange::new(ConfChangeType::RemoveNode, *random.pick(&voters))
        } else {
            return Ok(());
        };
        self.propose_change(leader, change)
    }

    fn propose_change(&mut self, slot: usize, mut change: ConfChange) -> Result<(), String> {
        change.id = self.number();
        self.with_node(slot, None, |world, node| -> Result<(), Trouble> {
            node.changes.push(change);
            world.hand_out(slot, node)
        })
    }

    /// Members that were added and do not run yet are started.
    pub(super) fn start_added(&mut self) {
        let Some(node) = self.most_advanced() else { return };
        let added: Vec<usize> = node
            .applier
            .cluster()
            .members()
            .filter_map(|member| self.by_id.get(&member.id).copied())
            .filter(|&slot| self.slots[slot].state == State::Absent)
            .collect();
        for slot in added {
            self.slots[slot].state = State::Down;
            self.queue.plan(self.now, Event::Start(slot));
        }
    }
}

fn is_event(kind: Fault) -> bool {
    use Fault::{Delay, Duplication, Flags, Loss, Shrink, SlowDisk, Upgrade};
    !matches!(kind, Loss | Delay | Duplication | SlowDisk | Shrink | Flags | Upgrade)
}

fn addition(id: u64, slot: u64) -> ConfChange {
    let member = Member { id, peer_urls: vec![url(slot)], is_learner: true, ..Member::default() };
    let context = ChangeContext { member, is_promote: false }.to_json().into();
    ConfChange { context, ..ConfChange::new(ConfChangeType::AddLearnerNode, id) }
}

fn promotion(id: u64) -> ConfChange {
    let member = Member { id, ..Member::default() };
    let context = ChangeContext { member, is_promote: true }.to_json().into();
    ConfChange { context, ..ConfChange::new(ConfChangeType::AddNode, id) }
}
