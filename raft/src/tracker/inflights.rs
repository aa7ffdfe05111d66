//! The window of append messages that are on their way to one peer.

use std::collections::VecDeque;

use crate::mutant::{self, Mutant};

/// Messages in flight (pipelining: thesis, 10.2.2), limited by number and softly by payload bytes: the message that
/// crosses the byte limit still goes out, the next one waits.
///
/// Invariant: `len <= max_msgs`, indexes ascend, `bytes` is the sum over the window.
#[derive(Clone, Debug, Default)]
pub struct Inflights {
    window: VecDeque<(u64, u64)>,
    bytes: u64,
    max_msgs: usize,
    max_bytes: u64,
}

impl Inflights {
    pub(crate) fn new(max_msgs: usize, max_bytes: u64) -> Self {
        Self { window: VecDeque::new(), bytes: 0, max_msgs, max_bytes }
    }

    /// Records a message whose last entry is `last`, with `bytes` of payload.
    pub(crate) fn add(&mut self, last: u64, bytes: u64) {
        self.window.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// The newest message has got more before it left: it ends with `last` now and has `bytes` more of payload.
    pub(crate) fn extend_last(&mut self, last: u64, bytes: u64) {
        if let Some(newest) = self.window.back_mut() {
            newest.0 = last;
            newest.1 += bytes;
            self.bytes += bytes;
        }
    }

    /// Frees every message whose last entry is at most `index`.
    pub(crate) fn free_to(&mut self, index: u64) {
        if mutant::active(Mutant::InflightsNeverFreed) {
            return;
        }
        while let Some(&(last, bytes)) = self.window.front() {
            if last > index {
                break;
            }
            self.window.pop_front();
            self.bytes -= bytes;
        }
    }

    pub(crate) fn reset(&mut self) {
        self.window.clear();
        self.bytes = 0;
    }

    /// True when nothing more may be sent (pipelining: thesis, 10.2.2).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.window.len() >= self.max_msgs || (self.max_bytes != 0 && self.bytes >= self.max_bytes)
    }

    /// Messages in flight (thesis, 10.2.2).
    #[must_use]
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// True when nothing is in flight (pipelining: thesis, 10.2.1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// Payload bytes in flight (thesis, 10.2.2).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
