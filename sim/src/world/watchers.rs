//! Clients that watch: some a range of keys from the first revision on, and observers, who follow the leader of the
//! election from one to the next.

use stanchion_api::mvccpb::KeyValue;
use stanchion_watch::{Response, ResponseKind, StreamId};

use super::World;
use super::electors::{ELECTION, ELECTION_END};
use super::load::{Answer, Ask, Asker};
use super::node::or_stop;
use super::queue::Event;
use crate::check::{Change, Holders, Model, Observed, WatchState, change};
use crate::mutant::{self, Mutant};
use crate::random::Random;
use crate::trace::What;

/// A client that watches.
#[derive(Debug)]
pub(super) struct Watcher {
    /// What it was told.
    state: WatchState,
    /// Where it watches now.
    pub(super) slot: Option<usize>,
    start: u64,
    stream: StreamId,
    /// What an observer knows of the election.
    observer: Option<Observer>,
}

/// What an observer knows: it reads who leads, then watches that key until it goes, and reads again. While nobody
/// leads, it watches for the first key.
#[derive(Debug)]
struct Observer {
    seen: Observed,
    does: Does,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It will read who leads.
    Look,
    /// It has asked.
    Ask,
    /// It watches for the first key.
    Await,
    /// It watches the leader's key.
    Follow,
}

/// Between a watching client's looks, in microseconds.
const WATCHER_US: u64 = 100_000;

impl Watcher {
    fn new(state: WatchState, observer: Option<Observer>) -> Watcher {
        Watcher { state, slot: None, start: 0, stream: StreamId(0), observer }
    }

    /// It has not been told of everything.
    pub(super) fn behind(&self, model: &Model) -> Option<String> {
        match &self.observer {
            Some(Observer { does: Does::Look | Does::Ask, .. }) => Some("does not know who leads".to_owned()),
            _ if self.state.has_all(model, model.revision) => None,
            _ => Some(format!("was told up to {} of {}", self.state.next - 1, model.revision)),
        }
    }

    /// Takes an answer; returns whether it must watch anew, something else or elsewhere.
    fn take(&mut self, checks: (&Holders, &Model), response: &Response) -> Result<bool, String> {
        self.state.take(checks.1, response)?;
        let Some(observer) = &mut self.observer else { return Ok(self.state.gone) };
        if self.state.gone {
            observer.does = Does::Look;
            return Ok(true);
        }
        let ResponseKind::Events { events, .. } = &response.kind else { return Ok(false) };
        for event in events.iter() {
            let Change { pair, .. } = change(event)?;
            match (observer.does, pair) {
                (Does::Follow, None) => {
                    observer.does = Does::Look;
                    return Ok(true);
                }
                (_, None) => {}
                (does, Some(leader)) => {
                    observer.seen.shown(checks, ELECTION, Some(&leader), event.revision)?;
                    if does == Does::Await {
                        self.state = observer.follow(Some(&leader), event.revision);
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

impl Observer {
    /// It knows who leads at a revision, and watches what comes behind it.
    fn follow(&mut self, leader: Option<&KeyValue>, at: i64) -> WatchState {
        let (does, key, end) = match leader {
            Some(leader) => (Does::Follow, leader.key.to_vec(), [&leader.key[..], &[0]].concat()),
            None => (Does::Await, ELECTION.into(), ELECTION_END.into()),
        };
        self.does = does;
        WatchState::new(key, end, at + 1)
    }
}

impl World {
    /// Watching clients: some of everything, some of one key, from the first revision on; and observers.
    pub(super) fn add_watchers(&mut self) {
        for n in 0..self.scenario.watchers {
            let mut random = Random::of(self.scenario.seed, "watcher", n as u64);
            let (key, end) = match random.below(3) {
                0 => (b"k01".to_vec(), b"k02".to_vec()),
                _ => (b"k".to_vec(), b"l".to_vec()),
            };
            self.add_watcher(Watcher::new(WatchState::new(key, end, 2), None));
        }
        for _ in 0..self.scenario.observers {
            let state = WatchState::new(ELECTION.into(), ELECTION_END.into(), 2);
            let observer = Observer { seen: Observed::default(), does: Does::Look };
            self.add_watcher(Watcher::new(state, Some(observer)));
        }
    }

    fn add_watcher(&mut self, watcher: Watcher) {
        self.queue.plan(1_500_000, Event::Watcher(self.watchers.len()));
        self.watchers.push(watcher);
    }

    /// A watching client takes what has come, or connects anew.
    pub(super) fn watcher_turn(&mut self, n: usize) -> Result<(), String> {
        let at = self.now + self.load_random.below(2 * WATCHER_US) + 1;
        self.queue.plan(at, Event::Watcher(n));
        match self.watchers[n].observer.as_ref().map(|observer| observer.does) {
            Some(Does::Look) => {
                self.look(n);
                return Ok(());
            }
            Some(Does::Ask) => return Ok(()),
            Some(Does::Await | Does::Follow) | None => {}
        }
        let connected = self.watchers[n].slot.filter(|&slot| {
            self.slots[slot].node.as_ref().is_some_and(|node| node.start == self.watchers[n].start)
        });
        let connected = connected.filter(|slot| self.finish.is_none() || self.addressed().contains(slot));
        let Some(slot) = connected else { return self.connect(n) };
        self.with_node(slot, None, |world, node| {
            // It may take little at a time, so that it falls behind.
            let most = world.load_random.between(1, 12);
            let watcher = &mut world.watchers[n];
            let (before, mut anew) = (watcher.state.next, false);
            for _ in 0..most {
                let Some(response) = node.hub.poll(watcher.stream) else { break };
                let told = watcher.take((&world.holders, &world.ledger.model), &response);
                anew |= told.map_err(|what| format!("watcher {n} at member {:x}: {what}", node.id))?;
                if anew && watcher.observer.is_some() {
                    break;
                }
            }
            if watcher.state.next != before {
                let revision = (watcher.state.next - 1).cast_unsigned();
                world.trace.add(world.now, Some(slot), What::Watched(n as u64, revision));
            }
            if anew || world.load_random.chance(0.02) {
                node.hub.close(watcher.stream);
                watcher.slot = None;
            } else if world.load_random.chance(0.2) {
                node.hub.request_progress(watcher.stream);
            }
            world.wake_catch_up(slot, node);
            Ok(())
        })
    }

    fn connect(&mut self, n: usize) -> Result<(), String> {
        let mut up = self.addressed();
        up.retain(|&slot| self.slots[slot].node.is_some());
        if up.is_empty() {
            return Ok(());
        }
        let slot = *self.load_random.pick(&up);
        self.with_node(slot, None, |world, node| {
            let watcher = &mut world.watchers[n];
            let state = &mut watcher.state;
            state.gone = false;
            let range = or_stop!(stanchion_watch::KeyRange::new(&state.key, &state.range_end), "watch");
            let late = i64::from(mutant::active(Mutant::WatchStartsLate));
            let options =
                stanchion_watch::Options { start_revision: state.next + late, ..Default::default() };
            (watcher.slot, watcher.start) = (Some(slot), node.start);
            watcher.stream = node.hub.open();
            or_stop!(node.hub.create(watcher.stream, 0, range, options), "watch");
            world.wake_catch_up(slot, node);
            Ok(())
        })
    }

    /// An observer asks who leads.
    fn look(&mut self, n: usize) {
        let candidates = self.addressed();
        let Some(observer) = self.watchers[n].observer.as_mut().filter(|_| !candidates.is_empty()) else {
            return;
        };
        observer.does = Does::Ask;
        let slot = *self.election_random.pick(&candidates);
        let op = self.number();
        let linearizable = !mutant::active(Mutant::ObserverReadsStale);
        let takes = 50 + self.election_random.below(1000);
        let ask = Ask::Read(ELECTION.into(), ELECTION_END.into(), linearizable);
        self.ask(op, Asker::Observer(n), slot, ask, None, takes);
    }

    /// An observer learns who leads.
    pub(super) fn observer_learns(&mut self, n: usize, answer: &Answer<'_>) -> Result<(), String> {
        let watcher = &mut self.watchers[n];
        let Some(observer) = &mut watcher.observer else { return Ok(()) };
        let Answer::Pairs(at, pairs) = answer else {
            observer.does = Does::Look;
            return Ok(());
        };
        let leader = match mutant::active(Mutant::ObserverFollowsLast) {
            false => pairs.iter().min_by_key(|pair| pair.create_revision),
            true => pairs.iter().max_by_key(|pair| pair.create_revision),
        };
        let shown = observer.seen.shown((&self.holders, &self.ledger.model), ELECTION, leader, *at);
        shown.map_err(|what| format!("watcher {n}: {what}"))?;
        watcher.state = observer.follow(leader, *at);
        Ok(())
    }
}
