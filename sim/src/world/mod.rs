//! The world: members, the network between them, clients, faults, and the order in which it all happens.
//!
//! What lives here: the one loop, and what concerns several of its parts. `node` is one running member, `steps` what a
//! member does when its turn comes, `network` what happens to messages, `interventions` the faults, `load` the
//! clients, `electors` those who stand for election, `watchers` those who watch, `finish` the end. What may not:
//! threads, clocks, maps whose order is not their keys'.
//!
//! Everything that happens is an event in `queue`; one event is one step.

mod electors;
mod finish;
mod interventions;
mod load;
mod network;
mod node;
mod queue;
mod steps;
mod versions;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};

use stanchion_disk::SimDisk;
use stanchion_replica::boot::{Bootstrap, Identity, NewCluster};

use crate::check::{Clients, Elections, Holders, Ledger};
use crate::random::{Random, mix};
use crate::scenario::{Fault, Scenario, TICK_US};
use crate::trace::{Trace, What};

use electors::{ELECTION, Elector};
use finish::{FINISH_STEPS_MAX, Finish};
use load::{LOCKS, Op};
use node::{Clock, LEAST_TTL, Node, StartWith, Trouble};
use queue::{Event, Queue, Work};
use watchers::Watcher;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything held.
    Passed,
    /// Everything held, but too many disks were lost for the cluster to serve again.
    NoQuorum,
    /// Something does not hold.
    Failed(String),
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Steps taken.
    pub steps: u64,
    /// Simulated microseconds.
    pub simulated_us: u64,
    /// Client operations that were answered.
    pub answered: u64,
    /// Entries that were agreed on.
    pub entries: u64,
    /// Starts of members.
    pub starts: u64,
    /// Interventions made.
    pub interventions: u64,
}

/// What a member's slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet: the member is being added.
    Absent,
    /// A running member.
    Up,
    /// A member that will start again.
    Down,
    /// A member whose disk is gone.
    Lost,
    /// A member that was removed.
    Removed,
}

/// A place for one member, over all its starts.
#[derive(Debug)]
struct Slot {
    id: u64,
    bootstrap: Bootstrap,
    disk: SimDisk,
    node: Option<Box<Node>>,
    state: State,
    paused_until: u64,
    /// Its clock's rate in thousandths.
    rate: u64,
    /// Faults were on during this start: it may stop with an error.
    disk_troubled: bool,
    /// They are on now.
    disk_failing: bool,
    /// The longest sync, in microseconds.
    sync_us: u64,
    /// A bit was turned over or a write failed half-way: what is on the disk may be refused at a start.
    damaged: bool,
    /// The release that its member runs, a minor version of 3.
    release: u64,
    /// Its member holds the cluster's version.
    holds_version: bool,
    /// The start and the last entry when its keys were hashed last.
    hashed: (u64, u64),
}

/// A whole cluster with its surroundings.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    now: u64,
    steps: u64,
    queue: Queue,
    network_random: Random,
    work_random: Random,
    load_random: Random,
    election_random: Random,
    /// What happened.
    pub trace: Trace,
    ledger: Ledger,
    clients: Clients,
    elections: Elections,
    holders: Holders,
    slots: Vec<Slot>,
    by_id: BTreeMap<u64, usize>,
    cluster_id: u64,
    /// Directions in which nothing passes, by slots.
    blocked: BTreeSet<(usize, usize)>,
    partitions: u64,
    starts: u64,
    ops: BTreeMap<u64, Op>,
    next_op: u64,
    watchers: Vec<Watcher>,
    /// Leases that clients know of.
    leases: Vec<i64>,
    /// The lock that each client holds, with the revision at which it won.
    held: BTreeMap<usize, (&'static str, i64)>,
    electors: Vec<Elector>,
    interventions: u64,
    added: u64,
    finish: Option<Finish>,
}

/// The newest release that a member runs, a minor version of 3.
const NEWEST_MINOR: u64 = 7;
/// Between looks at everything, in microseconds.
const INSPECT_US: u64 = 1_000_000;

impl World {
    /// A world at its beginning. It keeps the whole story if `whole`.
    #[must_use]
    pub fn new(scenario: Scenario, whole: bool) -> World {
        let seed = scenario.seed;
        let mut world = World {
            now: 0,
            steps: 0,
            queue: Queue::default(),
            network_random: Random::of(seed, "network", 0),
            work_random: Random::of(seed, "work", 0),
            load_random: Random::of(seed, "load", 0),
            election_random: Random::of(seed, "election", 1),
            trace: Trace::new(whole),
            ledger: Ledger::new(LEAST_TTL),
            clients: Clients::default(),
            elections: Elections::default(),
            holders: Holders::new(&[ELECTION, LOCKS[0], LOCKS[1]]),
            slots: Vec::new(),
            by_id: BTreeMap::new(),
            cluster_id: 0,
            blocked: BTreeSet::new(),
            partitions: 0,
            starts: 0,
            ops: BTreeMap::new(),
            next_op: 1,
            watchers: Vec::new(),
            leases: Vec::new(),
            held: BTreeMap::new(),
            electors: Vec::new(),
            interventions: 0,
            added: 0,
            finish: None,
            scenario,
        };
        world.found();
        world
    }

    /// The first members, clients and interventions.
    fn found(&mut self) {
        let members: Vec<(String, Vec<String>)> =
            (0..self.scenario.members).map(|n| (format!("m{n}"), vec![url(n as u64)])).collect();
        for (name, _) in &members {
            let (token, members) = ("simulation".to_owned(), members.clone());
            let founder = NewCluster { token, members, name: name.clone() };
            let identity = founder.identity().expect("names and addresses differ");
            self.cluster_id = identity.cluster_id;
            self.add_slot(identity.member_id, Bootstrap::New(founder));
        }
        for slot in 0..self.slots.len() {
            self.slots[slot].state = State::Down;
            let at = self.work_random.below(200_000);
            self.queue.plan(at, Event::Start(slot));
        }
        for client in 0..self.scenario.clients {
            self.queue.plan(1_000_000, Event::Client(client));
        }
        self.add_watchers();
        self.add_electors();
        self.queue.plan(2_000_000, Event::Intervene);
        self.queue.plan(INSPECT_US, Event::Inspect);
    }

    fn add_slot(&mut self, id: u64, bootstrap: Bootstrap) -> usize {
        let slot = self.slots.len();
        let mut random = Random::of(self.scenario.seed, "slot", slot as u64);
        let rate = if self.scenario.has(Fault::Clock) { random.between(700, 1400) } else { 1000 };
        let slow = self.scenario.has(Fault::SlowDisk) && random.chance(0.5);
        self.slots.push(Slot {
            id,
            bootstrap,
            disk: SimDisk::new(random.number()),
            node: None,
            state: State::Absent,
            paused_until: 0,
            rate,
            disk_troubled: false,
            disk_failing: false,
            sync_us: if slow { 600_000 } else { self.scenario.sync_us },
            damaged: false,
            release: if self.scenario.has(Fault::Upgrade) {
                random.between(5, NEWEST_MINOR)
            } else {
                NEWEST_MINOR
            },
            holds_version: random.chance(0.2),
            hashed: (0, 0),
        });
        self.by_id.insert(id, slot);
        slot
    }

    /// A new member's slot, with the id that the cluster will give it.
    fn add_joining_slot(&mut self) -> usize {
        self.added += 1;
        let member_id = mix(self.scenario.seed ^ self.added) | 1;
        let identity = Identity { member_id, cluster_id: self.cluster_id };
        self.add_slot(member_id, Bootstrap::Join(identity))
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Outcome {
        loop {
            match &self.finish {
                None if self.steps >= self.scenario.steps => self.heal(),
                Some(finish) if self.steps - finish.first_step > FINISH_STEPS_MAX => {
                    return Outcome::Failed(format!(
                        "{FINISH_STEPS_MAX} steps after the last fault, the members still keep each other busy"
                    ));
                }
                _ => {}
            }
            let Some((at, event)) = self.queue.next() else {
                return Outcome::Failed("nothing is left to happen".to_owned());
            };
            self.now = at;
            self.steps += 1;
            match self.step(event) {
                Ok(None) => {}
                Ok(Some(outcome)) => return outcome,
                Err(what) => return Outcome::Failed(what),
            }
        }
    }

    /// Figures so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            steps: self.steps,
            simulated_us: self.now,
            answered: self.clients.answered,
            entries: self.ledger.last_index(),
            starts: self.starts,
            interventions: self.interventions,
        }
    }

    /// Id of the member in each slot.
    #[must_use]
    pub fn member_ids(&self) -> Vec<u64> {
        self.slots.iter().map(|slot| slot.id).collect()
    }

    fn step(&mut self, event: Event) -> Result<Option<Outcome>, String> {
        if let Some(slot) = self.concerns(&event)
            && self.slots[slot].paused_until > self.now
        {
            self.queue.plan(self.slots[slot].paused_until, event);
            return Ok(None);
        }
        match event {
            Event::Member(slot, start, work) => self.with_node(slot, Some(start), |world, node| {
                world.work(slot, node, work)?;
                world.hand_out(slot, node)
            })?,
            Event::Deliver(message) => self.deliver(message)?,
            Event::Database(message, bytes) => self.deliver_database(message, &bytes)?,
            Event::Start(slot) => self.start(slot)?,
            Event::Client(client) => self.client_turn(client),
            Event::Arrive(op) => self.arrive(op)?,
            Event::Timeout(op) => self.time_out(op)?,
            Event::Elector(n) => self.elector_turn(n),
            Event::Watcher(n) => self.watcher_turn(n)?,
            Event::Intervene => self.intervene()?,
            Event::DiskWell(slot) => self.disk_well(slot),
            Event::NetworkWell(partition) => {
                if partition == self.partitions {
                    self.blocked.clear();
                }
            }
            Event::Inspect => return self.inspect(),
        }
        Ok(None)
    }

    /// The member that an event is about, which may be standing still.
    fn concerns(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Member(slot, ..) | Event::Start(slot) => Some(*slot),
            Event::Deliver(message) | Event::Database(message, _) => self.by_id.get(&message.to).copied(),
            Event::Arrive(op) => self.ops.get(op).map(|op| op.slot),
            Event::Watcher(n) => self.watchers[*n].slot,
            _ => None,
        }
    }

    /// Does something with a running member, and sees to it if the member stops over it.
    fn with_node(
        &mut self,
        slot: usize,
        start: Option<u64>,
        act: impl FnOnce(&mut World, &mut Node) -> Result<(), Trouble>,
    ) -> Result<(), String> {
        let Some(mut node) = self.slots[slot].node.take() else { return Ok(()) };
        if start.is_some_and(|start| start != node.start) {
            self.slots[slot].node = Some(node);
            return Ok(());
        }
        let result = act(self, &mut node);
        match result {
            // It may have been taken down meanwhile.
            Ok(()) if self.slots[slot].state == State::Up => self.slots[slot].node = Some(node),
            Ok(()) => {}
            Err(Trouble::Broken(what)) => return Err(what),
            Err(Trouble::Stopped(what)) => {
                drop(node);
                return self.stopped(slot, &what, false);
            }
        }
        Ok(())
    }

    /// A member has stopped by itself: because the power went, or because its disk failed it. Nothing else is a reason.
    fn stopped(&mut self, slot: usize, why: &str, starting: bool) -> Result<(), String> {
        let id = self.slots[slot].id;
        if self.slots[slot].disk.is_crashed() {
            self.lose_power(slot);
        } else if self.slots[slot].disk_troubled && !(starting && self.slots[slot].damaged) {
            self.trace.add(self.now, Some(slot), What::DiskFailed);
            self.take_down(slot);
        } else if self.slots[slot].damaged {
            // It was seen, and is not served: the member needs another disk.
            self.trace.add(self.now, Some(slot), What::Damaged);
            self.slots[slot].state = State::Lost;
        } else {
            return Err(format!("member {id:x} stopped, although nothing was wrong with its disk: {why}"));
        }
        Ok(())
    }

    /// The power has gone: what the disk keeps is drawn, and the member starts again later.
    fn lose_power(&mut self, slot: usize) {
        self.trace.add(self.now, Some(slot), What::PowerCut);
        let seed = self.work_random.number();
        let place = &mut self.slots[slot];
        place.node = None;
        place.disk = place.disk.after_power_cut(seed);
        self.take_down(slot);
    }

    /// The process ends; it starts again later.
    fn take_down(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        place.node = None;
        place.state = State::Down;
        place.disk_troubled = place.disk_failing;
        let least = if self.finish.is_some() { 10_000 } else { 0 };
        let pause = least + *self.work_random.pick(&[1_000, 50_000, 500_000, 5_000_000]);
        let at = self.now + self.work_random.below(pause);
        self.queue.plan(at, Event::Start(slot));
    }

    fn start(&mut self, slot: usize) -> Result<(), String> {
        if !matches!(self.slots[slot].state, State::Down | State::Absent) || self.slots[slot].node.is_some() {
            return Ok(());
        }
        self.starts += 1;
        let start = self.starts;
        self.upgrade(slot);
        let place = &self.slots[slot];
        let with = StartWith {
            scenario: &self.scenario,
            bootstrap: &place.bootstrap,
            disk: &place.disk,
            start,
            seed: mix(self.scenario.seed ^ mix(start)),
            clock: Clock::new(self.now, place.rate),
        };
        let node = match Node::start(&with) {
            Ok(node) => node,
            Err(Trouble::Broken(what)) => return Err(what),
            Err(Trouble::Stopped(why)) => return self.stopped(slot, &why, true),
        };
        let applied = node.applier.applied().index;
        self.trace.add(
            self.now,
            Some(slot),
            What::Started(applied, node.applier.store().revision().cast_unsigned()),
        );
        self.ledger.check_state(node.id, &node.applier)?;
        self.plan_routine(slot, &node);
        let place = &mut self.slots[slot];
        place.state = State::Up;
        place.node = Some(Box::new(node));
        self.with_node(slot, None, |world, node| world.hand_out(slot, node))
    }

    /// Ticks, commits and looks at leases go on while the member runs.
    fn plan_routine(&mut self, slot: usize, node: &Node) {
        let tick = node.clock.lasts(TICK_US);
        let at = self.now + self.work_random.below(tick);
        self.plan(slot, node, at, Work::Tick);
        let at = self.now + self.work_random.below(self.scenario.commit_us);
        self.plan(slot, node, at, Work::Commit);
        if self.scenario.uses_leases() {
            let round = node.clock.lasts(stanchion_lease::ROUND_MS * 1000);
            let at = self.now + self.work_random.below(round);
            self.plan(slot, node, at, Work::Leases);
        }
    }

    fn plan(&mut self, slot: usize, node: &Node, at: u64, work: Work) {
        self.queue.plan(at, Event::Member(slot, node.start, work));
    }
}

/// The peer address of the `n`th member.
fn url(n: u64) -> String {
    format!("http://10.0.0.{n}:2380")
}
