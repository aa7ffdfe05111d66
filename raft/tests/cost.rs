//! What calls cost, counted and never timed: allocations, calls to storage, messages. A binary of its own with a single
//! test, because the counter of allocations is the whole process's. How often a quorum looks at each voter is counted
//! beside its code, in `src/quorum/tests.rs`.

use std::alloc::System;
use std::cell::Cell;

use stanchion_raft::{
    ConfState, Config, Entry, InitialState, MemStorage, Message, MessageType as T, RawNode, Snapshot,
    Storage, StorageError,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A log in memory that counts what is asked of it.
struct Counting {
    log: MemStorage,
    calls: Cell<u64>,
}

impl Counting {
    fn count(&self) -> &MemStorage {
        self.calls.set(self.calls.get() + 1);
        &self.log
    }
}

impl Storage for Counting {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.count().initial_state()
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64, out: &mut Vec<Entry>) -> Result<(), StorageError> {
        self.count().entries(low, high, max_bytes, out)
    }

    fn term(&self, index: u64) -> Result<u64, StorageError> {
        self.count().term(index)
    }

    fn first_index(&self) -> Result<u64, StorageError> {
        self.count().first_index()
    }

    fn last_index(&self) -> Result<u64, StorageError> {
        self.count().last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.count().snapshot()
    }
}

type Node = RawNode<Counting>;

/// Allocations and reallocations of `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

fn node(peers: u64) -> Node {
    let voters: Vec<u64> = (1..=peers).collect();
    let config = Config { pre_vote: false, check_quorum: false, ..Config::new(1) };
    let log = MemStorage::with_conf_state(ConfState::new(&voters, &[]));
    RawNode::new(&config, Counting { log, calls: Cell::new(0) }).expect("settings are valid")
}

/// Does what the node asks for and drops its messages; counts them.
fn work(node: &mut Node) -> usize {
    let mut sent = 0;
    while node.has_ready() {
        let ready = node.ready().expect("memory does not fail");
        sent += ready.messages.len() + ready.messages_after_persist.len();
        node.storage_mut().log.append(&ready.entries).expect("no gap");
        if let Some(hard_state) = ready.hard_state {
            node.storage_mut().log.set_hard_state(hard_state);
        }
        node.advance(ready).expect("it is the outstanding one");
    }
    sent
}

fn answer(node: &mut Node, from: u64, msg_type: T, index: u64) {
    let term = node.term();
    node.step(Message { from, term, index, ..Message::new(msg_type, 1) }).expect("an honest answer");
}

fn leader(peers: u64) -> Node {
    let mut n = node(peers);
    n.campaign().expect("memory does not fail");
    work(&mut n);
    for peer in 2..=peers {
        answer(&mut n, peer, T::VoteResp, 0);
    }
    assert!(n.is_leader());
    acknowledged(&mut n, peers);
    n
}

fn acknowledged(n: &mut Node, peers: u64) {
    work(n);
    let last = n.status().last_index;
    for peer in 2..=peers {
        answer(n, peer, T::AppResp, last);
    }
    work(n);
}

#[test]
fn calls_cost_what_they_should() {
    a_tick_allocates_nothing();
    for peers in [3, 7, 1_000] {
        a_heartbeat_allocates_its_vector_at_most(peers);
        an_answer_allocates_nothing_for_small_clusters(peers);
        a_proposal_allocates_one_vector_for_each_peer(peers);
    }
    a_round_with_one_proposal_allocates_three_vectors();
    an_answer_asks_storage_nothing_until_it_commits();
    a_thousand_peers_cost_ten_times_what_a_hundred_do();
}

fn a_tick_allocates_nothing() {
    let mut follower = node(3);
    follower.step(Message { from: 2, term: 1, ..Message::new(T::Heartbeat, 1) }).expect("honest");
    work(&mut follower);
    follower.set_randomized_election_timeout(u32::MAX);
    let ticks = |n: &mut Node| (0..1_000).for_each(|_| n.tick().expect("memory"));
    assert_eq!(allocations(|| ticks(&mut follower)), 0, "follower's ticks");

    // Of a leader too, between its heartbeats.
    let config = Config { heartbeat_ticks: 2_000, election_ticks: 3_000, ..Config::new(1) };
    let log = MemStorage::with_conf_state(ConfState::new(&[1], &[]));
    let mut leader =
        RawNode::new(&config, Counting { log, calls: Cell::new(0) }).expect("settings are valid");
    leader.campaign().expect("memory does not fail");
    work(&mut leader);
    assert!(leader.is_leader());
    assert_eq!(allocations(|| ticks(&mut leader)), 0, "leader's ticks");
}

fn a_heartbeat_allocates_its_vector_at_most(peers: u64) {
    let mut n = leader(peers);
    n.tick().expect("memory");
    work(&mut n);
    let cost = allocations(|| n.tick().expect("memory"));
    assert!(cost <= 1, "{cost} allocations of a heartbeat to {peers} peers");
    assert_eq!(work(&mut n) as u64, peers - 1);
    let mut sent = 0;
    let cost = allocations(|| {
        n.tick().expect("memory");
        sent = work(&mut n) as u64;
    });
    assert_eq!(sent, peers - 1);
    assert!(cost <= 2, "{cost} allocations of a heartbeat and its ready to {peers} peers");
    assert_eq!(allocations(|| answer(&mut n, 2, T::HeartbeatResp, 0)), 0, "of a heartbeat's answer");
}

fn an_answer_allocates_nothing_for_small_clusters(peers: u64) {
    let mut n = leader(peers);
    n.propose("x").expect("it leads");
    work(&mut n);
    let last = n.status().last_index;
    // The answer of the second of three commits, and what tells the others of it goes into the outbox.
    let cost = allocations(|| answer(&mut n, 2, T::AppResp, last));
    // More than seven voters are sorted in a vector.
    assert!(cost <= 1 + usize::from(peers > 7), "{cost} allocations of an answer among {peers}");
}

fn a_proposal_allocates_one_vector_for_each_peer(peers: u64) {
    let mut n = leader(peers);
    let data = bytes::Bytes::from_static(b"payload");
    // The windows of what is in flight have got their room with the first.
    n.propose(data.clone()).expect("it leads");
    acknowledged(&mut n, peers);
    let cost = allocations(|| n.propose(data.clone()).expect("it leads")) as u64;
    assert!(cost <= peers + 16, "{cost} allocations of a proposal to {peers} peers");
}

/// What one proposal costs from the call to its commit when the vectors of earlier rounds are there to be used again: its
/// own vector and one for each follower.
fn a_round_with_one_proposal_allocates_three_vectors() {
    let mut n = leader(3);
    let data = bytes::Bytes::from_static(b"payload");
    let mut round = || {
        n.propose(data.clone()).expect("it leads");
        work(&mut n);
        let last = n.status().last_index;
        answer(&mut n, 2, T::AppResp, last);
        work(&mut n);
        answer(&mut n, 3, T::AppResp, last);
        work(&mut n);
    };
    // Until the log of this test has room.
    (0..600).for_each(|_| round());
    assert_eq!(allocations(|| (0..100).for_each(|_| round())), 300);
}

fn an_answer_asks_storage_nothing_until_it_commits() {
    let mut n = leader(1_000);
    n.propose("x").expect("it leads");
    work(&mut n);
    let last = n.status().last_index;
    let mut calls = |peer| {
        let before = n.storage().calls.get();
        answer(&mut n, peer, T::AppResp, last);
        n.storage().calls.get() - before
    };
    // 501 of 1,000 are a quorum, and the leader is one of them.
    assert_eq!((2..=500).map(&mut calls).sum::<u64>(), 0);
    // Everybody is told, and that needs the term of the entry before.
    assert_eq!(calls(501), 999);
    assert_eq!((502..=1_000).map(&mut calls).sum::<u64>(), 0);
}

#[derive(Debug)]
struct Work {
    messages: u64,
    allocations: usize,
    storage: u64,
}

fn a_thousand_peers_cost_ten_times_what_a_hundred_do() {
    // A write and a read that everybody answers.
    let measure = |peers: u64| {
        let mut n = leader(peers);
        let before = n.storage().calls.get();
        let mut messages = 0;
        let allocations = allocations(|| {
            n.propose("x").expect("it leads");
            messages += work(&mut n) as u64;
            let last = n.status().last_index;
            (2..=peers).for_each(|peer| answer(&mut n, peer, T::AppResp, last));
            messages += work(&mut n) as u64;
            n.read_index("r").expect("it leads");
            let ready = n.ready().expect("memory does not fail");
            messages += ready.messages.len() as u64;
            let context = ready.messages[0].context.clone();
            n.advance(ready).expect("it is the outstanding one");
            let term = n.term();
            for from in 2..=peers {
                let context = context.clone();
                let echo = Message { from, term, context, ..Message::new(T::HeartbeatResp, 1) };
                n.step(echo).expect("an honest answer");
            }
            assert_eq!(n.ready().expect("memory does not fail").read_states.len(), 1);
        });
        Work { messages, allocations, storage: n.storage().calls.get() - before }
    };
    let (hundred, thousand) = (measure(100), measure(1_000));
    // Entries, commit index, heartbeat: each goes to every peer once.
    assert_eq!((hundred.messages, thousand.messages), (3 * 99, 3 * 999));
    let linear = thousand.allocations <= 10 * hundred.allocations + 32
        && thousand.storage <= 10 * hundred.storage + 32;
    assert!(linear, "{hundred:?}, {thousand:?}");
}
