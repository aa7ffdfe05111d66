//! Leases taken up from whatever a store holds, then requests, batches and changes of the leader in any order and at any
//! time: every answer must be what a map that knows no index says, and what is stored must come back.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stanchion_lease::{
    Config, EXPIRED_BATCH_MAX, EXPIRED_BATCHES_MAX, Error, Lessor, MAX_TTL_SECONDS, ROUND_MS, RenewError,
    Renewal, Stored,
};

#[derive(Arbitrary, Debug)]
struct Input {
    min_ttl: u8,
    retry_ms: u16,
    checkpoint_interval_ms: Option<u16>,
    stored: Vec<(Id, Number, Number)>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Grant { id: Id, ttl: Number },
    Revoke { id: Id },
    Attach { id: Id, key: u8 },
    Detach { key: u8 },
    Checkpoint { id: Id, remaining: Number },
    Renew { id: Id },
    Promote { extend_ms: Number },
    Demote,
    Advance { ms: Number },
    TakeExpired,
    TakeCheckpoints,
    Restart,
}

/// Mostly ids that meet.
#[derive(Arbitrary, Debug)]
enum Id {
    Few(i8),
    Any(i64),
}

#[derive(Arbitrary, Debug)]
enum Number {
    Small(i8),
    Medium(u16),
    Any(i64),
}

impl Id {
    fn get(&self) -> i64 {
        match *self {
            Self::Few(n) => i64::from(n % 8),
            Self::Any(n) => n,
        }
    }
}

impl Number {
    fn get(&self) -> i64 {
        match *self {
            Self::Small(n) => i64::from(n),
            Self::Medium(n) => i64::from(n),
            Self::Any(n) => n,
        }
    }

    fn time(&self) -> u64 {
        self.get() as u64
    }
}

#[derive(Debug)]
struct Lease {
    ttl: i64,
    remaining: i64,
    /// `None` while nobody counts time.
    deadline_ms: Option<u64>,
    keys: BTreeSet<u8>,
}

impl Lease {
    fn start(&mut self, now_ms: u64, extend_ms: u64) {
        let seconds = if self.remaining > 0 { self.remaining } else { self.ttl };
        let full_ms = (seconds as u64).saturating_mul(1000);
        let deadline_ms = now_ms.saturating_add(extend_ms).saturating_add(full_ms);
        self.deadline_ms = Some(deadline_ms.min(u64::MAX - 1));
    }
}

struct World {
    config: Config,
    lessor: Lessor,
    leases: BTreeMap<i64, Lease>,
    now_ms: u64,
}

/// Few enough that a promotion does not spread them: what it spreads has a test of its own.
const STORED_MAX: usize = 400;
const STEPS_MAX: usize = 400;

fuzz_target!(|input: Input| {
    let config = Config {
        min_ttl_seconds: i64::from(input.min_ttl),
        retry_ms: u64::from(input.retry_ms),
        checkpoint_interval_ms: input.checkpoint_interval_ms.map(u64::from),
    };
    let Some(mut world) = World::recover(config, &input.stored[..input.stored.len().min(STORED_MAX)]) else {
        return;
    };
    for step in input.steps.iter().take(STEPS_MAX) {
        world.step(step);
        world.check();
    }
});

impl World {
    /// `None` if what was stored is refused, which it must be exactly for id 0 and for an id that comes twice.
    fn recover(config: Config, stored: &[(Id, Number, Number)]) -> Option<Self> {
        let stored: Vec<Stored> = stored
            .iter()
            .map(|(id, ttl, remaining)| Stored {
                id: id.get(),
                ttl_seconds: ttl.get(),
                remaining_seconds: remaining.get(),
            })
            .collect();
        let ids: BTreeSet<i64> = stored.iter().map(|lease| lease.id).collect();
        let sound = ids.len() == stored.len() && !ids.contains(&0);
        let recovered = Lessor::recover(config.clone(), stored.iter().copied());
        assert_eq!(recovered.is_ok(), sound, "{recovered:?}");
        let leases = stored.iter().map(|lease| {
            let ttl = lease.ttl_seconds.max(config.min_ttl_seconds);
            let remaining = lease.remaining_seconds.max(0);
            (lease.id, Lease { ttl, remaining, deadline_ms: None, keys: BTreeSet::new() })
        });
        Some(Self { lessor: recovered.ok()?, leases: leases.collect(), config, now_ms: 0 })
    }

    fn step(&mut self, step: &Step) {
        let now_ms = self.now_ms;
        match step {
            Step::Grant { id, ttl } => self.grant(id.get(), ttl.get()),
            Step::Revoke { id } => {
                let keys = self.lessor.revoke(id.get()).map(|keys| keys.iter().map(|key| key[0]).collect());
                let expected = self.leases.remove(&id.get()).map(|lease| lease.keys.into_iter().collect());
                assert_eq!(keys.ok(), expected as Option<Vec<u8>>, "keys in ascending order");
            }
            Step::Attach { id, key } => {
                let attached = self.lessor.attach(id.get(), &[*key]);
                assert_eq!(attached.is_ok(), self.leases.contains_key(&id.get()));
                if attached.is_ok() {
                    self.take_off(*key);
                    self.lease(id.get()).keys.insert(*key);
                }
            }
            Step::Detach { key } => {
                let from = self.leases.iter().find(|(_, lease)| lease.keys.contains(key)).map(|(id, _)| *id);
                assert_eq!(self.lessor.detach(&[*key]), from);
                self.take_off(*key);
            }
            Step::Checkpoint { id, remaining } => {
                let done = self.lessor.checkpoint(now_ms, id.get(), remaining.get());
                assert_eq!(done.is_ok(), self.leases.contains_key(&id.get()));
                if done.is_ok() {
                    self.lease(id.get()).remaining = remaining.get().max(0);
                }
            }
            Step::Renew { id } => self.renew(id.get()),
            Step::Promote { extend_ms } => {
                self.lessor.promote(now_ms, extend_ms.time());
                self.leases.values_mut().for_each(|lease| lease.start(now_ms, extend_ms.time()));
            }
            Step::Demote => self.demote(),
            Step::Advance { ms } => {
                self.now_ms = now_ms.saturating_add(ms.time());
                self.lessor.handle_tick(self.now_ms);
            }
            Step::TakeExpired => self.take_expired(),
            Step::TakeCheckpoints => {
                while let Some(batch) = self.lessor.take_checkpoints() {
                    assert!(!batch.is_empty());
                }
            }
            Step::Restart => self.restart(),
        }
    }

    fn take_off(&mut self, key: u8) {
        for lease in self.leases.values_mut() {
            lease.keys.remove(&key);
        }
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
            let mut lease = Lease { ttl, remaining: 0, deadline_ms: None, keys: BTreeSet::new() };
            if self.lessor.is_primary() {
                lease.start(self.now_ms, 0);
            }
            self.leases.insert(id, lease);
        }
    }

    fn renew(&mut self, id: i64) {
        let now_ms = self.now_ms;
        let expected = match self.leases.get(&id) {
            _ if !self.lessor.is_primary() => Err(RenewError::NotPrimary),
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

    fn demote(&mut self) {
        self.lessor.demote();
        self.leases.values_mut().for_each(|lease| lease.deadline_ms = None);
    }

    /// Whoever is offered for a revoke has run out, and never more of them than a burst may be.
    fn take_expired(&mut self) {
        let mut batches = 0;
        while let Some(batch) = self.lessor.take_expired() {
            batches += 1;
            assert!((1..=EXPIRED_BATCH_MAX).contains(&batch.len()), "{} leases in a batch", batch.len());
            for id in batch {
                // It may have been revoked, and granted anew, since it was found.
                let deadline_ms = self.leases.get(&id).map(|lease| lease.deadline_ms);
                assert_ne!(deadline_ms, Some(None), "only a primary offers leases");
            }
        }
        assert!(batches <= EXPIRED_BATCHES_MAX, "{batches} batches waited");
    }

    fn restart(&mut self) {
        let stored = self.lessor.stored();
        self.lessor = Lessor::recover(self.config.clone(), stored.clone()).expect("what was stored is sound");
        assert_eq!(self.lessor.stored(), stored);
        for (&id, lease) in &mut self.leases {
            lease.deadline_ms = None;
            lease.keys.iter().for_each(|key| self.lessor.attach(id, &[*key]).expect("the lease is there"));
        }
    }

    fn check(&self) {
        let lessor = &self.lessor;
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
            let expected = match lease.deadline_ms {
                None => i64::MAX,
                Some(at_ms) => (i128::from(at_ms) - i128::from(self.now_ms)).div_euclid(1000) as i64,
            };
            let told = lessor.time_to_live(self.now_ms, id).expect("the lease is there");
            assert_eq!((told.granted_seconds, told.remaining_seconds), (lease.ttl, expected));
            assert!(lessor.keys(id).map(|key| key[0]).eq(lease.keys.iter().copied()));
            assert!(lease.keys.iter().all(|&key| lessor.lease_of(&[key]) == Some(id)));
        }
        if let Some(next_ms) = lessor.next_round_ms() {
            assert!(next_ms <= self.now_ms.saturating_add(ROUND_MS), "rounds go on");
        }
    }
}
