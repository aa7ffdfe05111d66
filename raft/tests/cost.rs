//! What calls cost in allocations. A binary of its own with a single test: the counter is that of the whole process.

use std::alloc::System;

use stanchion_raft::{ConfState, Config, MemStorage, Message, MessageType as T, RawNode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Node = RawNode<MemStorage>;

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
    RawNode::new(&config, MemStorage::with_conf_state(ConfState::new(&voters, &[])))
        .expect("settings are valid")
}

/// Does what the node asks for and drops its messages; counts them.
fn work(node: &mut Node) -> usize {
    let mut sent = 0;
    while node.has_ready() {
        let ready = node.ready().expect("memory does not fail");
        sent += ready.messages.len() + ready.messages_after_persist.len();
        node.storage_mut().append(&ready.entries).expect("no gap");
        if let Some(hard_state) = ready.hard_state {
            node.storage_mut().set_hard_state(hard_state);
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

/// Nanoseconds that `work` takes at best of several tries.
fn nanoseconds(tries: u32, mut work: impl FnMut()) -> u128 {
    let one = |_| {
        let start = std::time::Instant::now();
        work();
        start.elapsed().as_nanos()
    };
    (0..tries).map(one).min().expect("at least one try")
}

#[test]
fn calls_cost_what_they_should() {
    // A tick allocates nothing, on followers and on leaders between heartbeats.
    let mut follower = node(3);
    follower.step(Message { from: 2, term: 1, ..Message::new(T::Heartbeat, 1) }).expect("honest");
    work(&mut follower);
    follower.set_randomized_election_timeout(u32::MAX);
    assert_eq!(
        allocations(|| (0..1_000).for_each(|_| follower.tick().expect("memory"))),
        0,
        "follower's ticks"
    );

    for peers in [3, 7, 1_000] {
        let mut n = leader(peers);
        // A heartbeat allocates the outgoing vector at most, and that is used again.
        n.tick().expect("memory");
        work(&mut n);
        let cost = allocations(|| n.tick().expect("memory"));
        assert!(cost <= 1, "{cost} allocations of a heartbeat to {peers} peers");
        assert_eq!(work(&mut n) as u64, peers - 1);
        let cost = allocations(|| {
            assert_eq!(
                {
                    n.tick().expect("memory");
                    work(&mut n)
                } as u64,
                peers - 1
            )
        });
        assert!(cost <= 2, "{cost} allocations of a heartbeat and its ready to {peers} peers");

        // An answer costs no allocation, or one for the sort of more voters than fit into a small array.
        n.propose("x").expect("it leads");
        work(&mut n);
        let last = n.status().last_index;
        let cost = allocations(|| answer(&mut n, 2, T::AppResp, last));
        assert!(cost <= 1 + usize::from(peers > 7), "{cost} allocations of an answer among {peers}");
        let cost = allocations(|| answer(&mut n, 2, T::HeartbeatResp, 0));
        assert_eq!(cost, 0, "of a heartbeat's answer");

        // A proposal is one vector of entries for each peer, besides what holds the entry itself.
        acknowledged(&mut n, peers);
        let data = bytes::Bytes::from_static(b"payload");
        let cost = allocations(|| n.propose(data.clone()).expect("it leads")) as u64;
        assert!(cost <= peers + 16, "{cost} allocations of a proposal to {peers} peers");
    }

    // A whole election, a write and a read: ten times the peers are far from a hundred times the cost, though every
    // peer's answer looks at all voters.
    let cost = |peers: u64| {
        let mut n = leader(peers);
        let answers = nanoseconds(5, || {
            n.read_index("r").expect("it leads");
            work(&mut n);
            for peer in 2..=20 {
                answer(&mut n, peer, T::HeartbeatResp, 0);
            }
            n.propose("x").expect("it leads");
            work(&mut n);
            let last = n.status().last_index;
            (2..=20).for_each(|peer| answer(&mut n, peer, T::AppResp, last));
        });
        answers.max(1)
    };
    let (small, large) = (cost(100), cost(1_000));
    assert!(large < 60 * small, "{small} ns with 100 peers, {large} ns with 1,000");
}
