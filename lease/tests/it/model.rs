//! Random operations, few enough ids and keys that they meet.

use proptest::prelude::*;
use stanchion_lease::Config;

use crate::world::{Step, World};

fn step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![-1i64..6, Just(0)];
    prop_oneof![
        3 => (id(), -1i64..9).prop_map(|(id, ttl)| Step::Grant { id, ttl }),
        1 => id().prop_map(|id| Step::Revoke { id }),
        3 => (id(), 0u8..8).prop_map(|(id, key)| Step::Attach { id, key }),
        1 => (0u8..8).prop_map(|key| Step::Detach { key }),
        1 => (id(), -1i64..5).prop_map(|(id, remaining)| Step::Checkpoint { id, remaining }),
        3 => id().prop_map(|id| Step::Renew { id }),
        1 => (0u64..2_000).prop_map(|extend_ms| Step::Promote { extend_ms }),
        1 => Just(Step::Demote),
        6 => (0u64..3_000).prop_map(|ms| Step::Advance { ms }),
        5 => Just(Step::TakeExpired),
        1 => Just(Step::TakeCheckpoints),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("STANCHION_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
    ))]
    #[test]
    fn behaves_as_a_list_that_is_searched(
        steps in prop::collection::vec(step(), 1..120),
        checkpoint_interval_ms in prop::option::of(0u64..3_000),
    ) {
        let config = Config { min_ttl_seconds: 2, retry_ms: 1_300, checkpoint_interval_ms };
        let mut world = World::recover(config, &[]).expect("no lease is a sound lease");
        for step in steps {
            world.step(step);
        }
    }
}
