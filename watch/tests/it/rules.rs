//! One test per rule of a watcher's life.

use stanchion_watch::{
    CATCH_UP_REVISIONS_MAX, CATCH_UP_WATCHERS_MAX, CreateError, EventKind, HistoryError, Hub, KeyRange,
    Options, ResponseKind,
};

use crate::store::{Store, drain, key, range};

fn from(start_revision: i64) -> Options {
    Options { start_revision, ..Options::default() }
}

#[test]
fn wch_1_and_2_ranges_as_requests_name_them() {
    assert_eq!(KeyRange::new(b"", b""), KeyRange::new(b"\0", b""));
    let all = KeyRange::new(b"", b"\0").unwrap();
    assert!(all.contains(b"\0") && all.contains(b"\xff\xff"));
    for (begin, end) in [("b", "a"), ("b", "b"), ("\0", "\0\0")] {
        let made = KeyRange::new(begin.as_bytes(), end.as_bytes());
        assert_eq!(made.is_err(), begin == "b", "{begin:?}..{end:?}");
    }
    let some = range("b", "d");
    assert!(some.contains(b"b") && some.contains(b"czz") && !some.contains(b"d") && !some.contains(b"a"));
    assert!(key("b").contains(b"b") && !key("b").contains(b"b\0"));
}

#[test]
fn wch_3_and_4_ids() {
    let mut hub = Hub::new(1, 8);
    let stream = hub.open();
    hub.create(stream, 1, key("a"), from(0)).unwrap();
    assert_eq!(hub.create(stream, 0, key("a"), from(0)), Ok(0));
    assert_eq!(hub.create(stream, 0, key("a"), from(0)), Ok(2));
    assert_eq!(hub.create(stream, -4, key("a"), from(0)), Ok(-4));
    assert_eq!(hub.create(stream, 2, key("b"), from(0)), Err(CreateError::Duplicate { id: 2 }));
    let other = hub.open();
    assert_eq!(hub.create(other, 0, key("a"), from(0)), Ok(0));
    assert_eq!(drain(&mut hub, stream), ["1@1 created", "0@1 created", "2@1 created", "-4@1 created"]);
}

#[test]
fn wch_5_and_7_to_10_starts() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    store.put(&mut hub, b"a");
    store.put(&mut hub, b"a");
    let stream = hub.open();
    assert_eq!(
        hub.create(stream, 0, key("a"), from(-1)),
        Err(CreateError::NegativeStart { start_revision: -1 }),
        "and nothing is queued"
    );
    hub.create(stream, 10, key("a"), from(0)).unwrap();
    hub.create(stream, 11, key("a"), from(2)).unwrap();
    hub.create(stream, 12, key("a"), from(4)).unwrap();
    store.catch_up(&mut hub);
    store.put(&mut hub, b"a");
    store.put(&mut hub, b"a");
    let lines = drain(&mut hub, stream);
    assert_eq!(lines[..4], ["10@2 created", "11@2 created", "12@2 created", "11@2 2:a"]);
    assert_eq!(lines[4..], ["10@3 3:a", "11@3 3:a", "10@4 4:a", "11@4 4:a", "12@4 4:a"]);
}

#[test]
fn wch_11_to_13_compacted_starts() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    for _ in 0..5 {
        store.put(&mut hub, b"a");
    }
    store.compacted = 3;
    let stream = hub.open();
    hub.create(stream, 1, key("a"), from(2)).unwrap();
    hub.create(stream, 2, key("a"), from(3)).unwrap();
    store.catch_up(&mut hub);
    assert_eq!(drain(&mut hub, stream), ["1@5 created", "2@5 created", "1@0 compacted 3", "2@5 3:a 4:a 5:a"]);
    assert_eq!(hub.create(stream, 1, key("a"), from(0)), Err(CreateError::Duplicate { id: 1 }));
    assert_eq!(hub.counts().watchers, 1);
    assert!(hub.cancel(stream, 1));
    assert_eq!(hub.create(stream, 1, key("a"), from(0)), Ok(1));
    assert_eq!(drain(&mut hub, stream), ["1@5 canceled", "1@5 created"]);
}

#[test]
fn wch_15_to_18_cancel_and_close() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    hub.create(stream, 1, key("a"), from(0)).unwrap();
    store.put(&mut hub, b"a");
    assert!(hub.cancel(stream, 1));
    assert!(!hub.cancel(stream, 1));
    store.put(&mut hub, b"a");
    assert_eq!(drain(&mut hub, stream), ["1@0 created", "1@1 1:a", "1@1 canceled"]);
    hub.create(stream, 1, range("a", "z"), from(1)).unwrap();
    hub.close(stream);
    assert_eq!(hub.counts().watchers, 0);
    assert!(hub.begin_catch_up().is_none());
    assert!(hub.poll(stream).is_none());
}

#[test]
fn wch_21_and_27_one_revision_is_one_answer() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    hub.create(stream, 1, range("a", "c"), from(0)).unwrap();
    let changes: [(&[u8], EventKind); 4] = [
        (b"b", EventKind::Put),
        (b"x", EventKind::Put),
        (b"a", EventKind::Delete),
        (b"b", EventKind::Delete),
    ];
    store.write(&mut hub, &changes);
    hub.create(stream, 2, range("a", "c"), from(1)).unwrap();
    store.catch_up(&mut hub);
    assert_eq!(
        drain(&mut hub, stream),
        ["1@0 created", "1@1 1:b -1:a -1:b", "2@1 created", "2@1 1:b -1:a -1:b"]
    );
}

#[test]
fn wch_22_and_23_catching_up_takes_a_thousand_revisions_at_a_time() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let all = CATCH_UP_REVISIONS_MAX as i64 + 10;
    for _ in 0..all {
        store.write(&mut hub, &[(b"a", EventKind::Put), (b"a", EventKind::Delete)]);
    }
    let stream = hub.open();
    hub.create(stream, 1, key("a"), from(1)).unwrap();
    store.catch_up(&mut hub);
    let lines = drain(&mut hub, stream);
    let count = |line: &String| line.split(' ').count() - 1;
    assert_eq!(count(&lines[1]), 2 * CATCH_UP_REVISIONS_MAX);
    assert!(
        lines[1..].iter().all(|line| line.starts_with(&format!("1@{all} "))),
        "the header is the store's revision"
    );
    assert_eq!(lines[1..].iter().map(count).sum::<usize>(), 2 * all as usize);
}

#[test]
fn wch_25_filters_drop_kinds_and_leave_no_empty_answer() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    hub.create(stream, 1, key("a"), Options { no_put: true, ..from(0) }).unwrap();
    hub.create(stream, 2, key("a"), Options { no_delete: true, ..from(0) }).unwrap();
    hub.create(stream, 3, key("a"), Options { no_delete: true, no_put: true, ..from(0) }).unwrap();
    store.write(&mut hub, &[(b"a", EventKind::Put), (b"a", EventKind::Delete)]);
    drain(&mut hub, stream);
    store.put(&mut hub, b"a");
    hub.create(stream, 4, key("a"), Options { no_put: true, ..from(1) }).unwrap();
    store.catch_up(&mut hub);
    assert_eq!(drain(&mut hub, stream), ["2@2 2:a", "4@2 created", "4@2 -1:a"]);
    assert!(hub.request_progress(stream), "filters do not touch progress");
}

#[test]
fn wch_35_to_38_progress_by_the_clock() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    let told = Options { progress_notify: true, ..from(0) };
    store.put(&mut hub, b"b");
    hub.create(stream, 1, key("a"), told).unwrap();
    hub.create(stream, 2, key("a"), from(0)).unwrap();
    hub.create(stream, 3, key("b"), Options { start_revision: 1, ..told }).unwrap();
    hub.create(stream, 4, key("b"), Options { start_revision: 9, ..told }).unwrap();
    drain(&mut hub, stream);
    hub.progress_tick(stream);
    assert_eq!(drain(&mut hub, stream), ["1@1 progress"], "3 is behind, 4 has not begun");
    store.catch_up(&mut hub);
    store.put(&mut hub, b"a");
    hub.progress_tick(stream);
    assert_eq!(drain(&mut hub, stream), ["3@1 1:b", "1@2 2:a", "2@2 2:a"], "events say enough");
    hub.progress_tick(stream);
    assert_eq!(drain(&mut hub, stream), ["1@2 progress", "3@2 progress"]);
}

#[test]
fn wch_39_progress_on_request_waits_for_everybody() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    assert!(!hub.request_progress(stream), "no watchers");
    store.put(&mut hub, b"a");
    hub.create(stream, 1, key("a"), from(0)).unwrap();
    hub.create(stream, 2, key("a"), from(1)).unwrap();
    assert!(!hub.request_progress(stream));
    store.catch_up(&mut hub);
    assert!(hub.request_progress(stream));
    hub.create(stream, 3, key("a"), from(3)).unwrap();
    assert!(!hub.request_progress(stream), "a start in the future");
    store.put(&mut hub, b"x");
    assert!(hub.request_progress(stream), "everything before the start is known to be nothing");
    assert_eq!(
        drain(&mut hub, stream),
        ["1@1 created", "2@1 created", "2@1 1:a", "-1@1 progress", "3@1 created", "-1@2 progress"]
    );
}

#[test]
fn wch_41_42_and_45_a_full_stream_makes_its_own_watchers_wait() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 2));
    let (stuck, other) = (hub.open(), hub.open());
    hub.create(stuck, 1, key("a"), from(0)).unwrap();
    hub.create(other, 1, key("a"), from(0)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..600 {
        store.put(&mut hub, b"a");
        seen.extend(drain(&mut hub, other));
    }
    assert_eq!(seen.len(), 601);
    assert_eq!(hub.counts().slow_watchers, 1);
    assert!(!hub.request_progress(stuck));
    let mut lines = Vec::new();
    while hub.counts().slow_watchers > 0 {
        lines.extend(drain(&mut hub, stuck));
        store.catch_up(&mut hub);
    }
    lines.extend(drain(&mut hub, stuck));
    let events: Vec<&str> = lines[1..].iter().flat_map(|line| line.split(' ').skip(1)).collect();
    assert_eq!(events, (1..=600).map(|n| format!("{n}:a")).collect::<Vec<_>>());
}

#[test]
fn wch_43_a_lagging_watcher_is_overtaken_by_a_compaction() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 1));
    let stream = hub.open();
    hub.create(stream, 1, key("a"), from(0)).unwrap();
    for _ in 0..1_000 {
        store.put(&mut hub, b"a");
    }
    store.compacted = 500;
    assert_eq!(drain(&mut hub, stream), ["1@0 created", "1@1 1:a"]);
    store.catch_up(&mut hub);
    assert_eq!(drain(&mut hub, stream), ["1@0 compacted 500"]);
}

#[test]
fn wch_44_after_a_restore_everybody_resumes_from_history() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    hub.create(stream, 1, key("a"), from(0)).unwrap();
    hub.create(stream, 2, key("a"), from(5)).unwrap();
    store.put(&mut hub, b"a");
    // Revisions 2 to 4 come in a snapshot, which this hub never sees published.
    let mut elsewhere = Hub::new(1, 8);
    for _ in 0..3 {
        store.put(&mut elsewhere, b"a");
    }
    hub.restore(store.revision);
    store.catch_up(&mut hub);
    store.put(&mut hub, b"a");
    assert_eq!(
        drain(&mut hub, stream),
        ["1@0 created", "2@0 created", "1@1 1:a", "1@4 2:a 3:a 4:a", "1@5 5:a", "2@5 5:a"]
    );
}

#[test]
fn many_watchers_share_a_scan_and_a_failing_store_is_asked_again() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    store.put(&mut hub, b"a");
    for _ in 0..=CATCH_UP_WATCHERS_MAX {
        let stream = hub.open();
        hub.create(stream, 0, key("a"), from(1)).unwrap();
    }
    let job = hub.begin_catch_up().unwrap();
    assert_eq!(job.watchers(), CATCH_UP_WATCHERS_MAX);
    struct Broken;
    impl stanchion_watch::History for Broken {
        fn compact_revision(&self) -> i64 {
            0
        }
        fn scan(
            &self,
            _: i64,
            _: i64,
            _: &dyn Fn(&[u8]) -> bool,
            _: &mut dyn FnMut(stanchion_watch::Event) -> std::ops::ControlFlow<()>,
        ) -> Result<(), HistoryError> {
            Err(HistoryError::Failed("on fire".to_owned()))
        }
    }
    let failed = job.run(&Broken);
    assert_eq!(failed.error, Some(HistoryError::Failed("on fire".to_owned())));
    hub.finish_catch_up(failed);
    assert_eq!(hub.counts().slow_watchers, CATCH_UP_WATCHERS_MAX + 1);
    store.catch_up(&mut hub);
    assert_eq!(hub.counts().slow_watchers, 0);
}

#[test]
fn a_stream_is_named_once_until_it_is_drained() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    hub.create(stream, 0, key("a"), from(0)).unwrap();
    assert_eq!(hub.take_ready(), [stream]);
    store.put(&mut hub, b"a");
    assert_eq!(hub.take_ready(), []);
    drain(&mut hub, stream);
    store.put(&mut hub, b"b");
    assert_eq!(hub.take_ready(), []);
    store.put(&mut hub, b"a");
    assert_eq!(hub.take_ready(), [stream]);
}

#[test]
fn wch_30_wch_32_events_say_whether_previous_pairs_and_pieces_are_wanted() {
    let (mut store, mut hub) = (Store::default(), Hub::new(0, 8));
    let stream = hub.open();
    store.put(&mut hub, b"a");
    let wants = Options { prev_kv: true, fragment: true, ..from(1) };
    hub.create(stream, 1, key("a"), wants).unwrap();
    hub.create(stream, 2, key("a"), from(0)).unwrap();
    store.catch_up(&mut hub);
    store.put(&mut hub, b"a");
    let told: Vec<_> = std::iter::from_fn(|| hub.poll(stream))
        .filter_map(|response| match response.kind {
            ResponseKind::Events { prev_kv, fragment, .. } => Some((response.watch_id, prev_kv, fragment)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(1, true, true), (1, true, true), (2, false, false)], "from history, then live");
}
