//! The seeded generator behind every choice of the simulated disk. Its stream is part of what a seed means, so it
//! must never change: xoshiro256++ seeded by splitmix64, as `rand_xoshiro` fixes both.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

#[derive(Clone, Debug)]
pub(super) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..n`; 0 for `n == 0`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        // The bias of a 64-bit modulus does not matter for choosing faults.
        if n == 0 { 0 } else { self.next() % n }
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && ((self.next() >> 11) as f64 / (1_u64 << 53) as f64) < p
    }
}
