//! Arbitrary messages, in any order, from anybody: an error or not, but never a panic and never a broken invariant.

use proptest::prelude::*;
use stanchion_raft::{
    ConfState, Config, Entry, EntryType, MemStorage, Message, MessageType, PeerStatus, RawNode, Snapshot,
    SnapshotMetadata,
};

/// Small numbers meet each other; the large ones look for overflows.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..6u64, 1 => Just(1 << 62), 1 => (u64::MAX - 3)..=u64::MAX]
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![4 => Just(EntryType::Normal), 1 => Just(EntryType::ConfChange), 1 => Just(EntryType::ConfChangeV2)];
    (kind, number(), number(), proptest::collection::vec(0..20u8, 0..6))
        .prop_map(|(entry_type, term, index, data)| Entry { entry_type, term, index, data: data.into() })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let ids = || proptest::collection::vec(0..5u64, 0..4);
    (ids(), ids(), ids(), number(), number(), any::<bool>()).prop_map(
        |(voters, learners, voters_outgoing, index, term, auto_leave)| Snapshot {
            metadata: SnapshotMetadata {
                conf_state: ConfState {
                    voters,
                    learners,
                    voters_outgoing,
                    auto_leave,
                    ..ConfState::default()
                },
                index,
                term,
            },
            ..Snapshot::default()
        },
    )
}

#[derive(Clone, Debug)]
enum Op {
    Step(Box<Message>),
    /// Entries that fit behind a previous one, as a leader would send them.
    Append {
        from: u64,
        term: u64,
        prev: u64,
        prev_term: u64,
        count: u64,
        commit: u64,
    },
    Tick,
    Campaign,
    Propose,
    Read,
    Transfer(u64),
    Unreachable(u64),
    SnapshotReport(u64, bool),
    Ready,
}

fn op() -> impl Strategy<Value = Op> {
    let kind = (0..MessageType::ALL.len()).prop_map(|i| MessageType::ALL[i]);
    let fields = (kind, proptest::array::uniform7(number()), any::<bool>());
    let body = (proptest::collection::vec(entry(), 0..3), proptest::option::of(snapshot()));
    let step = (fields, body).prop_map(|((msg_type, n, reject), (entries, snapshot))| {
        Op::Step(Box::new(Message {
            msg_type,
            to: 1,
            from: n[0],
            term: n[1],
            log_term: n[2],
            index: n[3],
            commit: n[4],
            reject_hint: n[5],
            reject,
            entries,
            snapshot: snapshot.map(Box::new),
            context: n[6].to_le_bytes().to_vec().into(),
            ..Message::default()
        }))
    });
    let append = (2..4u64, 1..6u64, 0..6u64, 0..6u64, 0..4u64, 0..8u64).prop_map(
        |(from, term, prev, prev_term, count, commit)| Op::Append {
            from,
            term,
            prev,
            prev_term,
            count,
            commit,
        },
    );
    prop_oneof![
        8 => step,
        6 => append,
        2 => Just(Op::Tick),
        1 => Just(Op::Campaign),
        2 => Just(Op::Propose),
        1 => Just(Op::Read),
        1 => number().prop_map(Op::Transfer),
        1 => number().prop_map(Op::Unreachable),
        1 => (number(), any::<bool>()).prop_map(|(id, ok)| Op::SnapshotReport(id, ok)),
        6 => Just(Op::Ready),
    ]
}

fn run(ops: Vec<Op>) {
    let storage = MemStorage::with_conf_state(ConfState::new(&[1, 2, 3], &[]));
    let mut node = RawNode::new(&Config::new(1), storage).unwrap();
    let mut last = node.status().hard_state;
    for op in ops {
        // Every call may refuse; what it may not is panic or break what is asserted below.
        let _refused = match op {
            Op::Step(m) => node.step(*m),
            Op::Append { from, term, prev, prev_term, count, commit } => {
                let entries =
                    (1..=count).map(|i| Entry { term, index: prev + i, ..Entry::default() }).collect();
                let (log_term, index) = (prev_term.min(term), prev);
                node.step(Message {
                    from,
                    term,
                    log_term,
                    index,
                    entries,
                    commit,
                    ..Message::new(MessageType::App, 1)
                })
            }
            Op::Tick => node.tick(),
            Op::Campaign => node.campaign(),
            Op::Propose => node.propose("x"),
            Op::Read => node.read_index("r"),
            Op::Transfer(to) => node.transfer_leader(to),
            Op::Unreachable(id) => {
                node.report_unreachable(id);
                Ok(())
            }
            Op::SnapshotReport(id, ok) => {
                node.report_snapshot(id, ok);
                Ok(())
            }
            Op::Ready => work(&mut node),
        };
        let status = node.status();
        let now = status.hard_state;
        assert!(now.term >= last.term && now.commit >= last.commit, "{last:?} -> {now:?}");
        assert!(now.term > last.term || last.vote == 0 || now.vote == last.vote, "{last:?} -> {now:?}");
        assert!(status.applied <= now.commit && now.commit <= status.last_index, "{status:?}");
        // Only a leader's numbers about peers mean anything.
        let sound = |p: PeerStatus| p.match_index < p.next && p.match_index <= status.last_index;
        assert!(!node.is_leader() || node.peers().all(sound), "{status:?}");
        last = now;
    }
}

fn work(node: &mut RawNode<MemStorage>) -> Result<(), stanchion_raft::Error> {
    if !node.has_ready() {
        return Ok(());
    }
    let mut ready = node.ready()?;
    if let Some(s) = ready.snapshot.take() {
        node.storage_mut().apply_snapshot(s)?;
    }
    node.storage_mut().append(&ready.entries)?;
    for e in &ready.committed_entries {
        if let Ok(Some(change)) = stanchion_raft::ConfChangeV2::from_entry(e) {
            let _impossible = node.apply_conf_change(change);
        }
    }
    node.advance(ready)
}

proptest! {
    #![proptest_config(crate::cases(8000))]

    #[test]
    fn no_sequence_of_messages_panics(ops in proptest::collection::vec(op(), 1..60)) {
        run(ops);
    }
}
