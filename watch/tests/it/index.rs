//! The index against asking every range.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use stanchion_watch::{KeyRange, RangeIndex};

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..4, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn finds_what_asking_every_range_finds(
        steps in prop::collection::vec((text(), text(), 0u32..6, prop::bool::weighted(0.7)), 0..120),
        keys in prop::collection::vec(text(), 1..20),
    ) {
        let mut index = RangeIndex::new();
        let mut model: BTreeSet<(KeyRange, u32)> = BTreeSet::new();
        for (begin, end, value, insert) in steps {
            let Ok(range) = KeyRange::new(&begin, &end) else { continue };
            if insert {
                prop_assert_eq!(index.insert(&Arc::new(range.clone()), value), model.insert((range, value)));
            } else {
                prop_assert_eq!(index.remove(&range, value), model.remove(&(range, value)));
            }
            prop_assert_eq!(index.len(), model.len());
            for key in &keys {
                let mut found = Vec::new();
                index.for_each_match(key, |value| found.push(value));
                let mut expected: Vec<u32> =
                    model.iter().filter(|(range, _)| range.contains(key)).map(|(_, value)| *value).collect();
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(index.matches(key), !expected.is_empty());
            }
        }
    }
}
