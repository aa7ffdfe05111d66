//! The streams' bytes: recorded ones, round trips in pieces of any size, and bytes that nobody should send.

use bytes::BytesMut;
use proptest::prelude::*;
use stanchion_peer::codec::{
    FRAME_LIMIT, Frame, MessageDecoder, MsgAppDecoder, StreamDecoder, StreamEncoder, StreamError, StreamKind,
};
use stanchion_raft::{Entry, Message, MessageType};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn decode_all(kind: StreamKind, bytes: &[u8], piece: usize) -> Result<Vec<Frame>, StreamError> {
    let mut decoder = StreamDecoder::new(kind, 2, 1);
    let mut buf = BytesMut::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        buf.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buf)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn entry(term: u64, index: u64, data: &'static str) -> Entry {
    Entry { term, index, data: data.into(), ..Entry::default() }
}

fn append(term: u64, log_term: u64, index: u64, entries: Vec<Entry>, commit: u64) -> Message {
    let head = Message { from: 1, term, log_term, index, ..Message::new(MessageType::App, 2) };
    Message { entries, commit, ..head }
}

#[test]
fn heartbeats_of_every_release_are_swallowed() {
    let etcd35 = "000000000000001e 0808 1000 1800 2000 2800 3000 4000 4a0a12080a0228001000 1800 5000 5800";
    let etcd36 = "0000000000000014 0808 1000 1800 2000 2800 3000 4000 5000 5800 6800";
    let etcd37 = "0000000000000002 0808";
    for recorded in [etcd36, etcd37] {
        assert_eq!(decode_all(StreamKind::Message, &hex(recorded), 3), Ok(vec![Frame::Heartbeat]));
    }
    let mut bytes = hex(etcd35);
    // The recorded form is 30 bytes long; its length says so.
    let length = (bytes.len() - 8) as u64;
    bytes[..8].copy_from_slice(&length.to_be_bytes());
    assert_eq!(decode_all(StreamKind::Message, &bytes, 7), Ok(vec![Frame::Heartbeat]));
    assert_eq!(decode_all(StreamKind::MsgApp, &[0, 0], 1), Ok(vec![Frame::Heartbeat; 2]));

    let mut ours = Vec::new();
    StreamEncoder::new(StreamKind::Message).encode_heartbeat(&mut ours);
    assert_eq!(ours, hex(etcd37));
}

#[test]
fn a_leaders_first_appends_have_the_bytes_that_etcd_sends() {
    let mut encoder = StreamEncoder::new(StreamKind::MsgApp);
    let mut out = Vec::new();
    // The first follows an entry of an earlier term: it is whole.
    encoder.encode(&append(2, 1, 3, vec![entry(2, 4, "")], 3), &mut out);
    let whole = out.len();
    assert_eq!(out, hex("02 0000000000000014 0803 1002 1801 2002 2801 3003 3a04 1002 1804 4003"));
    // The next ones follow it.
    let three = vec![entry(2, 5, "a"), entry(2, 6, "b"), entry(2, 7, "c")];
    encoder.encode(&append(2, 2, 4, three, 4), &mut out);
    assert_eq!(
        out[whole..],
        hex("01 0000000000000003
             0000000000000009 0800 1002 1805 220161
             0000000000000009 0800 1002 1806 220162
             0000000000000009 0800 1002 1807 220163
             0000000000000004")
    );
    let before = out.len();
    encoder.encode(&append(2, 2, 7, Vec::new(), 7), &mut out);
    assert_eq!(out[before..], hex("01 0000000000000000 0000000000000007"));
    let before = out.len();
    // One that was sent out of order is whole again.
    encoder.encode(&append(2, 2, 4, vec![entry(2, 5, "a")], 7), &mut out);
    assert_eq!(out[before], 2);
}

#[test]
fn lengths_beyond_the_limit_and_unknown_types_end_the_stream() {
    let huge = |first: &[u8]| [first, &u64::MAX.to_be_bytes()].concat();
    for (kind, bytes) in [
        (StreamKind::Message, huge(&[])),
        (StreamKind::MsgApp, huge(&[2])),
        (StreamKind::MsgApp, huge(&[&[1][..], &1_u64.to_be_bytes()].concat())),
    ] {
        assert!(matches!(decode_all(kind, &bytes, 100), Err(StreamError::TooLong { .. })), "{kind:?}");
    }
    let over = (FRAME_LIMIT as u64 + 1).to_be_bytes();
    assert!(matches!(decode_all(StreamKind::Message, &over, 8), Err(StreamError::TooLong { .. })));
    assert_eq!(decode_all(StreamKind::MsgApp, &[3], 1), Err(StreamError::UnknownType { found: 3 }));
    let garbled = [&2_u64.to_be_bytes()[..], &[0xff, 0xff]].concat();
    assert!(matches!(decode_all(StreamKind::Message, &garbled, 4), Err(StreamError::Protobuf { .. })));
    // An announced number of entries is nothing that memory is kept ready for.
    let many = [&[1][..], &u64::MAX.to_be_bytes()].concat();
    assert_eq!(decode_all(StreamKind::MsgApp, &many, 9), Ok(Vec::new()));
}

#[test]
fn entries_of_one_frame_count_together() {
    let mut decoder = MsgAppDecoder::new(2, 1, 64);
    let one = entry(1, 1, "0123456789012345678901234567").encode();
    let mut bytes = [&[1][..], &3_u64.to_be_bytes()].concat();
    for _ in 0..3 {
        bytes.extend_from_slice(&(one.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&one);
    }
    let found = decoder.decode(&mut BytesMut::from(&bytes[..]));
    assert!(matches!(found, Err(StreamError::TooLong { limit: 64, .. })), "{found:?}");
    let mut small = MessageDecoder::new(1);
    let two = [&2_u64.to_be_bytes()[..], &[8, 8]].concat();
    assert!(small.decode(&mut BytesMut::from(&two[..])).is_err());
}

/// Appends of a leader: most continue the one before, some do not.
fn appends() -> impl Strategy<Value = Vec<Message>> {
    let step = (any::<bool>(), 0_usize..4, 1_u64..4, 0_u64..100, 0_usize..3000);
    prop::collection::vec(step, 0..30).prop_map(|steps| {
        let (mut term, mut index) = (1, 0);
        let mut messages = Vec::new();
        for (jump, count, new_term, commit, size) in steps {
            let log_term = if jump { 1.max(term - 1) } else { term };
            if jump {
                term = new_term.max(term);
            }
            let entries = (1..=count as u64).map(|i| Entry {
                term,
                index: index + i,
                data: vec![i as u8; size].into(),
                ..Entry::default()
            });
            let message = append(term, log_term, index, entries.collect(), commit);
            index += count as u64;
            messages.push(message);
        }
        messages
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_in_pieces_of_any_size(
        messages in appends(), piece in 1_usize..5000, msgapp in any::<bool>(),
    ) {
        let kind = if msgapp { StreamKind::MsgApp } else { StreamKind::Message };
        let mut encoder = StreamEncoder::new(kind);
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for message in messages {
            encoder.encode_heartbeat(&mut bytes);
            encoder.encode(&message, &mut bytes);
            expected.push(Frame::Heartbeat);
            expected.push(Frame::Message(Box::new(message)));
        }
        prop_assert_eq!(decode_all(kind, &bytes, piece), Ok(expected));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..200),
        piece in 1_usize..50, msgapp in any::<bool>(),
    ) {
        let kind = if msgapp { StreamKind::MsgApp } else { StreamKind::Message };
        let by_piece = decode_all(kind, &bytes, piece);
        prop_assert_eq!(by_piece, decode_all(kind, &bytes, 1));
    }
}
