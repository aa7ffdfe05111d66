//! The command line of the simulator.
fn main() {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let n = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(1);
    for seed in seed..seed + n {
        let t = std::time::Instant::now();
        let sc = stanchion_sim::Scenario::of_seed(seed, 12000);
        let mut world = stanchion_sim::World::new(sc.clone(), false);
        let outcome = world.run();
        if let stanchion_sim::Outcome::Failed(what) = &outcome { println!("{}", stanchion_sim::report::failure_of(&sc, &world, what)); }
        else { println!("{seed} {outcome:?} {:?} {:016x} {:?}", world.figures(), world.trace.hash(), t.elapsed()); }
    }
}
