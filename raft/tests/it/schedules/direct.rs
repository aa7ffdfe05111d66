//! What a written schedule (`plots.rs`) asks of the world: this node works, these messages arrive.

use std::collections::{BTreeMap, VecDeque};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng as _;
use stanchion_raft::{ConfState, Config, Error, MemStorage, Message, RawNode};

use super::oracle::{Check, Oracle};
use super::world::{Member, Troubles, World};
use crate::cluster::{Node, founded};

/// Pieces of work after which a node that still has some is broken.
const BUSY: usize = 1_000;

impl World {
    /// `voters` and nodes that join later, without troubles.
    pub fn staged(voters: &[u64], others: &[u64], tune: impl Fn(&mut Config)) -> Self {
        let founders = ConfState::new(voters, &[]);
        let mut world = Self {
            oracle: Oracle::founded(1, 1, &founders),
            random: Xoshiro256PlusPlus::seed_from_u64(1),
            troubles: Troubles::NONE,
            members: BTreeMap::new(),
            wire: Vec::new(),
            parted: None,
            counter: 0,
        };
        for &id in voters.iter().chain(others) {
            let disk = if founders.contains(id) { founded(&founders) } else { MemStorage::new() };
            let mut config = Config { pre_vote: false, check_quorum: false, ..Config::new(id) };
            tune(&mut config);
            world.members.insert(id, Member::new(config, disk));
            world.start(id);
        }
        world
    }

    /// Calls a node; a refusal is an answer.
    pub fn call(&mut self, id: u64, act: impl FnOnce(&mut Node) -> Result<(), Error>) -> Check {
        self.with(id, |node| drop(act(node)));
        self.look(id)
    }

    pub fn look_at(&mut self, id: u64) -> Check {
        self.look(id)
    }

    pub fn read_at(&mut self, id: u64) {
        self.read(id);
    }

    pub fn term(&mut self, id: u64) -> u64 {
        self.member(id).node.as_ref().map_or(0, RawNode::term)
    }

    fn is_busy(&mut self, id: u64) -> bool {
        let m = self.member(id);
        m.work.is_some()
            || m.node.as_ref().is_some_and(RawNode::has_ready)
            || ![&m.appends, &m.applies, &m.answers].into_iter().all(VecDeque::is_empty)
    }

    pub fn work_until_idle(&mut self, id: u64) -> Check {
        for _ in 0..BUSY {
            if !self.is_busy(id) {
                return Ok(());
            }
            self.work(id)?;
            self.look(id)?;
        }
        Err(format!("node {id} is never done"))
    }

    /// These nodes work, and hear each other, until nothing moves.
    pub fn settle(&mut self, ids: &[u64]) -> Check {
        for _ in 0..BUSY {
            for &id in ids {
                self.work_until_idle(id)?;
            }
            if self.deliver_picked(|m| ids.contains(&m.to))? == 0 && !ids.iter().any(|id| self.is_busy(*id)) {
                return Ok(());
            }
        }
        Err(format!("{ids:?} do not come to rest"))
    }

    pub fn deliver(&mut self, pick: impl Fn(&Message) -> bool) -> Check {
        self.deliver_picked(pick).map(drop)
    }

    fn deliver_picked(&mut self, pick: impl Fn(&Message) -> bool) -> Result<usize, String> {
        let (arriving, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wire).into_iter().partition(pick);
        self.wire = rest;
        let count = arriving.len();
        for m in arriving {
            let to = m.to;
            self.with(to, |node| drop(node.step(m)));
            self.look(to)?;
        }
        Ok(count)
    }

    pub fn lose(&mut self, pick: impl Fn(&Message) -> bool) {
        self.wire.retain(|m| !pick(m));
    }

    pub fn on_the_wire(&self, pick: impl Fn(&Message) -> bool) -> Option<Message> {
        self.wire.iter().find(|m| pick(m)).cloned()
    }

    pub fn inject(&mut self, m: Message) {
        self.wire.push(m);
    }

    /// Snapshot at the applied index, and nothing before it.
    pub fn save(&mut self, id: u64) {
        self.snapshot(id, 0);
    }

    /// Hands the node's readies to its threads, which do nothing yet.
    pub fn queue(&mut self, id: u64) -> Check {
        for _ in 0..BUSY {
            let node = self.member(id).node.as_mut().ok_or("it is down")?;
            if !node.has_ready() {
                return self.look(id);
            }
            let ready = node.ready().map_err(|e| e.to_string())?;
            self.take_async(id, ready)?;
        }
        Err(format!("node {id} is never done"))
    }

    /// The append thread catches up and the node hears of it; the apply thread does nothing.
    pub fn append_all(&mut self, id: u64) -> Check {
        for _ in 0..BUSY {
            if self.member(id).appends.is_empty() {
                return Ok(());
            }
            self.append(id)?;
            while !self.member(id).answers.is_empty() {
                self.answer(id)?;
            }
            self.queue(id)?;
        }
        Err(format!("node {id} is never done"))
    }
}
