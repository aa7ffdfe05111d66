//! One seed from beginning to end, panics of the members included.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::report;
use crate::scenario::Scenario;
use crate::trace::Record;
use crate::world::{Figures, Outcome, World};

/// How a run went.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// The hash of everything that happened.
    pub hash: u64,
    /// Figures.
    pub figures: Figures,
    /// The story of a failure; empty without one.
    pub story: String,
    /// Everything that happened, if it was asked for.
    pub records: Vec<Record>,
    /// Id of the member in each slot.
    pub member_ids: Vec<u64>,
}

/// Runs a scenario. The whole story is kept if `whole`.
#[must_use]
pub fn run(scenario: &Scenario, whole: bool) -> Run {
    let mut world = World::new(scenario.clone(), whole);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome::Failed(format!("panic: {}", text.unwrap_or_default()))
    });
    let story = match &outcome {
        Outcome::Failed(what) => report::failure_of(scenario, &world, what),
        _ => String::new(),
    };
    Run {
        outcome,
        hash: world.trace.hash(),
        figures: world.figures(),
        story,
        records: world.trace.whole().to_vec(),
        member_ids: world.member_ids(),
    }
}
