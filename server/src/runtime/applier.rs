//! The applier: committed entries in order, watchers and waiters told, leases counted while this member leads.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender as Queue, TryRecvError};
use parking_lot::Mutex;
use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use stanchion_lease::{RenewError, Renewal};
use stanchion_raft::Role;
use stanchion_replica::apply::{Applier, Effect, NO_SPACE};
use stanchion_replica::consensus::{ApplyWork, Leadership};
use stanchion_replica::version::Version;
use tokio::sync::oneshot;

use super::fatal;
use super::figures::ApplyFigures;
use super::handle::Handle;
use super::install::Installer;
use super::raft_loop::ToRaft;
use super::shared::{Shared, View};
use super::turns::await_input;
use super::versions;
use super::watch::WatchHub;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// What the applier is told and asked.
#[derive(Debug)]
pub(super) enum ToApplier {
    /// Committed entries.
    Work(ApplyWork),
    /// A leader's snapshot is in the log and its database was received: put that in place, then say so.
    Install { index: u64, done: Sender<()> },
    /// The leader or this member's role has changed.
    Leadership(Leadership),
    /// Renew a lease.
    Renew(i64, oneshot::Sender<Result<Renewal, RenewError>>),
    /// Look a lease up; `None` if there is none.
    TimeToLive(i64, bool, oneshot::Sender<Option<pb::LeaseTimeToLiveResponse>>),
    /// All leases.
    Leases(oneshot::Sender<Vec<i64>>),
    /// End.
    Stop,
}

pub(super) struct ApplierLoop {
    pub(super) applier: Applier,
    pub(super) inbox: Receiver<ToApplier>,
    pub(super) to_raft: Queue<ToRaft>,
    pub(super) shared: Arc<Shared>,
    pub(super) watch: Arc<WatchHub>,
    pub(super) peers: Arc<Peers>,
    pub(super) handle: Weak<Handle>,
    pub(super) clock: Instant,
    pub(super) metrics: Arc<Metrics>,
    pub(super) figures: ApplyFigures,
    /// Which settings the others see; at first none.
    pub(super) shown: u64,
    /// What a new primary gives every lease on top: the election timeout.
    pub(super) extend_ms: u64,
    /// The term in which this member leads.
    pub(super) leads: Option<u64>,
    /// The newest term whose first entry is applied.
    pub(super) opened_term: u64,
    pub(super) installer: Installer,
}

/// The applier as others see it.
#[derive(Clone)]
pub(super) struct ApplierInbox {
    pub(super) applier: Arc<Mutex<ApplierLoop>>,
    pub(super) queue: Queue<ToApplier>,
}

impl ApplierInbox {
    /// Leaves `input` to the applier's thread. If that is gone, the member stops.
    pub(super) fn send(&self, input: ToApplier) {
        let _ = self.queue.send(input);
    }

    /// Answers `question`, which takes no longer than a wake-up, here and now if the applier is idle; else its thread will.
    pub(super) fn ask(&self, question: ToApplier) {
        match self.applier.try_lock().filter(|applier| applier.is_idle()) {
            Some(mut applier) => applier.take(question),
            None => self.send(question),
        }
    }
}

impl ApplierLoop {
    /// The applier's thread. Others may apply in its place while its inbox is empty: see `turns`.
    pub(super) fn run(applier: &Mutex<ApplierLoop>) {
        let inbox = applier.lock().inbox.clone();
        let mut next_round = Instant::now();
        loop {
            await_input(&inbox, next_round);
            let mut applier = applier.lock();
            match inbox.try_recv() {
                Ok(ToApplier::Stop) | Err(TryRecvError::Disconnected) => return,
                Ok(input) => applier.take(input),
                Err(TryRecvError::Empty) => {}
            }
            if Instant::now() >= next_round {
                next_round = Instant::now() + Duration::from_millis(stanchion_lease::ROUND_MS);
                applier.offer_leases();
            }
        }
    }

    /// Nothing waits to be applied.
    pub(super) fn is_idle(&self) -> bool {
        self.inbox.is_empty()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, input: ToApplier) {
        match input {
            ToApplier::Work(work) => {
                let to_raft = self.to_raft.clone();
                self.apply(work, |applied| {
                    // A thread that is gone means that the member stops.
                    let _ = to_raft.send(applied);
                });
            }
            ToApplier::Install { index, done } => {
                self.install(index);
                // The log writer ends only after the applier.
                let _ = done.send(());
            }
            ToApplier::Leadership(leadership) => {
                self.leads = (leadership.role == Role::Leader).then_some(leadership.term);
                self.settle_primary();
            }
            ToApplier::Renew(id, reply) => {
                let now_ms = self.now_ms();
                let renewal = self.applier.lessor_mut().renew(now_ms, id);
                if matches!(renewal, Ok(Renewal::Renewed { .. })) {
                    self.metrics.debugging.leases_renewed.inc();
                }
                let _ = reply.send(renewal);
            }
            ToApplier::TimeToLive(id, keys, reply) => {
                let _ = reply.send(self.time_to_live(id, keys));
            }
            ToApplier::Leases(reply) => {
                let _ = reply.send(self.applier.lessor().list());
            }
            ToApplier::Stop => unreachable!("taken before"),
        }
    }

    /// Applies a batch; `tell_raft` is how raft hears of it.
    pub(super) fn apply(&mut self, work: ApplyWork, tell_raft: impl FnOnce(ToRaft)) {
        let now_ms = self.now_ms();
        self.figures.begin();
        let figures = &mut self.figures;
        let done = match self.applier.apply_work(now_ms, work, |entry, effect| figures.applied(entry, effect))
        {
            Ok(done) => done,
            Err(error) => fatal("a committed entry cannot be applied", &error),
        };
        let opened_term = done.opened_term.is_some();
        if let Some(term) = done.opened_term {
            self.opened_term = term;
        }
        if self.applier.settings_changed() != self.shown {
            self.show_settings();
        }
        if !done.changes.is_empty() {
            self.peers.follow(self.applier.cluster());
        }
        let applied = self.applier.applied();
        self.shared.applied_term.store(applied.term, Ordering::Relaxed);
        self.shared.applied.store(applied.index, Ordering::Relaxed);
        self.settle_primary();
        let mut outcomes = Vec::with_capacity(done.effects.len());
        for effect in done.effects {
            self.announce(&effect);
            outcomes.push((effect.id, effect.result));
        }
        // Raft hears of membership changes before those who wait for them: their next one must not meet an open one.
        let waiters_last = !done.changes.is_empty();
        let applied = ToRaft::Applied { work: done.work, changes: done.changes, opened_term };
        if !waiters_last {
            self.shared.tell(std::mem::take(&mut outcomes));
        }
        tell_raft(applied);
        self.shared.tell(outcomes);
    }

    /// Most batches change no settings, and then nothing is copied.
    pub(super) fn show_settings(&mut self) {
        let view = View::of(&self.applier);
        if let Some(cluster) = view.cluster_version.as_deref().and_then(Version::parse)
            && cluster > versions::own()
        {
            fatal("the cluster has gone on to a release that this one does not know", &cluster);
        }
        *self.shared.view.write() = view;
        self.shown = self.applier.settings_changed();
    }

    /// Watchers hear of a revision before anybody can read it as applied.
    fn announce(&mut self, effect: &Effect) {
        if let Some((revision, events)) = &effect.events {
            self.watch.publish(*revision, events.clone());
        }
        if effect.raise_no_space {
            tracing::warn!("message exceeded backend quota; raising alarm");
            let alarm = pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Activate as i32,
                member_id: self.shared.identity.member_id,
                alarm: NO_SPACE,
            };
            self.propose(RequestKind::Alarm, &alarm.encode_to_vec());
        }
    }

    /// A member counts time from the first applied entry of its own term until it no longer leads.
    fn settle_primary(&mut self) {
        let should = self.leads.is_some_and(|term| self.opened_term >= term);
        let now_ms = self.now_ms();
        let extend_ms = self.extend_ms;
        let lessor = self.applier.lessor_mut();
        match (should, lessor.is_primary()) {
            (true, false) => lessor.promote(now_ms, extend_ms),
            (false, true) => lessor.demote(),
            _ => {}
        }
    }

    fn offer_leases(&mut self) {
        let now_ms = self.now_ms();
        self.applier.lessor_mut().handle_tick(now_ms);
        while let Some(batch) = self.applier.lessor_mut().take_expired() {
            for id in batch {
                self.metrics.debugging.leases_expired.inc();
                self.propose(RequestKind::LeaseRevoke, &pb::LeaseRevokeRequest { id }.encode_to_vec());
            }
        }
        while let Some(batch) = self.applier.lessor_mut().take_checkpoints() {
            let checkpoint = |c: stanchion_lease::Checkpoint| pb::LeaseCheckpoint {
                id: c.id,
                remaining_ttl: c.remaining_seconds,
            };
            let request =
                pb::LeaseCheckpointRequest { checkpoints: batch.into_iter().map(checkpoint).collect() };
            self.propose(RequestKind::LeaseCheckpoint, &request.encode_to_vec());
        }
    }

    /// Proposes on the member's own behalf; nobody waits for the answer.
    fn propose(&self, kind: RequestKind, request: &[u8]) {
        if let Some(handle) = self.handle.upgrade() {
            handle.propose_unwaited(kind, request);
        }
    }

    fn time_to_live(&self, id: i64, keys: bool) -> Option<pb::LeaseTimeToLiveResponse> {
        let lessor = self.applier.lessor();
        let left = lessor.time_to_live(self.now_ms(), id)?;
        let keys = if keys { lessor.keys(id).map(|key| key.to_vec().into()).collect() } else { Vec::new() };
        Some(pb::LeaseTimeToLiveResponse {
            header: None,
            id,
            ttl: left.remaining_seconds,
            granted_ttl: left.granted_seconds,
            keys,
        })
    }
}
