//! Range and transaction requests with any options, on a store and on the model of the store's own tests: every answer
//! must be equal, also after commits, compactions and restarts.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stanchion_disk::SimDisk;
use stanchion_mvcc::{
    Error, KeyRange, Put, RangeOptions, RevisionFilter, SortOrder, SortTarget, Store, StoreOptions,
};

#[path = "../../mvcc/tests/it/model.rs"]
mod model;

use model::{Model, ModelTxn, Pair};

#[derive(Arbitrary, Debug)]
enum Step {
    Txn { ops: Vec<Op>, abort: bool },
    Range(Query),
    Compact(i8),
    CompactSome(u8),
    Commit,
    Restart,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Put { key: Key, value: Option<u8>, lease: Option<u8>, prev_kv: bool },
    Delete { key: Key, end: Key, prev_kv: bool },
    Range(Query),
}

/// Short keys over few letters, so that they meet.
#[derive(Arbitrary, Debug)]
struct Key(u16);

#[derive(Arbitrary, Debug)]
struct Query {
    key: Key,
    end: Key,
    back: i8,
    limit: u8,
    flags: u8,
    order: u8,
    filter: Option<[i8; 4]>,
}

impl Key {
    /// Up to four bytes; a lone 0 is what a request's end says for "all from here on".
    fn bytes(&self) -> Vec<u8> {
        let letters = [0, b'a', b'b', 0xff];
        (0..self.0 % 5).map(|i| letters[usize::from(self.0 >> (4 + 2 * i) & 3)]).collect()
    }
}

impl Query {
    fn options(&self, revision: i64) -> RangeOptions {
        let targets =
            [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let [min_mod, max_mod, min_create, max_create] = self.filter.unwrap_or_default().map(i64::from);
        RangeOptions {
            revision,
            limit: usize::from(self.limit % 16),
            count_only: self.flags & 1 != 0,
            keys_only: self.flags & 2 != 0,
            sort_target: targets[usize::from(self.order % 5)],
            sort_order: orders[usize::from(self.order / 5 % 3)],
            filter: RevisionFilter { min_mod, max_mod, min_create, max_create },
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let disk = SimDisk::new(0);
    let (mut store, mut model) = (open(&disk), Model::default());
    for step in steps.iter().take(200) {
        match step {
            Step::Txn { ops, abort } => {
                let mut aborted = model.clone();
                let mut txn = store.write();
                let mut shadow = if *abort { aborted.begin() } else { model.begin() };
                for op in ops {
                    apply(op, &mut txn, &mut shadow);
                }
                if *abort {
                    drop(txn);
                } else {
                    shadow.end();
                    assert_eq!(txn.end().revision, model.revision());
                }
            }
            Step::Range(query) => range(&store, &model, query),
            Step::Compact(back) => {
                let at = model.revision() - i64::from(*back);
                let result = store.compact(at);
                if at > model.revision() {
                    assert!(matches!(result, Err(Error::Future { .. })), "{result:?}");
                } else if at <= model.compacted {
                    assert!(matches!(result, Err(Error::Compacted { .. })), "{result:?}");
                } else {
                    result.expect("a revision that may be compacted");
                    model.compacted = at;
                }
            }
            Step::CompactSome(rows) => drop(store.compaction_step(usize::from(*rows)).expect("a step")),
            Step::Commit => drop(store.commit().expect("a commit")),
            Step::Restart => {
                store.commit().expect("a commit");
                drop(store);
                store = open(&disk);
                assert_eq!((store.revision(), store.compact_revision()), (model.revision(), model.compacted));
            }
        }
    }
});

fn open(disk: &SimDisk) -> Store {
    let options = StoreOptions { restore_threads: 1, sync: false, ..StoreOptions::default() };
    Store::open(Arc::new(disk.clone()), Path::new("db"), &options).expect("the store opens").0
}

fn apply(op: &Op, txn: &mut stanchion_mvcc::WriteTxn<'_>, shadow: &mut ModelTxn<'_>) {
    match op {
        Op::Put { key, value, lease, prev_kv } => {
            let (key, value) = (key.bytes(), value.map(|byte| [byte; 3]));
            let lease = lease.map(i64::from);
            let put =
                Put { key: &key, value: value.as_ref().map(|value| &value[..]), lease, prev_kv: *prev_kv };
            let (result, before) = (txn.put(put), shadow.get(&key).cloned());
            if key.is_empty() {
                assert!(matches!(result, Err(Error::EmptyKey)), "{result:?}");
            } else if before.is_none() && (value.is_none() || lease.is_none()) {
                assert!(matches!(result, Err(Error::KeyNotFound { .. })), "{result:?}");
            } else {
                let prev = result.expect("a put").map(|kv| Pair::decode(&kv));
                assert_eq!(prev, before.clone().filter(|_| *prev_kv));
                let value =
                    value.map_or_else(|| before.clone().unwrap_or_default().value, |value| value.to_vec());
                shadow.put(&key, &value, lease.unwrap_or_else(|| before.unwrap_or_default().lease));
            }
        }
        Op::Delete { key, end, prev_kv } => {
            let (key, end) = (key.bytes(), end.bytes());
            let range = KeyRange::from_request(&key, &end);
            let result = txn.delete_range(range, *prev_kv);
            if key.is_empty() {
                assert!(matches!(result, Err(Error::EmptyKey)), "{result:?}");
                return;
            }
            let (deleted, expected) = (result.expect("a delete"), shadow.delete_range(range));
            assert_eq!(deleted.count, expected.len() as u64);
            if *prev_kv {
                assert_eq!(deleted.prev_kvs.iter().map(Pair::decode).collect::<Vec<_>>(), expected);
            }
        }
        Op::Range(query) => {
            let (key, end) = (query.key.bytes(), query.end.bytes());
            let (range, options) = (KeyRange::from_request(&key, &end), query.options(0));
            let found = txn.range(range, &options).expect("a read");
            let pairs: Vec<_> = found.rows.iter().map(Pair::decode).collect();
            assert_eq!((pairs, found.count, found.more), shadow.range(range, &options), "{options:?}");
        }
    }
}

fn range(store: &Store, model: &Model, query: &Query) {
    let (key, end) = (query.key.bytes(), query.end.bytes());
    let range = KeyRange::from_request(&key, &end);
    let revision = model.revision() - i64::from(query.back);
    let options = query.options(revision);
    let result = store.read().range(range, &options);
    if revision > model.revision() {
        assert!(matches!(result, Err(Error::Future { .. })), "{result:?}");
    } else if revision > 0 && revision < model.compacted {
        assert!(matches!(result, Err(Error::Compacted { .. })), "{result:?}");
    } else {
        let found = result.expect("a readable revision");
        let pairs: Vec<_> = found.rows.iter().map(Pair::decode).collect();
        let at = if revision <= 0 { model.revision() } else { revision };
        assert_eq!((pairs, found.count, found.more), model.range(range, at, &options), "{options:?}");
    }
}
