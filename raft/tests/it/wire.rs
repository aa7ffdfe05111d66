//! Bytes: samples of real members, round trips of everything, refusal of what is no message.

use bytes::Bytes;
use proptest::prelude::*;
use stanchion_raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, DecodeError,
    Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata, WireForm,
};

fn hex(s: &str) -> Bytes {
    let digits: Vec<u8> = s.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

#[test]
fn a_pre_vote_of_each_generation_is_read_and_written_alike() {
    let m =
        Message { to: 1, from: 2, term: 2, log_term: 1, index: 3, ..Message::new(MessageType::PreVote, 1) };
    // As 3.5.1 and 3.7.1 members send it, with short IDs in place of theirs.
    let v35 = hex("0811 1001 1802 2002 2801 3003 4000 4a0a12080a0228001000 1800 5000 5800");
    let v37 = hex("0811 1001 1802 2002 2801 3003");
    assert_eq!(Message::decode(v35.clone()).unwrap(), m);
    assert_eq!(Message::decode(v37.clone()).unwrap(), m);
    assert_eq!(m.encode(WireForm::Etcd35), v35);
    assert_eq!(m.encode(WireForm::Etcd37), v37);
    // 3.6: no snapshot, and the vote that only storage messages use.
    assert_eq!(m.encode(WireForm::Etcd36), hex("0811 1001 1802 2002 2801 3003 4000 5000 5800 6800"));
}

#[test]
fn an_entry_and_a_hard_state_have_the_bytes_of_the_log() {
    let e = Entry { term: 2, index: 3, data: Bytes::from_static(b"xy"), ..Entry::default() };
    assert_eq!(e.encode(), hex("0800 1002 1803 2202 7879"));
    assert_eq!(e.encoded_len(), e.encode().len());
    let hs = HardState { term: 1, vote: 0, commit: 300 };
    assert_eq!(hs.encode(), hex("0801 1000 18ac02"));
    assert_eq!(HardState::decode(hs.encode().into()).unwrap(), hs);
}

#[test]
fn packed_integers_and_unknown_fields_are_read() {
    let cs = ConfState::decode(hex("0a03 010203 2801 9a06 03 616263 a506 01020304")).unwrap();
    assert_eq!((cs.voters, cs.auto_leave), (vec![1, 2, 3], true));
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    assert!(matches!(Message::decode(hex("08")), Err(DecodeError::Truncated { .. })));
    assert!(matches!(Message::decode(hex("3aff01 00")), Err(DecodeError::Truncated { .. })));
    assert!(matches!(Message::decode(hex("0863")), Err(DecodeError::UnknownEnum { value: 99, .. })));
    assert!(matches!(Message::decode(hex("0a00")), Err(DecodeError::WrongWireType { field: 1, .. })));
    assert!(matches!(
        Message::decode(hex("08ffffffffffffffffff7f")),
        Err(DecodeError::VarintOverflow { .. })
    ));
    let mut nested = Vec::new();
    for _ in 0..40 {
        let mut outer = vec![0x72, nested.len() as u8];
        outer.extend(nested);
        nested = outer;
    }
    assert!(matches!(Message::decode(nested.into()), Err(DecodeError::TooDeep { .. })));
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind =
        prop_oneof![Just(EntryType::Normal), Just(EntryType::ConfChange), Just(EntryType::ConfChangeV2)];
    (kind, any::<u64>(), any::<u64>(), bytes()).prop_map(|(entry_type, term, index, data)| Entry {
        entry_type,
        term,
        index,
        data,
    })
}

fn ids() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(any::<u64>(), 0..4)
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let cs = (ids(), ids(), ids(), ids(), any::<bool>()).prop_map(
        |(voters, learners, voters_outgoing, learners_next, auto_leave)| ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        },
    );
    (bytes(), cs, 1..u64::MAX, any::<u64>()).prop_map(|(data, conf_state, index, term)| Snapshot {
        data,
        metadata: SnapshotMetadata { conf_state, index, term },
    })
}

fn message(depth: u32) -> BoxedStrategy<Message> {
    let numbers = proptest::array::uniform8(prop_oneof![Just(0), any::<u64>()]);
    let responses = match depth {
        0 => Just(Vec::new()).boxed(),
        d => proptest::collection::vec(message(d - 1), 0..3).boxed(),
    };
    let kind = (0..MessageType::ALL.len()).prop_map(|i| MessageType::ALL[i]);
    let snap = proptest::option::of(snapshot());
    (kind, numbers, proptest::collection::vec(entry(), 0..4), snap, any::<bool>(), bytes(), responses)
        .prop_map(|(msg_type, n, entries, snapshot, reject, context, responses)| Message {
            msg_type,
            to: n[0],
            from: n[1],
            term: n[2],
            log_term: n[3],
            index: n[4],
            entries,
            commit: n[5],
            snapshot: snapshot.map(Box::new),
            reject,
            reject_hint: n[6],
            context,
            vote: n[7],
            responses,
        })
        .boxed()
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn every_message_survives_every_form(m in message(1)) {
        for form in [WireForm::Etcd35, WireForm::Etcd36, WireForm::Etcd37] {
            let bytes = m.encode(form);
            let back = Message::decode(bytes.clone().into()).unwrap();
            prop_assert_eq!(&back, &m);
            prop_assert_eq!(back.encode(form), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_a_message_or_an_error(b in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(m) = Message::decode(b.into()) {
            let again = Message::decode(m.encode(WireForm::Etcd36).into()).unwrap();
            prop_assert_eq!(again, m);
        }
    }

    #[test]
    fn every_conf_change_survives(
        id in any::<u64>(), node_id in any::<u64>(), context in bytes(), kind in 0..4usize, how in 0..3usize,
    ) {
        use ConfChangeTransition as How;
        use ConfChangeType as Kind;
        let change_type = [Kind::AddNode, Kind::RemoveNode, Kind::UpdateNode, Kind::AddLearnerNode][kind];
        let v1 = ConfChange { id, change_type, node_id, context: context.clone() };
        prop_assert_eq!(ConfChange::decode(v1.encode().into()).unwrap(), v1);
        let changes = vec![ConfChangeSingle { change_type, node_id }; kind];
        let transition = [How::Auto, How::JointImplicit, How::JointExplicit][how];
        let v2 = ConfChangeV2 { transition, changes, context };
        prop_assert_eq!(ConfChangeV2::decode(v2.encode().into()).unwrap(), v2);
    }
}

/// Messages between real members (`conformance/vectors/capture`), and those that Go's raft library prints
/// (`conformance/vectors/raft`): read, and written again to the same bytes.
#[test]
fn messages_of_real_members_are_read_and_written_again_to_the_byte() {
    use WireForm::{Etcd35, Etcd36, Etcd37};
    let captured = [
        (include_str!("../data/captured-3.4.hex"), Etcd35, 15),
        (include_str!("../data/captured-3.5.hex"), Etcd35, 15),
        (include_str!("../data/captured-3.6.hex"), Etcd36, 15),
        (include_str!("../data/captured-3.7.hex"), Etcd37, 15),
        (include_str!("../data/messages-3.5.hex"), Etcd35, 15),
        (include_str!("../data/messages-3.7.hex"), Etcd37, 15),
    ];
    for (text, form, least) in captured {
        let mut messages = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (kind, bytes) = (line.split('\t').next().unwrap(), hex(line.rsplit('\t').next().unwrap()));
            if kind == "entry" {
                // It stood alone in a frame; in a proposal it is the last field.
                let entry = Entry::decode(bytes.clone()).unwrap();
                let proposal = Message { entries: vec![entry], ..Message::new(MessageType::Prop, 0) };
                let again = proposal.encode(form);
                assert!(form != Etcd37 || again.ends_with(&bytes), "{line}");
                assert!(form == Etcd37 || proposal.entries[0].encode() == bytes, "{line}");
            } else {
                let message = Message::decode(bytes.clone()).unwrap_or_else(|e| panic!("{line}: {e}"));
                assert_eq!(message.encode(form), bytes, "{line}");
            }
            messages += 1;
        }
        assert!(messages >= least, "{messages} messages");
    }
}
