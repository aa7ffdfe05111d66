//! Every watcher against the whole history, whatever the interleaving of publishing, scans, stalls, compactions,
//! restores and cancels.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stanchion_watch::{CatchUp, CaughtUp, EventKind, Hub, KeyRange, Options, ResponseKind, StreamId};

use crate::store::Store;

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, bool)>),
    Create {
        stream: usize,
        begin: u8,
        end: Option<u8>,
        start: i64,
        no_put: bool,
        no_delete: bool,
    },
    Cancel {
        stream: usize,
        nth: usize,
    },
    Close {
        stream: usize,
    },
    BeginScan,
    RunScan,
    FinishScan,
    Poll {
        stream: usize,
        count: usize,
    },
    Compact {
        back: i64,
    },
    /// Writes that this hub never sees, then a restore.
    Snapshot {
        writes: u8,
    },
    AskProgress {
        stream: usize,
    },
    Tick {
        stream: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec((0u8..6, any::<bool>()), 1..4);
    prop_oneof![
        12 => changes.prop_map(Step::Write),
        4 => (0usize..3, 0u8..6, prop::option::of(0u8..8), -1i64..40, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(stream, begin, end, start, no_put, no_delete)| Step::Create {
                stream, begin, end, start, no_put, no_delete,
            }),
        1 => (0usize..3, 0usize..4).prop_map(|(stream, nth)| Step::Cancel { stream, nth }),
        1 => (0usize..3).prop_map(|stream| Step::Close { stream }),
        4 => Just(Step::BeginScan),
        4 => Just(Step::RunScan),
        4 => Just(Step::FinishScan),
        6 => (0usize..3, 0usize..5).prop_map(|(stream, count)| Step::Poll { stream, count }),
        1 => (0i64..12).prop_map(|back| Step::Compact { back }),
        1 => (0u8..4).prop_map(|writes| Step::Snapshot { writes }),
        2 => (0usize..3).prop_map(|stream| Step::AskProgress { stream }),
        2 => (0usize..3).prop_map(|stream| Step::Tick { stream }),
    ]
}

/// What a client of one watcher knows.
#[derive(Debug)]
struct Client {
    range: KeyRange,
    start: i64,
    no_put: bool,
    no_delete: bool,
    seen: Vec<(i64, Vec<u8>, EventKind)>,
    created: bool,
    ended: bool,
    /// A progress answer said that everything up to here was sent.
    promised: i64,
    header: i64,
}

#[derive(Debug, Default)]
struct World {
    store: Store,
    /// Uncompacted forever: what the clients are held against.
    all: Store,
    clients: BTreeMap<(StreamId, i64), Client>,
}

impl World {
    fn expected(&self, client: &Client, to: i64) -> Vec<(i64, Vec<u8>, EventKind)> {
        let wants = |kind| {
            !(kind == EventKind::Put && client.no_put || kind == EventKind::Delete && client.no_delete)
        };
        let events = self.all.events.iter();
        events
            .filter(|e| {
                e.revision >= client.start
                    && e.revision <= to
                    && client.range.contains(&e.key)
                    && wants(e.kind)
            })
            .map(|e| (e.revision, e.key.to_vec(), e.kind))
            .collect()
    }

    /// One answer arrives; everything seen must be the beginning of what is expected, in whole revisions.
    fn receive(&mut self, hub: &mut Hub, stream: StreamId) -> bool {
        let Some(response) = hub.poll(stream) else { return false };
        if response.watch_id == -1 {
            assert!(matches!(response.kind, ResponseKind::Progress));
            for ((of, _), client) in &mut self.clients {
                if *of == stream && client.created && !client.ended {
                    client.promised = client.promised.max(response.revision);
                }
            }
            return true;
        }
        let client = self.clients.get_mut(&(stream, response.watch_id)).expect("an answer names a watcher");
        assert!(!client.ended, "an answer after the end: {response:?}");
        assert_eq!(
            client.created,
            !matches!(response.kind, ResponseKind::Created),
            "created comes first, once"
        );
        match response.kind {
            ResponseKind::Created => client.created = true,
            ResponseKind::Canceled => client.ended = true,
            ResponseKind::Progress => client.promised = client.promised.max(response.revision),
            ResponseKind::Compacted { compact_revision } => {
                assert_eq!(response.revision, 0);
                let last = client.seen.last().map_or(client.start - 1, |seen| seen.0);
                assert!(last < compact_revision && compact_revision <= self.store.compacted);
                client.ended = true;
                hub.cancel(stream, response.watch_id);
                // Its answer is checked to be the only thing that follows.
                client.ended = false;
                client.created = true;
                client.promised = i64::MAX;
            }
            ResponseKind::Events { events, .. } => {
                assert!(!events.is_empty());
                assert!(response.revision >= client.header, "headers do not go back");
                client.header = response.revision;
                for event in events.iter() {
                    assert!(
                        event.revision > client.promised,
                        "an event after a promise of {}",
                        client.promised
                    );
                    assert!(event.revision <= response.revision);
                    client.seen.push((event.revision, event.key.to_vec(), event.kind));
                }
                let last = client.seen.last().unwrap().0;
                let client = &self.clients[&(stream, response.watch_id)];
                assert_eq!(client.seen, self.expected(client, last), "whole revisions, each once, in order");
            }
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("STANCHION_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000)
    ))]
    #[test]
    fn every_watcher_sees_its_history(steps in prop::collection::vec(step(), 1..150), capacity in 1usize..5) {
        let mut world = World::default();
        let mut hub = Hub::new(0, capacity);
        let mut streams: Vec<StreamId> = (0..3).map(|_| hub.open()).collect();
        let mut begun: Vec<CatchUp> = Vec::new();
        let mut run: Vec<CaughtUp> = Vec::new();
        for step in steps {
            match step {
                Step::Write(changes) => write(&mut world, &mut hub, &changes),
                Step::Create { stream, begin, end, start, no_put, no_delete } => {
                    let end = match end { None => vec![], Some(7) => vec![0], Some(end) => vec![end + 1] };
                    let Ok(range) = KeyRange::new(&[begin + 1], &end) else { continue };
                    let options = Options { start_revision: start, no_put, no_delete, progress_notify: true, ..Options::default() };
                    let stream = streams[stream];
                    match hub.create(stream, 0, range.clone(), options) {
                        Err(_) => prop_assert!(start < 0),
                        Ok(id) => {
                            let start = if start == 0 { world.store.revision + 1 } else { start };
                            let client = Client {
                                range, start, no_put, no_delete,
                                seen: Vec::new(), created: false, ended: false, promised: 0, header: 0,
                            };
                            world.clients.insert((stream, id), client);
                        }
                    }
                }
                Step::Cancel { stream, nth } => {
                    if let Some(&id) = hub.watch_ids(streams[stream]).get(nth) {
                        prop_assert!(hub.cancel(streams[stream], id));
                    }
                }
                Step::Close { stream } => {
                    hub.close(streams[stream]);
                    world.clients.retain(|(of, _), _| *of != streams[stream]);
                    streams[stream] = hub.open();
                }
                Step::BeginScan => begun.extend(hub.begin_catch_up()),
                Step::RunScan => if !begun.is_empty() { run.push(begun.remove(0).run(&world.store)) },
                Step::FinishScan => if !run.is_empty() { hub.finish_catch_up(run.remove(0)) },
                Step::Poll { stream, count } => {
                    for _ in 0..count {
                        world.receive(&mut hub, streams[stream]);
                    }
                }
                Step::Compact { back } => {
                    world.store.compacted = world.store.compacted.max(world.store.revision - back);
                }
                Step::Snapshot { writes } => {
                    let mut elsewhere = Hub::new(world.store.revision, 1);
                    for n in 0..writes {
                        write(&mut world, &mut elsewhere, &[(n, true)]);
                    }
                    hub.restore(world.store.revision);
                }
                Step::AskProgress { stream } => _ = hub.request_progress(streams[stream]),
                Step::Tick { stream } => hub.progress_tick(streams[stream]),
            }
        }
        // Let everything settle: then everybody has seen everything.
        run.extend(begun.into_iter().map(|job| job.run(&world.store)));
        run.into_iter().for_each(|done| hub.finish_catch_up(done));
        loop {
            let mut moved = false;
            for &stream in &streams {
                while world.receive(&mut hub, stream) { moved = true; }
            }
            if let Some(job) = hub.begin_catch_up() {
                hub.finish_catch_up(job.run(&world.store));
                moved = true;
            }
            if !moved { break; }
        }
        let revision = world.store.revision;
        for ((stream, id), client) in &world.clients {
            prop_assert!(client.created);
            if !client.ended {
                prop_assert_eq!(&client.seen, &world.expected(client, revision), "stream {:?} watcher {}", stream, id);
            }
        }
        prop_assert_eq!(hub.counts().slow_watchers, 0);
    }
}

fn write(world: &mut World, hub: &mut Hub, changes: &[(u8, bool)]) {
    let keys: Vec<([u8; 1], EventKind)> = changes
        .iter()
        .map(|&(key, put)| ([key + 1], if put { EventKind::Put } else { EventKind::Delete }))
        .collect();
    let changes: Vec<(&[u8], EventKind)> = keys.iter().map(|(key, kind)| (&key[..], *kind)).collect();
    world.store.write(hub, &changes);
    let new = world.store.events.len() - changes.len();
    world.all.events.extend_from_slice(&world.store.events[new..]);
}
