//! Arbitrary messages, in any order, from anybody: an error or not, but never a panic and never a broken invariant.

use proptest::prelude::*;
use stanchion_raft::{
    ConfState, Config, Entry, EntryType, Error, MemStorage, Message, MessageType, PeerStatus, RawNode,
    Snapshot, SnapshotMetadata,
};

use crate::behaviour::solo::{Solo, append, entries, from};

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
        node.storage_mut().apply_snapshot(*s)?;
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

#[test]
fn what_no_honest_peer_sends_is_refused_by_name_and_changes_nothing() {
    use MessageType as T;
    const FAR: u64 = (1 << 62) + 1;
    let mut n = Solo::new(&[1, 1]);
    n.node.step(from(2, T::Heartbeat, 3)).unwrap();
    n.work();
    let before = (n.node.status(), n.node.entry_term(2));
    let read = |count| Message { entries: entries(0, &vec![0; count]), ..from(2, T::ReadIndex, 0) };
    let snapshot = |index, term| {
        let metadata = SnapshotMetadata { conf_state: ConfState::new(&[1], &[]), index, term };
        Some(Box::new(Snapshot { metadata, ..Snapshot::default() }))
    };
    let mut gap = append(2, 3, (2, 1), &[2, 2], 0);
    gap.entries[1].index += 1;
    let mut overlapping = append(2, 3, (2, 1), &[2, 2], 0);
    overlapping.entries[1].index -= 1;
    let endless = Message { index: u64::MAX, log_term: 1, entries: entries(0, &[3]), ..from(2, T::App, 3) };
    let malformed = [
        ("entries with a gap", gap),
        ("entries that overlap", overlapping),
        ("an index that would overflow", endless),
        ("terms that descend", append(2, 3, (2, 1), &[3, 2], 0)),
        ("an entry of a later term", append(2, 3, (2, 1), &[4], 0)),
        ("a previous entry of a later term", append(2, 3, (2, 4), &[], 0)),
        ("a term before the first entry", append(2, 3, (0, 1), &[], 0)),
        ("a term from the far future", from(2, T::Heartbeat, FAR)),
        ("an index out of range", Message { index: FAR, ..from(2, T::AppResp, 3) }),
        ("a term of an entry out of range", Message { log_term: FAR, ..from(2, T::Vote, 4) }),
        ("a commit index out of range", Message { commit: FAR, ..from(2, T::Heartbeat, 3) }),
        ("a hint out of range", Message { reject: true, reject_hint: FAR, ..from(2, T::AppResp, 3) }),
        ("a vote request without a term", from(2, T::Vote, 0)),
        ("a heartbeat without a sender", from(0, T::Heartbeat, 3)),
        ("a snapshot message without one", from(2, T::Snap, 3)),
        ("a snapshot out of range", Message { snapshot: snapshot(FAR, 1), ..from(2, T::Snap, 3) }),
        ("a snapshot of a later term", Message { snapshot: snapshot(9, 4), ..from(2, T::Snap, 3) }),
        ("a read without a context", read(0)),
        ("a read with two contexts", read(2)),
    ];
    for (what, m) in malformed {
        let refused = n.node.step(m);
        assert!(matches!(refused, Err(Error::Malformed { .. })), "{what}: {refused:?}");
    }
    let other = Message { to: 7, ..from(2, T::Heartbeat, 3) };
    assert!(matches!(n.node.step(other), Err(Error::WrongReceiver { to: 7, id: 1, .. })));
    for thread in [u64::MAX, u64::MAX - 1] {
        assert!(matches!(n.node.step(from(thread, T::Heartbeat, 3)), Err(Error::LocalMessage { .. })));
    }
    assert_eq!((n.node.status(), n.node.entry_term(2)), before);
    assert!(!n.node.has_ready());
}
