//! Leases taken up from whatever a store holds, then requests, batches and changes of the leader in any order and at any
//! time: every answer must be what a map that knows no index says, and what is stored must come back. The map is that of
//! the crate's own tests.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stanchion_lease::{Config, Stored};

#[path = "../../lease/tests/it/world.rs"]
mod world;
use world::{Step, World};

#[derive(Arbitrary, Debug)]
struct Input {
    min_ttl: u8,
    retry_ms: u16,
    checkpoint_interval_ms: Option<u16>,
    stored: Vec<(Id, Number, Number)>,
    calls: Vec<Call>,
}

#[derive(Arbitrary, Debug)]
enum Call {
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

impl Call {
    fn step(&self) -> Step {
        match self {
            Self::Grant { id, ttl } => Step::Grant { id: id.get(), ttl: ttl.get() },
            Self::Revoke { id } => Step::Revoke { id: id.get() },
            Self::Attach { id, key } => Step::Attach { id: id.get(), key: *key },
            Self::Detach { key } => Step::Detach { key: *key },
            Self::Checkpoint { id, remaining } => {
                Step::Checkpoint { id: id.get(), remaining: remaining.get() }
            }
            Self::Renew { id } => Step::Renew { id: id.get() },
            Self::Promote { extend_ms } => Step::Promote { extend_ms: extend_ms.time() },
            Self::Demote => Step::Demote,
            Self::Advance { ms } => Step::Advance { ms: ms.time() },
            Self::TakeExpired => Step::TakeExpired,
            Self::TakeCheckpoints => Step::TakeCheckpoints,
            Self::Restart => Step::Restart,
        }
    }
}

/// Together fewer leases than a batch of expired ones holds, and than a promotion spreads: the model has one batch a
/// round, and every lease at its own time.
const STORED_MAX: usize = 200;
const CALLS_MAX: usize = 299;

fuzz_target!(|input: Input| {
    let config = Config {
        min_ttl_seconds: i64::from(input.min_ttl),
        retry_ms: u64::from(input.retry_ms),
        checkpoint_interval_ms: input.checkpoint_interval_ms.map(u64::from),
    };
    let stored = input.stored.iter().take(STORED_MAX).map(|(id, ttl, remaining)| Stored {
        id: id.get(),
        ttl_seconds: ttl.get(),
        remaining_seconds: remaining.get(),
    });
    let Some(mut world) = World::recover(config, &stored.collect::<Vec<_>>()) else { return };
    for call in input.calls.iter().take(CALLS_MAX) {
        world.step(call.step());
    }
});
