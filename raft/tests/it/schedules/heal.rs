//! Liveness: what must happen once the troubles are over.

use stanchion_raft::RawNode;

use super::oracle::Check;
use super::world::{Troubles, World};

impl World {
    /// Everybody runs and hears everybody. A leader must appear, a write must commit and reach every member of the
    /// configuration, joint configurations that leave by themselves must be left.
    pub fn heal(&mut self) -> Check {
        self.troubles = Troubles::NONE;
        self.parted = None;
        for id in 1..=self.members.len() as u64 {
            if self.member(id).node.is_none() {
                self.start(id);
            }
            // Fast clocks of nodes with short logs can hold up elections for as long as they like.
            self.member(id).clock_rate = 16;
        }
        for round in 0..600 {
            self.round()?;
            let leader = self.current_leader();
            if round % 8 == 0 {
                self.propose(leader.unwrap_or(1));
                // A newcomer needs a snapshot of a configuration that it is in, as an application would make one.
                self.snapshot(leader.unwrap_or(1), u64::MAX);
            }
            if round > 80 && leader.is_some_and(|leader| self.caught_up(leader)) {
                return Ok(());
            }
        }
        Err(format!("600 rounds after healing: {}", self.describe()))
    }

    /// All ticks, all storage work and all deliveries once.
    fn round(&mut self) -> Check {
        self.tick_all();
        for _ in 0..3 {
            for id in 1..=self.members.len() as u64 {
                for _ in 0..12 {
                    self.work(id)?;
                    self.look(id)?;
                }
            }
            for _ in 0..self.wire.len() {
                self.deliver_any()?;
            }
        }
        Ok(())
    }

    pub fn current_leader(&self) -> Option<u64> {
        let leaders = self.members.values().filter_map(|m| m.node.as_ref()).filter(|n| n.is_leader());
        leaders.max_by_key(|node| node.term()).map(RawNode::id)
    }

    fn caught_up(&self, leader: u64) -> bool {
        let node = |id: &u64| self.members.get(id).and_then(|m| m.node.as_ref());
        let Some(leading) = node(&leader) else { return false };
        let (configuration, status) = (leading.conf_state(), leading.status());
        let left = !configuration.auto_leave || configuration.voters_outgoing.is_empty();
        let all = [&configuration.voters, &configuration.learners, &configuration.voters_outgoing];
        left && status.applied > 1
            && all.into_iter().flatten().all(|id| {
                node(id).is_some_and(|n| {
                    n.status().applied + 20 > status.last_index && n.term() == leading.term()
                })
            })
    }

    fn describe(&self) -> String {
        let nodes = self.members.values().filter_map(|m| m.node.as_ref());
        nodes
            .map(|n| {
                let s = n.status();
                let (h, role) = (s.hard_state, s.soft_state.role);
                format!(
                    "{} {role:?} term {} commit {} of {}, {:?}",
                    s.id,
                    h.term,
                    h.commit,
                    s.last_index,
                    n.conf_state()
                )
            })
            .collect::<Vec<_>>()
            .join("; ")
    }
}
