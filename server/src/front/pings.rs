//! Clients that ping too often are sent away, as gRPC's servers do: `GOAWAY` with `ENHANCE_YOUR_CALM` and the word
//! `too_many_pings`, on which gRPC's clients slow down. The HTTP/2 library answers pings without telling anybody, so the
//! heads of frames are read here as they pass; what frames mean otherwise is not known here.

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_LEN: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// Pings that are too early and forgiven, until something is sent to the client.
const FORGIVEN: u32 = 2;
/// The shortest pause between pings while no call is under way.
const IDLE_MIN: Duration = Duration::from_secs(2 * 3600);

/// `GOAWAY` for all streams: last stream 2^31-1, code 11.
const FAREWELL: &[u8] = b"\x00\x00\x16\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x0btoo_many_pings";

/// Finds the heads of frames in bytes that come in any pieces.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_LEN],
    /// Bytes of the head that are known.
    known: usize,
    /// Bytes of the payload that are to come.
    left: usize,
}

/// What is looked at of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEAD_LEN - self.known).min(bytes.len());
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEAD_LEN {
                let [a, b, c, kind, flags, s @ ..] = self.head;
                found(Frame { kind, flags, stream: u32::from_be_bytes(s) & 0x7fff_ffff });
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.known = 0;
            }
        }
    }

    /// No frame is begun.
    fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0
    }
}

/// The rule itself, with the time as an argument.
#[derive(Debug)]
struct Patience {
    min: Duration,
    last: Option<Instant>,
    strikes: u32,
    /// Calls under way.
    open: HashSet<u32>,
    newest: u32,
}

impl Patience {
    fn new(min: Duration) -> Patience {
        Patience { min, last: None, strikes: 0, open: HashSet::new(), newest: 0 }
    }

    /// A frame of the client; whether it is one ping too many.
    fn received(&mut self, frame: Frame, now: Instant) -> bool {
        match frame.kind {
            HEADERS if frame.stream > self.newest => {
                self.newest = frame.stream;
                self.open.insert(frame.stream);
            }
            RST_STREAM => _ = self.open.remove(&frame.stream),
            PING if frame.flags & ACK == 0 => {
                let min = if self.open.is_empty() { IDLE_MIN } else { self.min };
                let early = self.last.is_some_and(|last| now.saturating_duration_since(last) < min);
                self.last = Some(now);
                self.strikes += u32::from(early);
                return self.strikes > FORGIVEN;
            }
            _ => {}
        }
        false
    }

    /// A frame to the client: who is told something may ask again whether we live.
    fn sent(&mut self, frame: Frame) {
        let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        if ends || frame.kind == RST_STREAM {
            self.open.remove(&frame.stream);
        }
        if matches!(frame.kind, DATA | HEADERS) {
            self.strikes = 0;
            self.last = None;
        }
    }
}

/// A connection on which pings are counted, if it speaks HTTP/2.
pub(super) struct Guarded<S> {
    stream: S,
    /// Bytes of the preface that have come; `None` for another protocol.
    preface: Option<usize>,
    inbound: Frames,
    outbound: Frames,
    patience: Patience,
    /// The client has gone too far: what is left to be said, and then nothing is read any more.
    farewell: Option<&'static [u8]>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, min: Duration) -> Guarded<S> {
        Guarded {
            stream,
            preface: Some(0),
            inbound: Frames::default(),
            outbound: Frames::default(),
            patience: Patience::new(min),
            farewell: None,
        }
    }

    fn look(&mut self, mut bytes: &[u8]) {
        let Some(seen) = self.preface else { return };
        if seen < PREFACE.len() {
            let part = bytes.len().min(PREFACE.len() - seen);
            if bytes[..part] != PREFACE[seen..seen + part] {
                self.preface = None;
                return;
            }
            self.preface = Some(seen + part);
            bytes = &bytes[part..];
        }
        let (now, patience) = (Instant::now(), &mut self.patience);
        let mut too_many = false;
        self.inbound.feed(bytes, |frame| too_many |= patience.received(frame, now));
        if too_many {
            self.farewell = Some(FAREWELL);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Says farewell as soon as no frame is half written; then the client is read no more.
    fn part(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.farewell.filter(|rest| !rest.is_empty() && self.outbound.is_between()) {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(written)) => self.farewell = Some(&rest[written..]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.farewell.is_some() {
            return self.part(context);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buf);
        if let Poll::Ready(Ok(())) = &read {
            self.look(&buf.filled()[before..]);
            if self.farewell.is_some() {
                buf.set_filled(before);
                return self.part(context);
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buf);
        if let (Poll::Ready(Ok(len)), true) = (&written, self.preface.is_some()) {
            let Guarded { outbound, patience, .. } = &mut *self;
            outbound.feed(&buf[..*len], |frame| patience.sent(frame));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Frame = Frame { kind: PING, flags: 0, stream: 0 };
    const CALL: Frame = Frame { kind: HEADERS, flags: 4, stream: 1 };

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = Vec::new();
        for (kind, len) in [(DATA, 3usize), (PING, 8), (HEADERS, 0)] {
            bytes.extend([0, 0, len as u8, kind, 1, 0, 0, 0, 5]);
            bytes.extend(vec![0xff; len]);
        }
        for piece in 1..bytes.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            bytes.chunks(piece).for_each(|piece| frames.feed(piece, |frame| found.push(frame.kind)));
            assert_eq!(found, [DATA, PING, HEADERS]);
            assert!(frames.is_between());
        }
    }

    #[test]
    fn two_early_pings_are_forgiven_and_answers_clear_the_score() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(Duration::from_secs(5));
        assert!(!patience.received(CALL, at(0)));
        // Often enough apart: never a strike.
        assert!((0..10).all(|n| !patience.received(ASK, at(5 * n))));
        assert!(!patience.received(ASK, at(46)));
        assert!(!patience.received(ASK, at(47)));
        patience.sent(Frame { kind: DATA, flags: 0, stream: 1 });
        assert!((48..51).all(|second| !patience.received(ASK, at(second))));
        assert!(patience.received(ASK, at(51)));
    }

    #[test]
    fn without_a_call_there_is_nothing_to_ask_for() {
        let start = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(5));
        let _ = patience.received(CALL, start);
        patience.sent(Frame { kind: HEADERS, flags: END_STREAM, stream: 1 });
        let pings = (0..4).map(|n| patience.received(ASK, start + Duration::from_secs(60 * n)));
        assert_eq!(pings.collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn the_farewell_is_one_frame() {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        frames.feed(FAREWELL, |frame| found.push(frame.kind));
        assert_eq!(found, [7]);
        assert!(frames.is_between());
    }
}
