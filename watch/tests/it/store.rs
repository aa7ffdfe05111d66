//! A store that keeps every event in a list, and short hands for tests.

use std::ops::ControlFlow;

use bytes::Bytes;
use stanchion_watch::{
    Event, EventKind, History, HistoryError, Hub, KeyRange, Response, ResponseKind, StreamId,
};

#[derive(Debug, Default, Clone)]
pub(crate) struct Store {
    pub(crate) events: Vec<Event>,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

impl History for Store {
    fn compact_revision(&self) -> i64 {
        self.compacted
    }

    fn scan(
        &self,
        from: i64,
        to: i64,
        wanted: &dyn Fn(&[u8]) -> bool,
        visit: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        assert!(from >= self.compacted, "asked for {from}, but {} is compacted", self.compacted);
        assert!(to <= self.revision, "asked for {to}, but the store is at {}", self.revision);
        for event in self.events.iter().filter(|e| (from..=to).contains(&e.revision) && wanted(&e.key)) {
            if visit(event.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Writes one revision and publishes it.
    pub(crate) fn write(&mut self, hub: &mut Hub, changes: &[(&[u8], EventKind)]) {
        self.revision += 1;
        let event = |&(key, kind): &(&[u8], EventKind)| Event {
            revision: self.revision,
            kind,
            created: false,
            key: Bytes::copy_from_slice(key),
            encoded: Bytes::copy_from_slice(key),
        };
        let batch: Vec<Event> = changes.iter().map(event).collect();
        self.events.extend_from_slice(&batch);
        hub.publish(self.revision, batch.into());
    }

    pub(crate) fn put(&mut self, hub: &mut Hub, key: &[u8]) {
        self.write(hub, &[(key, EventKind::Put)]);
    }

    /// Runs scans until nobody waits for one.
    pub(crate) fn catch_up(&self, hub: &mut Hub) {
        while let Some(job) = hub.begin_catch_up() {
            let done = job.run(self);
            assert_eq!(done.error, None);
            hub.finish_catch_up(done);
        }
    }
}

pub(crate) fn key(key: &str) -> KeyRange {
    KeyRange::new(key.as_bytes(), b"").unwrap()
}

pub(crate) fn range(key: &str, end: &str) -> KeyRange {
    KeyRange::new(key.as_bytes(), end.as_bytes()).unwrap()
}

/// Everything that waits in a stream, one short line each: `<watcher>@<header revision> …`.
pub(crate) fn drain(hub: &mut Hub, stream: StreamId) -> Vec<String> {
    std::iter::from_fn(|| hub.poll(stream)).map(line).collect()
}

pub(crate) fn line(response: Response) -> String {
    let what = match &response.kind {
        ResponseKind::Created => "created".to_owned(),
        ResponseKind::Canceled => "canceled".to_owned(),
        ResponseKind::Progress => "progress".to_owned(),
        ResponseKind::Compacted { compact_revision } => format!("compacted {compact_revision}"),
        ResponseKind::Events { events, .. } => {
            let one = |event: &Event| {
                let sign = if event.kind == EventKind::Put { "" } else { "-" };
                format!("{sign}{}:{}", event.revision, String::from_utf8_lossy(&event.key))
            };
            events.iter().map(one).collect::<Vec<_>>().join(" ")
        }
    };
    format!("{}@{} {what}", response.watch_id, response.revision)
}
