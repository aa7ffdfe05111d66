//! How fast simulated time passes: a calm cluster, and the drawn scenarios with their faults.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use stanchion_sim::Scenario;
use stanchion_sim::run::run;

/// "Moderate load": three members, two clients that pause 200 ms on average, one watcher, no faults. What else this seed
/// draws is usual: 30 keys, 5 leases in a hundred operations, commits every 100 ms, marks every 1000 entries.
fn moderate(steps: u64) -> Scenario {
    let faults = Vec::new();
    Scenario { members: 3, faults, clients: 2, think_us: 200_000, ..Scenario::of_seed(697, steps) }
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("sim");
    group.sample_size(10);
    let calm = moderate(50_000);
    let simulated = run(&calm, false).figures.simulated_us / 1_000_000;
    group.bench_function(format!("moderate load, {simulated} s simulated"), |b| {
        b.iter(|| black_box(run(&calm, false).hash));
    });
    let drawn: Vec<Scenario> = (2000..2020).map(|seed| Scenario::of_seed(seed, 4000)).collect();
    let simulated: u64 = drawn.iter().map(|one| run(one, false).figures.simulated_us).sum();
    group.bench_function(format!("20 drawn scenarios, {} s simulated", simulated / 1_000_000), |b| {
        b.iter(|| drawn.iter().fold(0, |hash, scenario| hash ^ run(scenario, false).hash));
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
