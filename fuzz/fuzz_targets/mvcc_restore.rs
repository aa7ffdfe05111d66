//! A store's file, damaged as the input says, or made of whatever rows and records the input holds: opened, read in every
//! way, compacted, written on and opened again.
//!
//! Opening or reading may fail; what opens must keep its own promises: counts agree with walks, and a sound file that
//! was written on, whatever its rows, opens again, if at all, at the revision it was left at.

#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stanchion_bolt::{Db, Options};
use stanchion_disk::{Disk, OpenOptions, SimDisk};
use stanchion_fuzz::{Edit, damage};
use stanchion_mvcc::schema::{self, Table};
use stanchion_mvcc::{
    CompactionStep, Error, KeyRange, KeyValueRef, Put, RangeOptions, Revision, RowKey, Store, StoreOptions,
};

#[derive(Arbitrary, Debug)]
enum Input {
    Damaged(Vec<Edit>),
    Made { rows: Vec<Row>, records: Vec<(u8, Vec<u8>, Vec<u8>)> },
}

#[derive(Arbitrary, Debug)]
struct Row {
    main: Number,
    sub: Number,
    tombstone: bool,
    value: Value,
}

/// Mostly numbers that collide.
#[derive(Arbitrary, Debug)]
enum Number {
    Small(u8),
    Any(i64),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Pair { key: u8, create: Number, version: Number, lease: Number },
    Bytes(Vec<u8>),
}

impl Number {
    fn get(&self) -> i64 {
        match *self {
            Self::Small(n) => i64::from(n),
            Self::Any(n) => n,
        }
    }
}

fuzz_target!(|input: Input| {
    let disk = SimDisk::new(0);
    match &input {
        Input::Damaged(edits) => {
            let file = disk.open(Path::new("db"), OpenOptions::create_new()).expect("a new file");
            file.write_all_at(&damage(BASE.clone(), edits), 0).expect("written");
        }
        Input::Made { rows, records } => make(&disk, rows, records),
    }
    let Ok((store, recovered)) = open(&disk) else { return };
    let _ = read_everything(&store);
    let view = store.read();
    let (mut walked, options) = (0, RangeOptions { keys_only: true, ..RangeOptions::default() });
    if let Ok(all) = view.range(KeyRange::ALL, &options) {
        walked = all.rows.len() as u64;
    }
    assert_eq!(walked, recovered.keys, "the live keys");
    drop(view);
    let Ok(revision) = write_on(&store) else { return };
    drop(store);
    // Opening may fail now: where compaction took a key's first row, the next one, not looked at before, tells its life.
    let Ok((_, again)) = open(&disk) else { return };
    // A damaged tree of pages may lose what is put into it: nothing above it can tell.
    if let Input::Made { .. } = input {
        assert_eq!(again.revision, revision, "as it was left");
    }
});

/// A file with a bit of everything, as bytes.
static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let disk = SimDisk::new(0);
    let (store, _) = open(&disk).expect("a new store");
    let mut txn = store.write();
    schema::put_lease(&mut txn, schema::LeaseRecord { id: 7, ttl: 60, remaining_ttl: 0 });
    schema::put_storage_version(&mut txn, Some("3.6.0"));
    let _ = txn.end();
    for i in 0..60u8 {
        let mut txn = store.write();
        let value = vec![i; usize::from(i) * 4];
        let put = Put {
            key: &[b'k', i % 20],
            value: Some(&value),
            lease: Some(i64::from(i % 3 * 7)),
            prev_kv: false,
        };
        txn.put(put).expect("a put");
        if i % 5 == 0 {
            txn.delete_range(KeyRange::from_request(&[b'k', i % 7], b"k\x09"), false).expect("a delete");
        }
        let _ = txn.end();
    }
    store.compact(20).expect("a compaction");
    store.commit().expect("a commit");
    drop(store);
    let file = disk.open(Path::new("db"), OpenOptions::read()).expect("the file");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
});

fn open(disk: &SimDisk) -> Result<(Store, stanchion_mvcc::Recovered), Error> {
    // Two parts on one thread at a time would hide nothing; two threads would make runs differ.
    let options = StoreOptions { restore_threads: 1, sync: false, ..StoreOptions::default() };
    Store::open(Arc::new(disk.clone()), Path::new("db"), &options)
}

fn make(disk: &SimDisk, rows: &[Row], records: &[(u8, Vec<u8>, Vec<u8>)]) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let db = Db::open(disk, "db", Options { no_sync: true, ..Options::default() }).expect("a new file");
    let mut tx = db.begin_write().expect("a transaction");
    let mut bucket = tx.create_bucket(Table::Key.name()).expect("a bucket");
    for row in rows {
        let revision = Revision::new(row.main.get(), row.sub.get());
        let value = match &row.value {
            Value::Bytes(bytes) => bytes.clone(),
            Value::Pair { key, create, version, lease } => KeyValueRef {
                key: &[*key],
                create_revision: create.get(),
                mod_revision: revision.main,
                version: version.get(),
                value: b"v",
                lease: lease.get(),
            }
            .encode()
            .to_vec(),
        };
        bucket.put(RowKey { revision, tombstone: row.tombstone }.encode(), value).expect("a row");
    }
    for (table, key, value) in records {
        let table = Table::ALL[usize::from(*table) % Table::ALL.len()];
        let mut bucket = tx.create_bucket_if_not_exists(table.name()).expect("a bucket");
        if !key.is_empty() && key.len() < 1000 {
            bucket.put(key, value).expect("a record");
        }
    }
    tx.commit().expect("committed");
}

/// Each of these may find damage; none may do more than say so.
fn read_everything(store: &Store) -> Result<(), Error> {
    let view = store.read();
    let _ = (schema::leases(&view), schema::alarms(&view), schema::members(&view), schema::users(&view));
    let _ = (schema::roles(&view), schema::auth_revision(&view), schema::conf_state(&view));
    let _ = (schema::removed_members(&view), schema::cluster_version(&view), schema::downgrade(&view));
    let at = view.compact_revision().max(1).midpoint(view.revision());
    for revision in [0, at] {
        let _ = view.range(KeyRange::ALL, &RangeOptions { revision, ..RangeOptions::default() });
        let _ = view.count(KeyRange::from_request(b"b", b"k\x08"), revision);
        let _ = view.hash_kv(revision);
        let _ = view.history(KeyRange::ALL, revision, 10);
    }
    view.hash_file().map(drop)
}

/// Writes, compacts everything and commits; the revision in the end.
fn write_on(store: &Store) -> Result<i64, Error> {
    for key in [&b"k\x03"[..], b"\x01", b"new"] {
        let mut txn = store.write();
        txn.put(Put::new(key, b"more"))?;
        txn.delete_range(KeyRange::single(b"k\x04"), true)?;
        let _ = txn.end();
    }
    store.compact(store.revision() - 1)?;
    while store.compaction_step(50)? != CompactionStep::Idle {}
    store.commit()?;
    Ok(store.revision())
}
