//! Asynchronous storage writes: what waits for the disk, what does not, and what a late acknowledgement may say.

use std::collections::VecDeque;

use stanchion_raft::{
    ConfState, Config, Entry, Error, HardState, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, MemStorage, Message,
    MessageType, RawNode,
};

/// A node, its append thread's queue and its apply thread's queue.
struct Node {
    raw: RawNode<MemStorage>,
    appends: VecDeque<Message>,
    applies: VecDeque<Message>,
    applied: Vec<Entry>,
    out: Vec<Message>,
}

impl Node {
    fn new(id: u64) -> Self {
        let config = Config { async_storage_writes: true, ..Config::new(id) };
        let storage = MemStorage::with_conf_state(ConfState::new(&[1, 2, 3], &[]));
        let raw = RawNode::new(&config, storage).unwrap();
        Self { raw, appends: VecDeque::new(), applies: VecDeque::new(), applied: Vec::new(), out: Vec::new() }
    }

    fn ready(&mut self) {
        while self.raw.has_ready() {
            for m in self.raw.ready().unwrap().messages {
                match m.to {
                    LOCAL_APPEND_THREAD => self.appends.push_back(m),
                    LOCAL_APPLY_THREAD => self.applies.push_back(m),
                    _ => self.out.push(m),
                }
            }
        }
    }

    /// The append thread finishes one write.
    fn write(&mut self) -> bool {
        let Some(m) = self.appends.pop_front() else { return false };
        let storage = self.raw.storage_mut();
        if let Some(s) = m.snapshot {
            storage.apply_snapshot(*s).unwrap();
        }
        storage.append(&m.entries).unwrap();
        let hs = HardState { term: m.term, vote: m.vote, commit: m.commit };
        if !hs.is_empty() {
            storage.set_hard_state(hs);
        }
        self.respond(m.responses);
        true
    }

    fn apply(&mut self) -> bool {
        let Some(m) = self.applies.pop_front() else { return false };
        self.applied.extend(m.entries);
        self.respond(m.responses);
        true
    }

    fn respond(&mut self, responses: Vec<Message>) {
        for r in responses {
            if r.to == self.raw.id() {
                self.raw.step_response(r).unwrap();
            } else {
                self.out.push(r);
            }
        }
    }
}

fn settle(nodes: &mut [Node]) {
    loop {
        let mut moved = false;
        for n in nodes.iter_mut() {
            n.ready();
            while n.write() | n.apply() {
                n.ready();
                moved = true;
            }
        }
        let wire: Vec<Message> = nodes.iter_mut().flat_map(|n| std::mem::take(&mut n.out)).collect();
        if wire.is_empty() && !moved {
            return;
        }
        for m in wire {
            let to = m.to as usize - 1;
            nodes[to].raw.step(m).unwrap();
        }
    }
}

fn leader_of_three() -> Vec<Node> {
    let mut nodes: Vec<Node> = (1..=3).map(Node::new).collect();
    nodes[0].raw.campaign().unwrap();
    settle(&mut nodes);
    assert!(nodes[0].raw.is_leader());
    nodes
}

#[test]
fn three_nodes_commit_and_apply() {
    let mut nodes = leader_of_three();
    for i in 0..20u8 {
        nodes[0].raw.propose(vec![i]).unwrap();
    }
    settle(&mut nodes);
    for n in &nodes {
        assert_eq!(n.applied.iter().filter(|e| !e.data.is_empty()).count(), 20);
        assert_eq!(n.raw.status().applied, nodes[0].raw.status().hard_state.commit);
    }
}

#[test]
fn votes_and_vote_requests_wait_for_the_disk() {
    let mut config = Config { async_storage_writes: true, pre_vote: false, ..Config::new(1) };
    config.check_quorum = false;
    let mut n = Node::new(1);
    n.raw = RawNode::new(&config, MemStorage::with_conf_state(ConfState::new(&[1, 2, 3], &[]))).unwrap();
    n.raw.campaign().unwrap();
    n.ready();
    assert!(n.out.is_empty(), "{:?}", n.out);
    assert!(n.write());
    assert_eq!(n.raw.storage().hard_state(), HardState { term: 1, vote: 1, commit: 0 });
    assert_eq!(n.out.iter().filter(|m| m.msg_type == MessageType::Vote).count(), 2);

    let mut voter = Node::new(2);
    let request = n.out.iter().find(|m| m.to == 2).unwrap().clone();
    voter.raw.step(request).unwrap();
    voter.ready();
    assert!(voter.out.is_empty());
    assert!(voter.write());
    assert_eq!((voter.out[0].msg_type, voter.out[0].reject), (MessageType::VoteResp, false));
    assert_eq!(voter.raw.storage().hard_state().vote, 1);
}

#[test]
fn followers_can_commit_before_the_leaders_disk() {
    let mut nodes = leader_of_three();
    nodes[0].raw.propose("x").unwrap();
    nodes[0].ready();
    let index = nodes[0].raw.status().last_index;
    let wire = std::mem::take(&mut nodes[0].out);
    for m in wire {
        let to = m.to as usize - 1;
        nodes[to].raw.step(m).unwrap();
        nodes[to].ready();
        while nodes[to].write() {}
        for answer in std::mem::take(&mut nodes[to].out) {
            nodes[0].raw.step(answer).unwrap();
        }
    }
    assert_eq!(nodes[0].raw.status().hard_state.commit, index);
    // Committed, but not handed out before the own write is done.
    nodes[0].ready();
    assert!(!nodes[0].applies.iter().any(|m| m.entries.iter().any(|e| e.index == index)));
    while nodes[0].write() {}
    nodes[0].ready();
    assert!(nodes[0].applies.iter().any(|m| m.entries.iter().any(|e| e.index == index)));
}

#[test]
fn heartbeats_do_not_wait_behind_a_write() {
    let mut nodes = leader_of_three();
    nodes[0].raw.propose("slow").unwrap();
    nodes[0].ready();
    nodes[0].out.clear();
    nodes[0].raw.tick().unwrap();
    nodes[0].ready();
    assert_eq!(nodes[0].out.iter().filter(|m| m.msg_type == MessageType::Heartbeat).count(), 2);
}

/// A follower writes (2, term 2), has it replaced by a leader of term 3, and gets it back from one of term 4 that
/// still holds it. The first write's completion speaks of the very entry that is unstable now, while the write of
/// term 3's entry is still queued behind it: believing it would let an entry count as durable that the queue is
/// about to overwrite. The term of issue is what tells the two apart.
#[test]
fn a_late_completion_does_not_confirm_an_entry_that_was_replaced_and_came_back() {
    let mut n = Node::new(2);
    let append = |from, term, entry_term| Message {
        from,
        term,
        entries: vec![Entry { term: entry_term, index: 1, ..Entry::default() }],
        ..Message::new(MessageType::App, 2)
    };
    for m in [append(1, 2, 2), append(3, 3, 3), append(1, 4, 2)] {
        n.raw.step(m).unwrap();
        n.ready();
    }
    assert_eq!(n.appends.len(), 3);
    assert!(n.write());
    n.raw
        .step(Message {
            from: 1,
            term: 4,
            index: 1,
            log_term: 2,
            commit: 1,
            ..Message::new(MessageType::App, 2)
        })
        .unwrap();
    n.ready();
    assert!(n.applies.is_empty(), "an entry is handed out that is not durable");
    while n.write() {
        n.ready();
    }
    assert_eq!(n.applies.len(), 1);
    assert_eq!(n.applies[0].entries[0].term, 2);
}

#[test]
fn calls_of_the_other_mode_are_refused() {
    let mut n = Node::new(1);
    n.raw.campaign().unwrap();
    let ready = n.raw.ready().unwrap();
    assert!(matches!(n.raw.advance(ready), Err(Error::WrongStorageMode { .. })));
    let spoofed = Message { from: 2, term: 1, index: 9, ..Message::new(MessageType::AppResp, 1) };
    assert!(matches!(n.raw.step_response(spoofed), Err(Error::LocalMessage { .. })));
}
