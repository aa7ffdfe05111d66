//! Connections on which the last question was answered, kept for the next one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::client::Connection;

/// A connection that was idle for longer is not used again: the other end closes it after 5 seconds.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(3);
/// Connections kept for one URL.
const KEPT_MAX: usize = 16;

#[derive(Debug)]
struct Kept {
    connection: Connection,
    since: Instant,
}

impl Kept {
    fn is_usable(&self) -> bool {
        self.connection.is_open() && self.since.elapsed() < IDLE_LIMIT
    }
}

/// Idle connections by URL.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    by_url: Mutex<BTreeMap<String, Vec<Kept>>>,
}

impl Idle {
    /// The connection that was used last, if one may still be open.
    pub(crate) fn take(&self, url: &str) -> Option<Connection> {
        let mut by_url = self.by_url.lock();
        let kept = by_url.get_mut(url)?;
        while let Some(last) = kept.pop() {
            if last.is_usable() {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection, and lets go of all that have become too old.
    pub(crate) fn put(&self, url: &str, connection: Connection) {
        let mut by_url = self.by_url.lock();
        for kept in by_url.values_mut() {
            kept.retain(Kept::is_usable);
        }
        by_url.retain(|known, kept| known == url || !kept.is_empty());
        let kept = by_url.entry(url.to_owned()).or_default();
        if kept.len() < KEPT_MAX {
            kept.push(Kept { connection, since: Instant::now() });
        }
    }
}
