//! Numbers that follow from a seed and nothing else.

/// A stream of random numbers (SplitMix64). Streams of different seeds have nothing in common.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The stream of one thing among many under the same seed, such as the `n`th fault: what others draw does not
    /// move it.
    #[must_use]
    pub fn of(seed: u64, purpose: &str, n: u64) -> Random {
        let named = purpose.bytes().fold(seed, |hash, byte| mix(hash ^ u64::from(byte)));
        Random { state: mix(named ^ n) }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number in `0..n`; 0 for `n == 0`.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && ((self.number() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// One of these; there must be one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// A number whose every bit depends on every bit of `n`.
#[must_use]
pub fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_bounds_and_follow_from_the_seed() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        for _ in 0..1000 {
            let n = a.between(3, 5);
            assert!((3..=5).contains(&n));
            assert_eq!(n, b.between(3, 5));
        }
        assert_eq!(Random::new(1).below(0), 0);
        assert!(!Random::new(1).chance(0.0) && Random::new(1).chance(1.0));
        assert_ne!(Random::of(1, "a", 0).number(), Random::of(1, "b", 0).number());
    }
}
