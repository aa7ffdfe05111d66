//! What a watcher was told: every change of its range, once, in order, whole revisions, across reconnections.

use prost::Message as _;
use stanchion_api::mvccpb;
use stanchion_watch::{Events, Response, ResponseKind};

use super::model::Change;
use super::{Check, Model, hold};

/// Where a watcher stands.
#[derive(Clone, Debug)]
pub struct WatchState {
    /// The first key.
    pub key: Vec<u8>,
    /// Behind the last key.
    pub range_end: Vec<u8>,
    /// The first revision that it has not been told about: from here it watches again elsewhere.
    pub next: i64,
    /// It was told that its history is compacted, and must begin anew.
    pub gone: bool,
}

impl WatchState {
    /// A watcher of a range from a revision on.
    #[must_use]
    pub fn new(key: Vec<u8>, range_end: Vec<u8>, next: i64) -> WatchState {
        WatchState { key, range_end, next, gone: false }
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// Something is missing, twice, in the wrong order or wrong.
    pub fn take(&mut self, model: &Model, response: &Response) -> Check {
        match &response.kind {
            ResponseKind::Created | ResponseKind::Canceled => Ok(()),
            ResponseKind::Events { events, .. } => self.take_events(model, events),
            ResponseKind::Progress => self.pass(model, response.revision, "a progress notification"),
            ResponseKind::Compacted { compact_revision } => {
                hold!(
                    self.next < *compact_revision && *compact_revision <= model.compact_revision,
                    "a watcher that needs {} is told that it is compacted at {compact_revision}",
                    self.next
                );
                (self.next, self.gone) = (*compact_revision, true);
                Ok(())
            }
        }
    }

    /// Whether there is nothing up to `revision` that it has not been told.
    #[must_use]
    pub fn has_all(&self, model: &Model, revision: i64) -> bool {
        (self.next..=revision).all(|at| self.wanted(model, at).next().is_none())
    }

    fn wanted<'m>(&self, model: &'m Model, revision: i64) -> impl Iterator<Item = &'m Change> {
        let (key, end) = (self.key.clone(), self.range_end.clone());
        model.changes(revision).iter().filter(move |change| change.key >= key && change.key < end)
    }

    /// Everything up to `revision` is said to have been told.
    fn pass(&mut self, model: &Model, revision: i64, by: &str) -> Check {
        if let Some(missed) = (self.next..=revision).find(|at| self.wanted(model, *at).next().is_some()) {
            return Err(format!("{by} at {revision} passes over revision {missed}, which was not told"));
        }
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    fn take_events(&mut self, model: &Model, events: &Events) -> Check {
        let events: Vec<_> = events.iter().collect();
        for revision in events.chunk_by(|a, b| a.revision == b.revision) {
            let at = revision[0].revision;
            hold!(at >= self.next, "events of revision {at} are told again: {} is next", self.next);
            self.pass(model, at - 1, "an event")?;
            let told: Result<Vec<Change>, String> = revision.iter().map(|event| change(event)).collect();
            let (told, wanted) = (told?, self.wanted(model, at).cloned().collect::<Vec<_>>());
            hold!(told == wanted, "a watcher is told of revision {at}: {told:?}, which is {wanted:?}");
            self.next = at + 1;
        }
        Ok(())
    }
}

/// What a watcher reads from an event.
pub(crate) fn change(event: &stanchion_watch::Event) -> Result<Change, String> {
    let decoded = mvccpb::Event::decode(event.encoded.clone())
        .map_err(|e| format!("an event of revision {} is damaged: {e}", event.revision))?;
    let kv = decoded.kv.unwrap_or_default();
    let key = kv.key.clone();
    Ok(match decoded.r#type {
        0 => Change { key, pair: Some(kv) },
        _ => Change { key, pair: None },
    })
}
