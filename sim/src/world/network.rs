//! What happens to messages between members: lost, late, twice, or nothing.

use stanchion_raft::{Message, MessageType};

use super::node::{Node, Trouble, or_stop};
use super::queue::{Event, Work};
use super::{State, World};
use crate::scenario::Fault;
use crate::trace::What;

impl World {
    /// A message leaves.
    pub(super) fn send(&mut self, slot: usize, node: &mut Node, message: Message) {
        let Some(&to) = self.by_id.get(&message.to) else { return };
        if self.is_cut(slot, to) || self.slots[to].state != State::Up {
            // What cannot be delivered is noticed at once, sometimes.
            if self.network_random.chance(0.3) {
                node.consensus.handle_unreachable(message.to);
            }
            return;
        }
        if self.faulty(Fault::Loss) && self.network_random.chance(self.scenario.loss) {
            return;
        }
        // The transport never repeats a proposal: it would be made twice.
        if self.faulty(Fault::Duplication)
            && message.msg_type != MessageType::Prop
            && self.network_random.chance(self.scenario.duplication)
        {
            let at = self.now + self.delay();
            self.queue.plan(at, Event::Deliver(message.clone()));
        }
        let at = self.now + self.delay();
        self.queue.plan(at, Event::Deliver(message));
    }

    /// Whether a kind of fault is on and faults are not over.
    pub(super) fn faulty(&self, fault: Fault) -> bool {
        self.finish.is_none() && self.scenario.has(fault)
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        !self.blocked.is_empty() && self.blocked.contains(&(from, to))
    }

    fn delay(&mut self) -> u64 {
        let usual = 100 + self.network_random.below(900);
        if self.faulty(Fault::Delay) && self.network_random.chance(self.scenario.late) {
            return usual + self.network_random.below(self.scenario.delay_us);
        }
        usual
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, message: Message) -> Result<(), String> {
        let (Some(&slot), Some(&from)) = (self.by_id.get(&message.to), self.by_id.get(&message.from)) else {
            return Ok(());
        };
        if self.is_cut(from, slot) {
            return Ok(());
        }
        self.with_node(slot, None, |world, node| {
            if node.applier.cluster().is_removed(message.from) {
                return Ok(());
            }
            world.trace.add(world.now, Some(slot), What::Received(message.msg_type, message.from));
            world.give(node, message)?;
            world.hand_out(slot, node)
        })
    }

    /// Raft refuses what it cannot take; that is no failure, unless its own log is in doubt.
    fn give(&mut self, node: &mut Node, message: Message) -> Result<(), Trouble> {
        match node.consensus.handle_message(message) {
            Err(refused) if refused.is_fatal() => {
                let what = format!("member {:x} must stop: {refused}", node.id);
                // A bit that turned over in a large record with zeros in it can make it pass for the torn end of a log:
                // what is behind it is missed as soon as the leader counts on it.
                let damaged = self.by_id.get(&node.id).is_some_and(|&slot| self.slots[slot].damaged);
                Err(if damaged { Trouble::Stopped(what) } else { Trouble::Broken(what) })
            }
            _ => Ok(()),
        }
    }

    /// A database leaves for a member that needs more than the log holds.
    pub(super) fn send_database(
        &mut self,
        slot: usize,
        node: &mut Node,
        mut message: Message,
    ) -> Result<(), Trouble> {
        let to = message.to;
        let reachable = self
            .by_id
            .get(&to)
            .is_some_and(|&other| self.slots[other].state == State::Up && !self.is_cut(slot, other));
        if !reachable {
            let at = self.now + 50_000;
            self.plan(slot, node, at, Work::SnapshotSent(to, false));
            return Ok(());
        }
        let (snapshot, bytes) = node.database()?;
        let index = snapshot.metadata.index;
        self.trace.add(self.now, Some(slot), What::SnapshotSent(to, index));
        node.consensus.handle_snapshot_started(to, index);
        message.snapshot = Some(Box::new(snapshot));
        let takes = 5_000 + self.network_random.below(200_000);
        let lost = self.faulty(Fault::Loss) && self.network_random.chance(self.scenario.loss.max(0.1));
        if lost {
            self.plan(slot, node, self.now + takes, Work::SnapshotSent(to, false));
        } else {
            self.queue.plan(self.now + takes, Event::Database(message, bytes));
        }
        Ok(())
    }

    /// A database arrives; its sender hears of it.
    pub(super) fn deliver_database(&mut self, message: Message, bytes: &[u8]) -> Result<(), String> {
        let (Some(&slot), Some(&from)) = (self.by_id.get(&message.to), self.by_id.get(&message.from)) else {
            return Ok(());
        };
        let (sender, receiver) = (message.from, message.to);
        let mut delivered = false;
        if !self.is_cut(from, slot) {
            self.with_node(slot, None, |world, node| {
                if node.applier.cluster().is_removed(sender) {
                    return Ok(());
                }
                world.trace.add(world.now, Some(slot), What::Received(message.msg_type, sender));
                node.receive(&message, bytes)?;
                delivered = true;
                world.give(node, message)?;
                world.hand_out(slot, node)
            })?;
        }
        self.with_node(from, None, |world, node| {
            node.consensus.handle_snapshot_sent(receiver, delivered);
            world.hand_out(from, node)
        })
    }

    /// Leadership is to be handed over.
    pub(super) fn transfer(&mut self, node: &mut Node, to: u64) -> Result<(), Trouble> {
        or_stop!(node.consensus.transfer_leader(to), "raft");
        Ok(())
    }
}
