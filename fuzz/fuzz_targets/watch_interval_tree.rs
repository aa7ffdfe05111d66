//! The index of watched ranges against asking every range, whatever is inserted and removed in whatever order.

#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stanchion_watch::{KeyRange, RangeIndex};

#[derive(Arbitrary, Debug)]
enum Step {
    Insert {
        begin: Key,
        end: Key,
        value: u8,
    },
    /// Removes the `at`th of what is there.
    Remove {
        at: u8,
    },
    /// Removes what may not be there.
    RemoveAny {
        begin: Key,
        end: Key,
        value: u8,
    },
    Find {
        key: Key,
    },
}

#[derive(Arbitrary, Debug)]
enum Key {
    /// Up to four of four letters, so that ranges touch and nest.
    Short(u16),
    Any(Vec<u8>),
}

impl Key {
    fn bytes(&self) -> Vec<u8> {
        let letters = [0, 1, 2, 0xff];
        match self {
            Self::Short(n) => (0..n % 5).map(|i| letters[usize::from(n >> (4 + 2 * i) & 3)]).collect(),
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut index = RangeIndex::new();
    let mut model: BTreeSet<(KeyRange, u32)> = BTreeSet::new();
    for step in &steps {
        match step {
            Step::Insert { begin, end, value } => {
                let Ok(range) = KeyRange::new(&begin.bytes(), &end.bytes()) else { continue };
                let value = u32::from(*value);
                assert_eq!(index.insert(&Arc::new(range.clone()), value), model.insert((range, value)));
            }
            Step::Remove { at } => {
                let Some(entry) = model.iter().nth(usize::from(*at) % model.len().max(1)).cloned() else {
                    continue;
                };
                assert!(index.remove(&entry.0, entry.1), "{entry:?} stands in the index");
                model.remove(&entry);
            }
            Step::RemoveAny { begin, end, value } => {
                let Ok(range) = KeyRange::new(&begin.bytes(), &end.bytes()) else { continue };
                let value = u32::from(*value);
                assert_eq!(index.remove(&range, value), model.remove(&(range, value)));
            }
            Step::Find { key } => find(&index, &model, &key.bytes()),
        }
        assert_eq!((index.len(), index.is_empty()), (model.len(), model.is_empty()));
    }
    for (range, _) in &model {
        find(&index, &model, range.begin());
    }
});

fn find(index: &RangeIndex, model: &BTreeSet<(KeyRange, u32)>, key: &[u8]) {
    let mut found = Vec::new();
    index.for_each_match(key, |value| found.push(value));
    found.sort_unstable();
    let mut expected: Vec<u32> =
        model.iter().filter(|(range, _)| range.contains(key)).map(|(_, value)| *value).collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "who wants {}", key.escape_ascii());
    assert_eq!(index.matches(key), !expected.is_empty());
}
