//! Whether a peer is reached, and since when. Changes are logged; repetitions are not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::handler::Observer;

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    /// What was logged of a peer since it was reached last.
    said: Vec<String>,
    /// Streams on which the peer sent what cannot be read, and nothing better since. That it can be dialled is no news
    /// then, however often it is.
    garbled: BTreeSet<&'static str>,
}

/// Different failures that are logged of a peer that is not reached; its streams take turns in failing.
const SAID_MAX: usize = 8;

/// One peer's state, shared by everything that talks to it.
pub(crate) struct Status {
    peer_id: u64,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

impl Status {
    pub(crate) fn new(peer_id: u64, observer: Arc<dyn Observer>) -> Self {
        Self { peer_id, observer, state: Mutex::default() }
    }

    /// Since when the peer is reached without a break.
    pub(crate) fn active_since(&self) -> Option<Instant> {
        self.state.lock().since
    }

    /// Something has just gone to or come from the peer.
    pub(crate) fn activate(&self) {
        let mut state = self.state.lock();
        if state.since.is_none() {
            state.since = Some(Instant::now());
            if state.garbled.is_empty() {
                state.said.clear();
                tracing::info!(peer = %format_args!("{:x}", self.peer_id), "peer became active");
            }
            self.observer.active(self.peer_id);
        }
    }

    /// What came on a stream cannot be read.
    pub(crate) fn garbled(&self, stream: &'static str) {
        self.state.lock().garbled.insert(stream);
    }

    /// What came on a stream can be read.
    pub(crate) fn readable(&self, stream: &'static str) {
        self.state.lock().garbled.remove(stream);
    }

    /// Something has failed. The same failure again is not said again until the peer has been reached.
    pub(crate) fn deactivate(&self, what: &'static str, error: &dyn std::fmt::Display) {
        let reason = format!("{what}: {error}");
        let mut state = self.state.lock();
        let peer = format_args!("{:x}", self.peer_id);
        let was_active = state.since.take().is_some();
        if was_active {
            self.observer.inactive(self.peer_id);
        }
        if was_active && state.garbled.is_empty() {
            tracing::warn!(%peer, error = %reason, "peer became inactive");
        } else if state.said.len() == SAID_MAX || state.said.contains(&reason) {
            return;
        } else {
            tracing::warn!(%peer, error = %reason, "peer is not reached");
        }
        state.said.push(reason);
    }
}
