//! Which keys are touched, in which order, and what their values are. No request is made here.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

/// Exponent of the zipf distribution: that of YCSB.
const ZIPF_EXPONENT: f64 = 0.99;

/// In which order keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// One after the other, all clients together.
    Sequential,
    /// Each as likely as any other.
    Random,
    /// A few are hot: the n-th likeliest in proportion to 1 / n^0.99.
    Zipf,
}

/// A random source of its own for each stream of numbers under one seed.
pub(crate) fn seeded(seed: u64, stream: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A number from 0 up to 1, without 1.
pub(crate) fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    // The 53 bits of a double's fraction.
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A number below `end`, which is above 0.
pub(crate) fn below(random: &mut Xoshiro256PlusPlus, end: u64) -> u64 {
    assert!(end > 0, "there is no number below 0");
    // The high half of the product: no division, and a bias of at most end / 2^64.
    ((u128::from(random.next_u64()) * u128::from(end)) >> 64) as u64
}

/// The keys of a run: `prefix` and a number of twelve digits.
pub(crate) struct Keys {
    prefix: String,
    count: u64,
    order: Order,
    /// Of the sequential order.
    next: AtomicU64,
    zipf: Option<Zipf>,
}

impl Keys {
    pub(crate) fn new(prefix: &str, count: u64, order: Order) -> Keys {
        assert!(count > 0, "no keys to choose from");
        let zipf = (order == Order::Zipf).then(|| Zipf::new(count, ZIPF_EXPONENT));
        Keys { prefix: prefix.to_owned(), count, order, next: AtomicU64::new(0), zipf }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The place of the next key.
    pub(crate) fn choose(&self, random: &mut Xoshiro256PlusPlus) -> u64 {
        match &self.zipf {
            // Hot keys are spread over the range: neighbours would share pages and look cheaper than they are.
            Some(zipf) => scattered(zipf.draw(random), self.count),
            None if self.order == Order::Sequential => self.next.fetch_add(1, Ordering::Relaxed) % self.count,
            None => below(random, self.count),
        }
    }

    /// The key at `place`.
    pub(crate) fn at(&self, place: u64) -> Bytes {
        Bytes::from(format!("{}{place:012}", self.prefix))
    }

    /// The end of the range of all keys with the prefix.
    pub(crate) fn end(&self) -> Bytes {
        prefix_end(&self.prefix)
    }
}

/// The first key behind all that begin with `prefix`; the open end if there is none.
pub(crate) fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(&[0])
}

/// A place for `rank` below `count`; ranks next to each other land far from each other, each in a place of its own.
fn scattered(rank: u64, count: u64) -> u64 {
    // A prime above any count in use, so that it shares no factor with it.
    const PRIME: u128 = 2_305_843_009_213_693_951;
    (u128::from(rank) * PRIME % u128::from(count)) as u64
}

/// Ranks below `count`, rank n in proportion to 1 / (n + 1)^exponent, by rejection from the integral's inverse
/// (Hörmann and Derflinger 1996): no table, so that a hundred million keys cost nothing.
struct Zipf {
    count: f64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { count: count as f64, exponent, integral_first: 0.0, integral_last: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.count + 0.5);
        zipf
    }

    fn integral(&self, x: f64) -> f64 {
        (x.powf(1.0 - self.exponent) - 1.0) / (1.0 - self.exponent)
    }

    fn integral_inverse(&self, y: f64) -> f64 {
        (1.0 + y * (1.0 - self.exponent)).max(0.0).powf(1.0 / (1.0 - self.exponent))
    }

    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> u64 {
        loop {
            let y = self.integral_last + unit(random) * (self.integral_first - self.integral_last);
            let rank = self.integral_inverse(y).round().clamp(1.0, self.count);
            if y >= self.integral(rank + 0.5) - rank.powf(-self.exponent) {
                return rank as u64 - 1;
            }
        }
    }
}

/// Values of one size that do not compress: slices of one random block, so that making one costs nothing.
pub(crate) struct Values {
    block: Bytes,
    size: usize,
}

impl Values {
    /// How many different values there are.
    const DIFFERENT: usize = 4096;

    pub(crate) fn new(size: usize, seed: u64) -> Values {
        let mut block = vec![0; size + Values::DIFFERENT];
        seeded(seed, u64::MAX).fill_bytes(&mut block);
        Values { block: Bytes::from(block), size }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn draw(&self, random: &mut Xoshiro256PlusPlus) -> Bytes {
        let from = below(random, Values::DIFFERENT as u64) as usize;
        self.block.slice(from..from + self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_keys_are_shared_out_once_a_round() {
        let keys = Keys::new("p/", 3, Order::Sequential);
        let mut random = seeded(1, 0);
        let chosen: Vec<u64> = (0..5).map(|_| keys.choose(&mut random)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1]);
        assert_eq!(keys.at(7), "p/000000000007");
    }

    #[test]
    fn random_keys_are_all_as_likely() {
        let keys = Keys::new("p/", 10, Order::Random);
        let mut random = seeded(2, 0);
        let mut seen = [0; 10];
        (0..100_000).for_each(|_| seen[keys.choose(&mut random) as usize] += 1);
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
    }

    #[test]
    fn zipf_ranks_have_the_probabilities_of_the_formula() {
        let count = 1000;
        let zipf = Zipf::new(count, ZIPF_EXPONENT);
        let mut random = seeded(3, 0);
        let mut seen = vec![0u32; count as usize];
        let draws = 1_000_000;
        (0..draws).for_each(|_| seen[zipf.draw(&mut random) as usize] += 1);
        let weight = |rank: u64| ((rank + 1) as f64).powf(-ZIPF_EXPONENT);
        let total: f64 = (0..count).map(weight).sum();
        for rank in [0, 1, 2, 9, 99] {
            let expected = weight(rank) / total * f64::from(draws);
            let found = f64::from(seen[rank as usize]);
            // Five standard deviations.
            assert!(
                (found - expected).abs() < 5.0 * expected.sqrt(),
                "rank {rank}: {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn scattering_keeps_places_apart() {
        for count in [1, 2, 10, 1000, 65_536] {
            let mut places: Vec<u64> = (0..count).map(|rank| scattered(rank, count)).collect();
            places.sort_unstable();
            assert!(places.iter().copied().eq(0..count), "{count}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_lies_behind_all_its_keys() {
        assert_eq!(prefix_end("a/"), "a0");
        assert_eq!(prefix_end(""), &[0][..]);
    }

    #[test]
    fn values_have_the_size_and_differ() {
        let values = Values::new(64, 1);
        let mut random = seeded(4, 0);
        let (one, other) = (values.draw(&mut random), values.draw(&mut random));
        assert_eq!((one.len(), other.len()), (64, 64));
        assert_ne!(one, other);
    }
}
