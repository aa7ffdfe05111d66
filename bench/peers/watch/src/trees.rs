//! The contenders behind one trait.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;

use interavl::IntervalTree;
use iset::IntervalMap;
use stanchion_watch::{KeyRange, RangeIndex};
use store_interval_tree::Interval;

use crate::Span;

/// Ranges with a number under each. Keys are copied where the structure owns them.
pub trait Tree<'s>: Default {
    fn insert(&mut self, span: &'s Span, value: u32);
    /// Number of ranges that hold `key`.
    fn stab(&self, key: &'s [u8]) -> usize;
    fn remove(&mut self, span: &'s Span, value: u32);
}

/// The smallest key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[derive(Default)]
pub struct Ours(RangeIndex);

fn range(span: &Span) -> KeyRange {
    KeyRange::new(&span.begin, &span.end).expect("the end is above the begin")
}

impl Tree<'_> for Ours {
    fn insert(&mut self, span: &Span, value: u32) {
        assert!(self.0.insert(&Arc::new(range(span)), value));
    }

    fn stab(&self, key: &[u8]) -> usize {
        let mut found = 0;
        self.0.for_each_match(key, |_| found += 1);
        found
    }

    fn remove(&mut self, span: &Span, value: u32) {
        assert!(self.0.remove(&range(span), value));
    }
}

#[derive(Default)]
pub struct Interavl(IntervalTree<Vec<u8>, u32>);

impl Tree<'_> for Interavl {
    fn insert(&mut self, span: &Span, value: u32) {
        assert!(self.0.insert(span.begin.clone()..span.end.clone(), value).is_none());
    }

    fn stab(&self, key: &[u8]) -> usize {
        self.0.iter_overlaps(&(key.to_vec()..after(key))).count()
    }

    fn remove(&mut self, span: &Span, _: u32) {
        assert!(self.0.remove(&(span.begin.clone()..span.end.clone())).is_some());
    }
}

#[derive(Default)]
pub struct Iset<'s>(IntervalMap<&'s [u8], u32>);

impl<'s> Tree<'s> for Iset<'s> {
    fn insert(&mut self, span: &'s Span, value: u32) {
        assert!(self.0.insert(&span.begin[..]..&span.end[..], value).is_none());
    }

    fn stab(&self, key: &'s [u8]) -> usize {
        self.0.values_overlap(key).count()
    }

    fn remove(&mut self, span: &'s Span, _: u32) {
        assert!(self.0.remove(&span.begin[..]..&span.end[..]).is_some());
    }
}

pub struct Store(store_interval_tree::IntervalTree<Vec<u8>, u32>);

impl Default for Store {
    fn default() -> Self {
        Self(store_interval_tree::IntervalTree::new())
    }
}

fn interval(span: &Span) -> Interval<Vec<u8>> {
    Interval::new(Included(span.begin.clone()), Excluded(span.end.clone()))
}

impl Tree<'_> for Store {
    fn insert(&mut self, span: &Span, value: u32) {
        self.0.insert(interval(span), value);
    }

    fn stab(&self, key: &[u8]) -> usize {
        self.0.query(&Interval::point(key.to_vec())).count()
    }

    fn remove(&mut self, span: &Span, _: u32) {
        self.0.delete(&interval(span));
    }
}

#[derive(Default)]
pub struct Scan(BTreeMap<u32, KeyRange>);

impl Tree<'_> for Scan {
    fn insert(&mut self, span: &Span, value: u32) {
        self.0.insert(value, range(span));
    }

    fn stab(&self, key: &[u8]) -> usize {
        self.0.values().filter(|range| range.contains(key)).count()
    }

    fn remove(&mut self, _: &Span, value: u32) {
        assert!(self.0.remove(&value).is_some());
    }
}
