//! The crate as its users see it. One binary; every module looks at one topic.

mod async_storage;
mod behaviour;
mod cluster;
mod elections;
mod hostile;
mod membership;
mod reads;
mod replication;
mod scenario;
mod schedules;
mod wire;

/// `n` cases from a fixed seed. `STANCHION_SOAK=<seed>` takes another seed and a hundred times the cases.
fn cases(n: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let soak = std::env::var("STANCHION_SOAK").ok().map(|s| s.parse().expect("STANCHION_SOAK is a seed"));
    let (seed, cases) = soak.map_or((1, n), |seed: u64| (seed, n * 100));
    Config { rng_seed: RngSeed::Fixed(seed), cases, failure_persistence: None, ..Config::default() }
}
