//! Any bytes are frames or an error, whatever the pieces in which they come; what was read is written and read again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use stanchion_peer::codec::{Frame, StreamDecoder, StreamEncoder, StreamError, StreamKind};
use stanchion_raft::MessageType;

fn read(kind: StreamKind, bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<StreamError>) {
    let (mut decoder, mut buf, mut frames) = (StreamDecoder::new(kind, 2, 1), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let [first, data @ ..] = data else { return };
    let kind = if first & 1 == 0 { StreamKind::Message } else { StreamKind::MsgApp };
    let (frames, error) = read(kind, data, data.len().max(1));
    assert_eq!(read(kind, data, usize::from(first >> 1) + 1), (frames.clone(), error));

    let mut encoder = StreamEncoder::new(kind);
    let mut written = Vec::new();
    let is_sent = |frame: &&Frame| match frame {
        Frame::Heartbeat => false,
        // The stream carries a leader's appends, whose entries follow each other.
        Frame::Message(message) => {
            let orderly = message.entries.iter().zip(1..).all(|(entry, i)| {
                message.index.checked_add(i) == Some(entry.index)
            });
            kind == StreamKind::Message
                || (message.msg_type == MessageType::App && message.from == 1 && message.to == 2 && orderly)
        }
    };
    let sent: Vec<Frame> = frames.iter().filter(is_sent).cloned().collect();
    for frame in &sent {
        if let Frame::Message(message) = frame {
            encoder.encode(message, &mut written);
        }
    }
    if kind == StreamKind::Message {
        assert_eq!(read(kind, &written, 7), (sent, None));
    } else {
        assert_eq!(read(kind, &written, 7).0.len(), sent.len());
    }
});
