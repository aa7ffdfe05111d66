//! A lessor beside the rules as they read: a map of leases without any index, searched from end to end, under a hand
//! clock. After every step both must say the same.
//!
//! The random test in `model.rs` and the fuzz target `lease_requests` choose the steps; they share this file. Not
//! modelled: how a promotion spreads a thousand leases and more, what a round does that finds more than a batch, and
//! which checkpoints are offered. Those have tests of their own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stanchion_lease::{
    Config, EXPIRED_BATCHES_MAX, Error, Lessor, MAX_TTL_SECONDS, ROUND_MS, RenewError, Renewal, Stored,
};

/// One call, or time that passes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
    Attach { id: i64, key: u8 },
    Detach { key: u8 },
    Checkpoint { id: i64, remaining: i64 },
    Renew { id: i64 },
    Promote { extend_ms: u64 },
    Demote,
    Advance { ms: u64 },
    TakeExpired,
    TakeCheckpoints,
    Restart,
}

#[derive(Debug, Default)]
struct Lease {
    ttl: i64,
    remaining: i64,
    /// `None` while nobody counts time.
    deadline_ms: Option<u64>,
    /// When it comes again after it was offered for a revoke.
    retry_ms: Option<u64>,
    keys: BTreeSet<u8>,
}

impl Lease {
    fn start(&mut self, now_ms: u64, extend_ms: u64) {
        let seconds = if self.remaining > 0 { self.remaining } else { self.ttl };
        let full_ms = (seconds as u64).saturating_mul(1000);
        let deadline_ms = now_ms.saturating_add(extend_ms).saturating_add(full_ms);
        self.deadline_ms = Some(deadline_ms.min(u64::MAX - 1));
        self.retry_ms = None;
    }
}

/// Both sides.
#[derive(Debug)]
pub(crate) struct World {
    config: Config,
    lessor: Lessor,
    leases: BTreeMap<i64, Lease>,
    primary: bool,
    now_ms: u64,
    next_round_ms: u64,
    /// What the rounds have found, in batches: when each lease was due.
    expired: VecDeque<BTreeMap<i64, u64>>,
}

impl World {
    /// `None` if what was stored is refused, which it must be exactly for id 0 and for an id that comes twice.
    pub(crate) fn recover(config: Config, stored: &[Stored]) -> Option<Self> {
        let ids: BTreeSet<i64> = stored.iter().map(|lease| lease.id).collect();
        let sound = ids.len() == stored.len() && !ids.contains(&0);
        let recovered = Lessor::recover(config.clone(), stored.iter().copied());
        assert_eq!(recovered.is_ok(), sound, "{recovered:?}");
        let leases = stored.iter().map(|lease| {
            let ttl = lease.ttl_seconds.max(config.min_ttl_seconds);
            (lease.id, Lease { ttl, remaining: lease.remaining_seconds.max(0), ..Lease::default() })
        });
        Some(Self {
            lessor: recovered.ok()?,
            leases: leases.collect(),
            config,
            primary: false,
            now_ms: 0,
            next_round_ms: 0,
            expired: VecDeque::new(),
        })
    }

    /// Does `step` on both sides and compares.
    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Grant { id, ttl } => self.grant(id, ttl),
            Step::Revoke { id } => self.revoke(id),
            Step::Attach { id, key } => self.attach(id, key),
            Step::Detach { key } => self.detach(key),
            Step::Checkpoint { id, remaining } => self.checkpoint(id, remaining),
            Step::Renew { id } => self.renew(id),
            Step::Promote { extend_ms } => self.promote(extend_ms),
            Step::Demote => {
                self.lessor.demote();
                self.stop_counting();
            }
            Step::Advance { ms } => self.advance(ms),
            Step::TakeExpired => self.take_expired(),
            Step::TakeCheckpoints => {
                while let Some(batch) = self.lessor.take_checkpoints() {
                    assert!(!batch.is_empty() && self.primary);
                }
            }
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn lease(&mut self, id: i64) -> &mut Lease {
        self.leases.get_mut(&id).expect("the lessor has it")
    }

    fn grant(&mut self, id: i64, ttl: i64) {
        let granted = self.lessor.grant(self.now_ms, id, ttl);
        let expected = match id {
            _ if ttl > MAX_TTL_SECONDS => Err(Error::TtlTooLarge { ttl_seconds: ttl }),
            0 => Err(Error::ZeroId),
            _ if self.leases.contains_key(&id) => Err(Error::Exists { id }),
            _ => Ok(ttl.max(self.config.min_ttl_seconds)),
        };
        assert_eq!(granted.map(|stored| stored.ttl_seconds), expected);
        if let Ok(ttl) = expected {
            let mut lease = Lease { ttl, ..Lease::default() };
            if self.primary {
                lease.start(self.now_ms, 0);
            }
            self.leases.insert(id, lease);
        }
    }

    fn revoke(&mut self, id: i64) {
        let keys: Result<Vec<u8>, _> =
            self.lessor.revoke(id).map(|keys| keys.iter().map(|key| key[0]).collect());
        let expected = self.leases.remove(&id).ok_or(Error::NotFound { id });
        assert_eq!(keys, expected.map(|lease| lease.keys.into_iter().collect()), "keys ascend");
    }

    fn attach(&mut self, id: i64, key: u8) {
        let attached = self.lessor.attach(id, &[key]);
        if !self.leases.contains_key(&id) {
            assert_eq!(attached, Err(Error::NotFound { id }));
            return;
        }
        assert_eq!(attached, Ok(()));
        self.take_off(key);
        self.lease(id).keys.insert(key);
    }

    fn detach(&mut self, key: u8) {
        let from = self.leases.iter().find(|(_, lease)| lease.keys.contains(&key)).map(|(id, _)| *id);
        assert_eq!(self.lessor.detach(&[key]), from);
        self.take_off(key);
    }

    fn take_off(&mut self, key: u8) {
        for lease in self.leases.values_mut() {
            lease.keys.remove(&key);
        }
    }

    fn checkpoint(&mut self, id: i64, remaining: i64) {
        let done = self.lessor.checkpoint(self.now_ms, id, remaining);
        let Some(lease) = self.leases.get_mut(&id) else {
            assert_eq!(done, Err(Error::NotFound { id }));
            return;
        };
        lease.remaining = remaining.max(0);
        assert_eq!(done.map(|stored| stored.remaining_seconds), Ok(lease.remaining));
    }

    fn renew(&mut self, id: i64) {
        let now_ms = self.now_ms;
        let expected = match self.leases.get(&id) {
            _ if !self.primary => Err(RenewError::NotPrimary),
            None => Err(RenewError::NotFound { id }),
            Some(Lease { deadline_ms: Some(at_ms), .. }) if *at_ms <= now_ms => {
                Err(RenewError::Expired { id, late_ms: now_ms - at_ms })
            }
            Some(lease) if lease.remaining > 0 => Ok(Renewal::ClearCheckpoint),
            Some(lease) => Ok(Renewal::Renewed { ttl_seconds: lease.ttl }),
        };
        assert_eq!(self.lessor.renew(now_ms, id), expected);
        if let Ok(Renewal::Renewed { .. }) = expected {
            self.lease(id).start(now_ms, 0);
        }
    }

    fn promote(&mut self, extend_ms: u64) {
        let now_ms = self.now_ms;
        self.lessor.promote(now_ms, extend_ms);
        self.stop_counting();
        (self.primary, self.next_round_ms) = (true, now_ms);
        self.leases.values_mut().for_each(|lease| lease.start(now_ms, extend_ms));
    }

    fn stop_counting(&mut self) {
        self.primary = false;
        self.expired.clear();
        self.leases.values_mut().for_each(|lease| (lease.deadline_ms, lease.retry_ms) = (None, None));
    }

    fn advance(&mut self, ms: u64) {
        self.now_ms = self.now_ms.saturating_add(ms);
        self.lessor.handle_tick(self.now_ms);
        if self.primary && self.now_ms >= self.next_round_ms {
            self.next_round_ms = self.now_ms.saturating_add(ROUND_MS);
            self.find_expired();
        }
    }

    fn find_expired(&mut self) {
        if self.expired.len() == EXPIRED_BATCHES_MAX {
            return;
        }
        // In the last millisecond of the clock nothing comes again.
        let now_ms = self.now_ms.min(u64::MAX - 1);
        let again_ms = now_ms.saturating_add(self.config.retry_ms.max(1));
        let mut batch = BTreeMap::new();
        for (&id, lease) in &mut self.leases {
            let due_ms = lease.retry_ms.or(lease.deadline_ms).expect("a primary counts time");
            if due_ms <= now_ms {
                batch.insert(id, due_ms);
                lease.retry_ms = Some(again_ms);
            }
        }
        if !batch.is_empty() {
            self.expired.push_back(batch);
        }
    }

    fn take_expired(&mut self) {
        while let Some(batch) = self.lessor.take_expired() {
            let due = self.expired.pop_front().expect("nothing else has run out");
            let order: Vec<u64> = batch.iter().map(|id| due[id]).collect();
            assert!(order.is_sorted(), "{batch:?} were due at {order:?}");
            let offered: BTreeSet<i64> = batch.iter().copied().collect();
            assert_eq!(offered.len(), batch.len(), "no lease is offered twice in a batch");
            assert!(offered.iter().eq(due.keys()), "{batch:?} instead of {due:?}");
        }
        assert!(self.expired.is_empty(), "{:?} have run out, too", self.expired);
    }

    fn restart(&mut self) {
        let stored = self.lessor.stored();
        self.lessor = Lessor::recover(self.config.clone(), stored).expect("what was stored is sound");
        self.stop_counting();
        for (&id, lease) in &self.leases {
            lease.keys.iter().for_each(|key| self.lessor.attach(id, &[*key]).expect("the lease is there"));
        }
    }

    fn check(&self) {
        let lessor = &self.lessor;
        assert_eq!(lessor.is_primary(), self.primary);
        assert_eq!(lessor.next_round_ms(), self.primary.then_some(self.next_round_ms));
        assert_eq!((lessor.len(), lessor.is_empty()), (self.leases.len(), self.leases.is_empty()));
        let stored = self.leases.iter().map(|(&id, lease)| Stored {
            id,
            ttl_seconds: lease.ttl,
            remaining_seconds: lease.remaining,
        });
        assert_eq!(lessor.stored(), stored.collect::<Vec<_>>());
        let mut list: Vec<(u64, i64)> =
            self.leases.iter().map(|(&id, lease)| (lease.deadline_ms.unwrap_or(u64::MAX), id)).collect();
        list.sort_unstable();
        assert_eq!(lessor.list(), list.iter().map(|(_, id)| *id).collect::<Vec<_>>());
        for (&id, lease) in &self.leases {
            let left = match lease.deadline_ms {
                None => i64::MAX,
                Some(at_ms) => (i128::from(at_ms) - i128::from(self.now_ms)).div_euclid(1000) as i64,
            };
            let told = lessor.time_to_live(self.now_ms, id).expect("the lease is there");
            assert_eq!((told.granted_seconds, told.remaining_seconds), (lease.ttl, left));
            assert!(lessor.keys(id).map(|key| key[0]).eq(lease.keys.iter().copied()));
            assert!(lease.keys.iter().all(|&key| lessor.lease_of(&[key]) == Some(id)));
        }
    }
}
