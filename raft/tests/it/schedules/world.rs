//! A cluster under one seed: nodes with asynchronous or synchronous storage, disks that lag and lose, a network that
//! drops, doubles, delays and parts. Each step is one small thing, so that a crash can fall between any two.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use stanchion_raft::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Config, Entry,
    LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, MemStorage, Message, MessageType, RawNode, Ready, Storage,
};

use super::oracle::{Check, Oracle};
use crate::cluster::{Node, founded};

/// Which kinds of trouble a schedule may meet; the shrinker switches them off one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Troubles {
    pub loss: bool,
    pub doubles: bool,
    pub partitions: bool,
    pub crashes: bool,
    pub membership: bool,
    pub snapshots: bool,
    pub transfers: bool,
}

impl Troubles {
    pub const ALL: Self = Self {
        loss: true,
        doubles: true,
        partitions: true,
        crashes: true,
        membership: true,
        snapshots: true,
        transfers: true,
    };

    pub const NONE: Self = Self {
        loss: false,
        doubles: false,
        partitions: false,
        crashes: false,
        membership: false,
        snapshots: false,
        transfers: false,
    };

    /// Each with one kind less.
    pub fn fewer(self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut without = |on: bool, less: Self| {
            if on {
                all.push(less);
            }
        };
        without(self.loss, Self { loss: false, ..self });
        without(self.doubles, Self { doubles: false, ..self });
        without(self.partitions, Self { partitions: false, ..self });
        without(self.crashes, Self { crashes: false, ..self });
        without(self.membership, Self { membership: false, ..self });
        without(self.snapshots, Self { snapshots: false, ..self });
        without(self.transfers, Self { transfers: false, ..self });
        all
    }
}

/// A synchronous node's ready, and how far its work has come.
pub struct Work {
    ready: Ready,
    stage: u8,
}

pub struct Member {
    /// `None` while it is down.
    pub node: Option<Node>,
    pub config: Config,
    /// The disk of a node that is down.
    pub disk: MemStorage,
    pub incarnation: u32,
    pub applied: u64,
    pub work: Option<Work>,
    pub appends: VecDeque<Message>,
    pub applies: VecDeque<Message>,
    /// What the two threads have told this node and it has not heard yet.
    pub answers: VecDeque<Message>,
    /// Ticks in 16ths per tick of the world.
    pub clock_rate: u64,
    pub clock: u64,
}

pub struct World {
    pub random: Xoshiro256PlusPlus,
    pub troubles: Troubles,
    pub members: BTreeMap<u64, Member>,
    pub wire: Vec<Message>,
    /// Groups that do not hear each other, or nothing.
    pub parted: Option<(u64, bool)>,
    pub oracle: Oracle,
    pub counter: u64,
}

impl Member {
    /// A node that is down, with a clock of the usual rate.
    pub fn new(config: Config, disk: MemStorage) -> Self {
        Self {
            node: None,
            config,
            disk,
            incarnation: 0,
            applied: 0,
            work: None,
            appends: VecDeque::new(),
            applies: VecDeque::new(),
            answers: VecDeque::new(),
            clock_rate: 16,
            clock: 0,
        }
    }
}

const WIRE_MAX: usize = 400;

impl World {
    pub fn new(seed: u64, troubles: Troubles) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let voters: Vec<u64> = (1..=[3, 3, 4, 5, 5, 7][(random.next_u64() % 6) as usize]).collect();
        let last = voters.len() as u64;
        let learners: Vec<u64> = (last + 1..=last + random.next_u64() % 2).collect();
        let founders = ConfState::new(&voters, &learners);
        let cluster = random.next_u64();
        let mut world = Self {
            oracle: Oracle::founded(1, 1, &founders),
            random,
            troubles,
            members: BTreeMap::new(),
            wire: Vec::new(),
            parted: None,
            counter: 0,
        };
        for id in 1..=last + 3 {
            let disk = if founders.contains(id) { founded(&founders) } else { MemStorage::new() };
            world.add(id, disk, cluster);
        }
        world
    }

    fn add(&mut self, id: u64, disk: MemStorage, cluster: u64) {
        let config = Config {
            seed: self.random.next_u64(),
            async_storage_writes: self.one_in(2),
            pre_vote: cluster & 1 == 0,
            check_quorum: cluster & 2 == 0,
            heartbeat_ticks: 1 + (cluster >> 9 & 3) as u32,
            max_inflight_msgs: 1 + (cluster >> 2 & 3) as usize,
            max_bytes_per_msg: [0, 64, 1 << 20][(cluster >> 4) as usize % 3],
            max_committed_bytes_per_ready: [0, 40, 1 << 20][(cluster >> 6) as usize % 3],
            step_down_on_removal: cluster >> 8 & 1 == 0,
            ..Config::new(id)
        };
        let member = Member { clock_rate: 12 + self.below(9), ..Member::new(config, disk) };
        self.members.insert(id, member);
        self.start(id);
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn any_id(&mut self) -> u64 {
        let n = self.members.len() as u64;
        1 + self.below(n)
    }

    pub fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).unwrap_or_else(|| panic!("no node {id}"))
    }

    pub fn start(&mut self, id: u64) {
        let seed = self.random.next_u64();
        let member = self.member(id);
        let disk = std::mem::take(&mut member.disk);
        let applied = disk.snapshot().map_or(0, |s| s.metadata.index);
        let config = Config { applied, seed, ..member.config.clone() };
        member.node =
            Some(RawNode::new(&config, disk).unwrap_or_else(|e| panic!("node {id} does not start: {e}")));
        member.incarnation += 1;
        member.applied = applied;
    }

    /// Everything that is not on the disk is gone.
    pub fn crash(&mut self, id: u64) {
        let member = self.member(id);
        if let Some(node) = member.node.take() {
            member.disk = node.storage().clone();
            member.work = None;
            member.appends.clear();
            member.applies.clear();
            member.answers.clear();
        }
    }

    fn hears(&self, from: u64, to: u64) -> bool {
        match self.parted {
            None => true,
            Some((mask, one_way)) => {
                let (a, b) = (mask >> from & 1, mask >> to & 1);
                a == b || (one_way && a == 0)
            }
        }
    }

    /// One random step, then a look at the node it touched.
    pub fn step(&mut self) -> Check {
        let t = self.troubles;
        let id = self.any_id();
        match self.below(1000) {
            0..400 => {
                for _ in 0..=self.below(3) {
                    self.deliver_any()?;
                }
            }
            400..430 => self.tick(id),
            430..790 => self.work(id)?,
            790..840 => self.propose(id),
            840..865 => self.read(id),
            865..873 if t.membership => self.change(id),
            873..880 if t.snapshots => {
                let keep = self.below(8);
                self.snapshot(id, keep);
            }
            880..884 if t.transfers => {
                let to = self.any_id();
                self.with(id, |node| drop(node.transfer_leader(to)));
            }
            884..885 if t.transfers => self.with(id, Node::forget_leader),
            885..888 if t.transfers => self.with(id, |node| drop(node.campaign())),
            888..891 if t.crashes => self.crash(id),
            891..903 => {
                if self.member(id).node.is_none() {
                    self.start(id);
                }
            }
            903..907 if t.partitions => self.part(),
            907..909 => self.parted = None,
            _ => self.tick_all(),
        }
        self.look(id)
    }

    /// Parts the network: at random, or one leader from everybody else.
    fn part(&mut self) {
        let whom = self.random.next_u64() & 1 == 0;
        let leader = self.current_leader().filter(|_| whom);
        let mask = leader.map_or_else(|| self.random.next_u64(), |leader| 1 << leader);
        self.parted = Some((mask, self.one_in(3)));
    }

    pub fn with(&mut self, id: u64, act: impl FnOnce(&mut Node)) {
        if let Some(node) = &mut self.member(id).node {
            act(node);
        }
    }

    fn tick(&mut self, id: u64) {
        let member = self.member(id);
        member.clock += member.clock_rate;
        while member.clock >= 16 {
            member.clock -= 16;
            if let Some(node) = &mut member.node {
                // Dropped for lack of what a campaign needs: that is an answer, not a failure.
                let _ = node.tick();
            }
        }
    }

    pub fn tick_all(&mut self) {
        for id in 1..=self.members.len() as u64 {
            self.tick(id);
        }
    }

    pub fn propose(&mut self, id: u64) {
        self.counter += 1;
        let mut payload = self.counter.to_le_bytes().to_vec();
        payload.resize(8 + (self.counter % 5) as usize * 16, b'x');
        self.with(id, |node| drop(node.propose(payload)));
    }

    pub fn read(&mut self, id: u64) {
        self.counter += 1;
        let context = self.counter;
        self.oracle.read_issued(context);
        self.with(id, |node| drop(node.read_index(Bytes::copy_from_slice(&context.to_le_bytes()))));
    }

    fn change(&mut self, id: u64) {
        let kinds = [ConfChangeType::AddNode, ConfChangeType::AddLearnerNode, ConfChangeType::RemoveNode];
        let transition = match self.below(4) {
            0 => ConfChangeTransition::JointExplicit,
            1 => ConfChangeTransition::JointImplicit,
            _ => ConfChangeTransition::Auto,
        };
        let count = self.below(4);
        let changes = (0..count)
            .map(|_| ConfChangeSingle { change_type: kinds[self.below(3) as usize], node_id: self.any_id() })
            .collect();
        let change = ConfChangeV2::new(transition, changes);
        self.with(id, |node| drop(node.propose_conf_change_v2(&change)));
    }

    /// Makes a snapshot at the applied index and forgets some of the log before it.
    pub fn snapshot(&mut self, id: u64, keep: u64) {
        let applied = self.member(id).applied;
        let configuration = self.oracle.configuration_at(applied);
        self.with(id, |node| {
            let storage = node.storage_mut();
            // The log's commit index is durable before a snapshot at it, as etcd orders them.
            if storage.hard_state().commit < applied {
                return;
            }
            if storage.create_snapshot(applied, configuration, Bytes::new()).is_ok() {
                let _ = storage.compact(applied.saturating_sub(keep).max(1));
            }
        });
    }

    /// One message of the wire, any, arrives or is lost.
    pub fn deliver_any(&mut self) -> Check {
        if self.wire.is_empty() {
            return Ok(());
        }
        let at = self.below(self.wire.len() as u64) as usize;
        let message = if self.troubles.doubles && self.one_in(20) {
            self.wire[at].clone()
        } else {
            self.wire.swap_remove(at)
        };
        let (from, to) = (message.from, message.to);
        let snapshot = message.msg_type == MessageType::Snap;
        let lost = !self.hears(from, to) || (self.troubles.loss && self.one_in(12));
        let arrives = !lost && self.members.get(&to).is_some_and(|m| m.node.is_some());
        if arrives {
            self.with(to, |node| drop(node.step(message)));
        }
        if snapshot {
            self.with(from, |node| node.report_snapshot(to, arrives));
        } else if !arrives && self.one_in(3) {
            self.with(from, |node| node.report_unreachable(to));
        }
        self.look(from)?;
        self.look(to)
    }

    fn send(&mut self, from: u64, message: Message) -> Check {
        let member = self.members.get(&from).ok_or("an unknown sender")?;
        let disk = member.node.as_ref().map_or(&member.disk, RawNode::storage);
        let receiver = self.members.get(&message.to).and_then(|m| m.node.as_ref());
        self.oracle.sent(&message, disk, receiver)?;
        self.wire.push(message);
        if self.wire.len() > WIRE_MAX {
            let oldest = self.below(WIRE_MAX as u64 / 2) as usize;
            self.wire.swap_remove(oldest);
        }
        Ok(())
    }

    /// One stage of a node's storage work.
    pub fn work(&mut self, id: u64) -> Check {
        let member = self.member(id);
        let Some(node) = &mut member.node else { return Ok(()) };
        if member.config.async_storage_writes {
            if node.has_ready() {
                let ready = node.ready().map_err(|e| format!("node {id}: {e}"))?;
                return self.take_async(id, ready);
            }
            return match self.below(4) {
                0 => self.append(id),
                1 => self.apply(id),
                _ => self.answer(id),
            };
        }
        match member.work.take() {
            None if node.has_ready() => {
                let ready = node.ready().map_err(|e| format!("node {id}: {e}"))?;
                self.member(id).work = Some(Work { ready, stage: 0 });
                Ok(())
            }
            None => Ok(()),
            Some(work) => self.continue_work(id, work),
        }
    }

    fn continue_work(&mut self, id: u64, mut work: Work) -> Check {
        match work.stage {
            0 => {
                self.answer_reads(id, &work.ready)?;
                for message in std::mem::take(&mut work.ready.messages) {
                    self.send(id, message)?;
                }
            }
            1 => self.persist(id, &work.ready)?,
            2 => {
                for message in std::mem::take(&mut work.ready.messages_after_persist) {
                    self.send(id, message)?;
                }
            }
            3 => {
                for entry in std::mem::take(&mut work.ready.committed_entries) {
                    self.apply_entry(id, &entry)?;
                }
            }
            _ => {
                let ready = work.ready;
                let node = self.member(id).node.as_mut().ok_or("work of a node that is down")?;
                return node.advance(ready).map_err(|e| format!("node {id}: {e}"));
            }
        }
        work.stage += 1;
        self.member(id).work = Some(work);
        Ok(())
    }

    fn persist(&mut self, id: u64, ready: &Ready) -> Check {
        if let Some(snapshot) = &ready.snapshot {
            self.install(id, snapshot)?;
        }
        let node = self.member(id).node.as_mut().ok_or("work of a node that is down")?;
        let storage = node.storage_mut();
        storage.append(&ready.entries).map_err(|e| format!("node {id}: {e}"))?;
        if let Some(hard_state) = ready.hard_state {
            storage.set_hard_state(hard_state);
        }
        Ok(())
    }

    fn install(&mut self, id: u64, snapshot: &stanchion_raft::Snapshot) -> Check {
        let at = &snapshot.metadata;
        self.oracle.restored(id, at.index, at.term, &at.conf_state)?;
        let member = self.member(id);
        let node = member.node.as_mut().ok_or("work of a node that is down")?;
        node.storage_mut().apply_snapshot(snapshot.clone()).map_err(|e| format!("node {id}: {e}"))?;
        member.applied = at.index;
        Ok(())
    }

    pub fn take_async(&mut self, id: u64, ready: Ready) -> Check {
        self.answer_reads(id, &ready)?;
        for message in ready.messages {
            match message.to {
                LOCAL_APPEND_THREAD => self.member(id).appends.push_back(message),
                LOCAL_APPLY_THREAD => self.member(id).applies.push_back(message),
                _ => self.send(id, message)?,
            }
        }
        Ok(())
    }

    /// The append thread takes its next message.
    pub fn append(&mut self, id: u64) -> Check {
        let Some(message) = self.member(id).appends.pop_front() else { return Ok(()) };
        if let Some(snapshot) = &message.snapshot {
            self.install(id, snapshot)?;
        }
        let node = self.member(id).node.as_mut().ok_or("work of a node that is down")?;
        let storage = node.storage_mut();
        storage.append(&message.entries).map_err(|e| format!("node {id}: {e}"))?;
        if message.term != 0 {
            let (term, vote, commit) = (message.term, message.vote, message.commit);
            storage.set_hard_state(stanchion_raft::HardState { term, vote, commit });
        }
        self.respond(id, message.responses)
    }

    /// The apply thread takes its next message.
    pub fn apply(&mut self, id: u64) -> Check {
        let Some(message) = self.member(id).applies.pop_front() else { return Ok(()) };
        for entry in &message.entries {
            self.apply_entry(id, entry)?;
        }
        self.respond(id, message.responses)
    }

    fn respond(&mut self, id: u64, responses: Vec<Message>) -> Check {
        for response in responses {
            if response.to == id {
                self.member(id).answers.push_back(response);
            } else {
                self.send(id, response)?;
            }
        }
        Ok(())
    }

    /// The node hears what its threads have told it first.
    pub fn answer(&mut self, id: u64) -> Check {
        let Some(response) = self.member(id).answers.pop_front() else { return Ok(()) };
        self.with(id, |node| drop(node.step_response(response)));
        Ok(())
    }

    fn answer_reads(&mut self, id: u64, ready: &Ready) -> Check {
        ready.read_states.iter().try_for_each(|read| self.oracle.read_answered(id, read))
    }

    fn apply_entry(&mut self, id: u64, entry: &Entry) -> Check {
        let previous = self.member(id).applied;
        if entry.index <= previous {
            // A snapshot was installed while the entry waited for the apply thread.
            return Ok(());
        }
        self.oracle.applied(id, previous, entry)?;
        self.member(id).applied = entry.index;
        if let Some(change) = ConfChangeV2::from_entry(entry).map_err(|e| e.to_string())? {
            let node = self.member(id).node.as_mut().ok_or("work of a node that is down")?;
            if entry.index < node.first_index().map_err(|e| e.to_string())? {
                // A snapshot has overtaken it and waits to be installed.
                return Ok(());
            }
            // A change that cannot apply is cancelled, as etcd cancels it, on every node alike.
            let configuration = match node.apply_conf_change(change) {
                Ok(configuration) => configuration,
                Err(_) => node.conf_state(),
            };
            self.oracle.configured(id, entry.index, &configuration)?;
        }
        Ok(())
    }

    pub fn look(&mut self, id: u64) -> Check {
        let Some(member) = self.members.get(&id) else { return Ok(()) };
        let Some(node) = &member.node else { return Ok(()) };
        let members = &self.members;
        let durable = |id: u64, index: u64| {
            let member = members.get(&id)?;
            let disk = member.node.as_ref().map_or(&member.disk, RawNode::storage);
            disk.term(index).ok()
        };
        self.oracle.look(node, member.incarnation, &durable)
    }
}
