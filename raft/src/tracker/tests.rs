//! Progress and windows against naive models, and the moves between states one by one.

use proptest::prelude::*;

use super::{Inflights, Progress, ProgressState};

fn progress(match_index: u64, next: u64) -> Progress {
    let mut pr = Progress::new(next, Inflights::new(4, 0), false);
    pr.match_index = match_index;
    pr
}

#[test]
fn becoming_probe_goes_behind_the_snapshot_or_the_match() {
    let mut pr = progress(3, 9);
    pr.become_replicate();
    pr.sent_entries(4, 0);
    pr.become_probe();
    assert_eq!((pr.state, pr.next, pr.inflights.len()), (ProgressState::Probe, 4, 0));
    pr.become_snapshot(20);
    assert_eq!((pr.next, pr.pending_snapshot, pr.is_paused()), (21, 20, true));
    pr.become_probe();
    assert_eq!((pr.next, pr.pending_snapshot), (21, 0));
    pr.become_snapshot(30);
    pr.abandon_snapshot();
    pr.become_probe();
    assert_eq!(pr.next, 4);
}

#[test]
fn an_empty_probe_does_not_pause_and_one_with_entries_does() {
    let mut pr = progress(3, 4);
    pr.sent_entries(0, 0);
    assert!(!pr.is_paused());
    pr.sent_entries(2, 10);
    assert!(pr.is_paused());
    pr.resume();
    assert!(!pr.is_paused());
}

#[test]
fn a_refused_probe_moves_back_and_never_to_the_match() {
    // (match, next, refused, hint) and where it goes on.
    for (start, refused, hint, next) in
        [((3, 9), 8, 5, Some(6)), ((3, 9), 8, 1, Some(4)), ((3, 9), 8, 20, Some(8)), ((3, 9), 7, 5, None)]
    {
        let mut pr = progress(start.0, start.1);
        assert_eq!(pr.maybe_decrease(refused, hint), next.is_some());
        assert_eq!(pr.next, next.unwrap_or(start.1));
    }
}

/// What may happen to a peer's progress.
#[derive(Clone, Debug)]
enum Event {
    Sent(u64, u64),
    Acked(u64),
    Refused(u64, u64),
    Probe,
    Replicate,
    Snapshot(u64),
    Resume,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5u64, 0..50u64).prop_map(|(n, bytes)| Event::Sent(n, bytes)),
        4 => (0..40u64).prop_map(Event::Acked),
        3 => (0..40u64, 0..40u64).prop_map(|(at, hint)| Event::Refused(at, hint)),
        1 => Just(Event::Probe),
        1 => Just(Event::Replicate),
        1 => (0..40u64).prop_map(Event::Snapshot),
        1 => Just(Event::Resume),
    ]
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    /// Whatever comes, in whatever order: match below next, match never back, and the window within its limits.
    #[test]
    fn progress_keeps_its_invariants(events in proptest::collection::vec(event(), 0..60), max in 1..4usize) {
        let mut pr = Progress::new(1, Inflights::new(max, 60), false);
        for event in events {
            let (matched, next) = (pr.match_index, pr.next);
            match event {
                // The sender puts nothing into a window that is full.
                Event::Sent(..) if pr.inflights.is_full() => pr.sent_entries(0, 0),
                Event::Sent(entries, bytes) if !pr.is_paused() => pr.sent_entries(entries, bytes),
                Event::Sent(..) => {}
                Event::Acked(index) => {
                    let news = pr.maybe_update(index);
                    prop_assert_eq!(news, index > matched);
                    pr.inflights.free_to(index);
                }
                Event::Refused(at, hint) => {
                    if pr.maybe_decrease(at, hint) {
                        prop_assert!(pr.next <= next);
                        prop_assert!(pr.state != ProgressState::Replicate || at > matched);
                    } else {
                        prop_assert_eq!(pr.next, next);
                    }
                }
                Event::Probe => pr.become_probe(),
                Event::Replicate => pr.become_replicate(),
                Event::Snapshot(index) => pr.become_snapshot(index.max(pr.match_index)),
                Event::Resume => pr.resume(),
            }
            prop_assert!(pr.match_index < pr.next, "{pr:?}");
            prop_assert!(pr.match_index >= matched);
            prop_assert!(pr.inflights.len() <= max);
            prop_assert!(pr.inflights.is_empty() || pr.state == ProgressState::Replicate, "{pr:?}");
            // At the latest by now no append would carry a commit index for nothing.
            prop_assert!(!pr.can_bump_commit(pr.sent_commit));
        }
    }

    /// The window is a list of (last index, bytes); freeing removes a prefix.
    #[test]
    fn the_window_is_a_list(ops in proptest::collection::vec((any::<bool>(), 1..9u64), 0..80), max in 1..6usize) {
        let limit = 20;
        let (mut window, mut model, mut last) = (Inflights::new(max, limit), Vec::<(u64, u64)>::new(), 0);
        for (add, n) in ops {
            let bytes: u64 = model.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(window.is_full(), model.len() >= max || bytes >= limit);
            if add && !window.is_full() {
                last += n;
                window.add(last, n);
                model.push((last, n));
            } else if !add {
                let to = last.saturating_sub(n);
                window.free_to(to);
                model.retain(|(index, _)| *index > to);
            }
            prop_assert_eq!((window.len(), window.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(window.bytes(), model.iter().map(|(_, bytes)| bytes).sum::<u64>());
        }
        window.reset();
        prop_assert_eq!((window.len(), window.bytes()), (0, 0));
    }
}
