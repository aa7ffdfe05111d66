//! A bounded queue of messages between whoever sends and one stream.
//!
//! It never makes the sender wait: what does not fit is given back. Its bounds are a number of messages and a number of
//! payload bytes, so that a peer that does not read holds neither memory nor the others up.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use stanchion_raft::Message;

/// Most messages that wait for one stream.
pub(crate) const QUEUE_MESSAGES: usize = 4096;
/// Most bytes of payload that wait for one stream. A single larger message is taken when nothing else waits.
pub(crate) const QUEUE_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    closed: bool,
    reader: Option<Waker>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

/// What became of a message; one that was not taken is given back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Taken,
    Full(Message),
    Closed(Message),
}

fn payload(message: &Message) -> usize {
    let entries: usize = message.entries.iter().map(|entry| entry.data.len() + 32).sum();
    64 + entries + message.context.len() + message.snapshot.as_ref().map_or(0, |s| s.data.len())
}

impl Queue {
    /// Adds a message at the end.
    pub(crate) fn push(&self, message: Message) -> Pushed {
        let reader = {
            let mut state = self.state.lock();
            if state.closed {
                return Pushed::Closed(message);
            }
            let bytes = payload(&message);
            let full = state.messages.len() >= QUEUE_MESSAGES || state.bytes + bytes > QUEUE_BYTES;
            if full && !state.messages.is_empty() {
                return Pushed::Full(message);
            }
            state.bytes += bytes;
            state.messages.push_back(message);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        Pushed::Taken
    }

    /// Nothing is taken any more. Gives the number of messages that were waiting and are lost.
    pub(crate) fn close(&self) -> usize {
        let (reader, lost) = {
            let mut state = self.state.lock();
            state.closed = true;
            state.bytes = 0;
            (state.reader.take(), std::mem::take(&mut state.messages).len())
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        lost
    }

    /// The next message; `None` once the queue is closed. Only one task may wait.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut state = self.state.lock();
        match state.messages.pop_front() {
            Some(message) => {
                state.bytes -= payload(&message);
                Poll::Ready(Some(message))
            }
            None if state.closed => Poll::Ready(None),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stanchion_raft::{Entry, MessageType};

    fn pop(queue: &Queue) -> Poll<Option<Message>> {
        queue.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn numbered(index: u64) -> Message {
        Message { index, ..Message::new(MessageType::App, 2) }
    }

    #[test]
    fn messages_come_out_in_order_and_the_queue_is_bounded_by_number() {
        let queue = Queue::default();
        for index in 0..QUEUE_MESSAGES as u64 {
            assert_eq!(queue.push(numbered(index)), Pushed::Taken);
        }
        assert_eq!(queue.push(numbered(9)), Pushed::Full(numbered(9)));
        for index in 0..QUEUE_MESSAGES as u64 {
            assert_eq!(pop(&queue), Poll::Ready(Some(numbered(index))));
        }
        assert_eq!(pop(&queue), Poll::Pending);
    }

    #[test]
    fn it_is_bounded_by_bytes_but_takes_one_large_message() {
        let queue = Queue::default();
        let large = Message { entries: vec![Entry::normal(vec![0; QUEUE_BYTES + 1])], ..numbered(1) };
        assert_eq!(queue.push(large.clone()), Pushed::Taken);
        assert_eq!(queue.push(numbered(2)), Pushed::Full(numbered(2)));
        assert_eq!(pop(&queue), Poll::Ready(Some(large)));
        assert_eq!(queue.push(numbered(2)), Pushed::Taken);
    }

    #[test]
    fn a_closed_queue_tells_what_is_lost_and_takes_nothing() {
        let queue = Queue::default();
        assert_eq!(queue.push(numbered(1)), Pushed::Taken);
        assert_eq!(queue.close(), 1);
        assert_eq!(queue.push(numbered(2)), Pushed::Closed(numbered(2)));
        assert_eq!(pop(&queue), Poll::Ready(None));
    }
}
