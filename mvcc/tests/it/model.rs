//! The plainest store there is: the state after every revision, kept forever.

use std::collections::BTreeMap;

use stanchion_mvcc::{KeyRange, KeyValueRef, RangeOptions, RevisionFilter, SortOrder, SortTarget};

/// A pair as a client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) create: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) value: Vec<u8>,
    pub(crate) lease: i64,
}

impl Pair {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let kv = KeyValueRef::decode(bytes).expect("stored pairs decode");
        Self {
            key: kv.key.to_vec(),
            create: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            value: kv.value.to_vec(),
            lease: kv.lease,
        }
    }
}

/// One change, as a watcher would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelEvent {
    pub(crate) main: i64,
    pub(crate) sub: i64,
    pub(crate) delete: bool,
    pub(crate) pair: Pair,
}

type State = BTreeMap<Vec<u8>, Pair>;

/// All states and all events of a store's life.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// `states[i]` is the state at revision `i + 1`.
    states: Vec<State>,
    pub(crate) events: Vec<ModelEvent>,
    pub(crate) compacted: i64,
}

/// A transaction of the model.
pub(crate) struct ModelTxn<'m> {
    model: &'m mut Model,
    state: State,
    sub: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: vec![State::new()], events: Vec::new(), compacted: -1 }
    }
}

impl Model {
    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    pub(crate) fn begin(&mut self) -> ModelTxn<'_> {
        let state = self.states.last().expect("there is a first state").clone();
        ModelTxn { model: self, state, sub: 0 }
    }

    pub(crate) fn state(&self, revision: i64) -> &State {
        &self.states[revision as usize - 1]
    }

    /// The pairs, count and `more` of a range: the rules, word by word.
    pub(crate) fn range(
        &self,
        range: KeyRange<'_>,
        at: i64,
        options: &RangeOptions,
    ) -> (Vec<Pair>, u64, bool) {
        range_of(self.state(at), range, options)
    }
}

/// As [`Model::range`], over a given state.
fn range_of(state: &State, range: KeyRange<'_>, options: &RangeOptions) -> (Vec<Pair>, u64, bool) {
    let mut pairs: Vec<Pair> = state.values().filter(|pair| range.contains(&pair.key)).cloned().collect();
    let count = pairs.len() as u64;
    if options.count_only {
        return (Vec::new(), count, false);
    }
    let filtered = options.filter != RevisionFilter::default();
    if options.sort_order == SortOrder::None && !filtered && options.limit > 0 {
        pairs.truncate(options.limit + 1);
    }
    let RevisionFilter { min_mod, max_mod, min_create, max_create } = options.filter;
    pairs.retain(|pair| {
        (min_mod == 0 || pair.modified >= min_mod)
            && (max_mod == 0 || pair.modified <= max_mod)
            && (min_create == 0 || pair.create >= min_create)
            && (max_create == 0 || pair.create <= max_create)
    });
    let number = |pair: &Pair| match options.sort_target {
        SortTarget::Version => pair.version,
        SortTarget::Create => pair.create,
        SortTarget::Mod => pair.modified,
        SortTarget::Key | SortTarget::Value => 0,
    };
    pairs.sort_by(|a, b| {
        let ordering = match options.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Value => a.value.cmp(&b.value),
            _ => number(a).cmp(&number(b)),
        };
        if options.sort_order == SortOrder::Descend { ordering.reverse() } else { ordering }
    });
    let more = options.limit > 0 && pairs.len() > options.limit;
    if more {
        pairs.truncate(options.limit);
    }
    if options.keys_only {
        for pair in &mut pairs {
            pair.value.clear();
            if options.sort_target != SortTarget::Value {
                pair.lease = 0;
            }
        }
    }
    (pairs, count, more)
}

impl ModelTxn<'_> {
    fn main(&self) -> i64 {
        self.model.revision() + 1
    }

    fn event(&mut self, delete: bool, pair: Pair) {
        let (main, sub) = (self.main(), self.sub);
        self.sub += 1;
        self.model.events.push(ModelEvent { main, sub, delete, pair });
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let main = self.main();
        let before = self.state.get(key);
        let pair = Pair {
            key: key.to_vec(),
            create: before.map_or(main, |pair| pair.create),
            modified: main,
            version: before.map_or(1, |pair| pair.version + 1),
            value: value.to_vec(),
            lease,
        };
        self.state.insert(key.to_vec(), pair.clone());
        self.event(false, pair);
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Pair> {
        self.state.get(key)
    }

    pub(crate) fn range(&self, range: KeyRange<'_>, options: &RangeOptions) -> (Vec<Pair>, u64, bool) {
        range_of(&self.state, range, options)
    }

    pub(crate) fn delete_range(&mut self, range: KeyRange<'_>) -> Vec<Pair> {
        let keys: Vec<_> = self.state.keys().filter(|key| range.contains(key)).cloned().collect();
        let main = self.main();
        keys.into_iter()
            .map(|key| {
                let pair = self.state.remove(&key).expect("it was found");
                self.event(true, Pair { key, modified: main, ..Pair::default() });
                pair
            })
            .collect()
    }

    pub(crate) fn end(self) {
        if self.sub > 0 {
            self.model.states.push(self.state);
        }
    }
}
