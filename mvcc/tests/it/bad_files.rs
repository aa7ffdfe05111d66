//! Files whose rows and records do not fit together: refused at the start, with the record and what is wrong with it.

use std::path::Path;
use std::sync::Arc;

use stanchion_bolt::{Db, Options};
use stanchion_disk::{Disk, SimDisk};
use stanchion_mvcc::schema::Table;
use stanchion_mvcc::{Error, KeyValueRef, Revision, RowKey, Store, StoreOptions};

/// Opens a file that holds these records.
fn open(records: &[(Table, &[u8], &[u8])]) -> Result<Store, Error> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let db = Db::open(disk.clone(), "db", Options::default()).expect("a new file");
    let mut tx = db.begin_write().expect("a transaction");
    for (table, key, value) in records {
        tx.create_bucket_if_not_exists(table.name()).expect("a bucket").put(key, value).expect("a record");
    }
    tx.commit().expect("a commit");
    drop(db);
    Store::open(disk, Path::new("db"), &StoreOptions::default()).map(|(store, _)| store)
}

fn row(main: i64, sub: i64) -> Vec<u8> {
    RowKey::put(Revision::new(main, sub)).encode().to_vec()
}

fn pair(create_revision: i64, version: i64) -> Vec<u8> {
    let kv = KeyValueRef { key: b"k", create_revision, mod_revision: 3, version, value: b"v", lease: 0 };
    kv.encode().to_vec()
}

#[test]
fn rows_that_do_not_fit_together_are_refused_with_what_is_wrong() {
    let (good, last) = ((row(2, 0), pair(2, 1)), row(9, 0));
    let cases: [(Vec<u8>, Vec<u8>, &str); 6] = [
        (b"not a revision".to_vec(), pair(2, 1), "the key is not a revision"),
        (row(3, 0), b"\x0a\x09short".to_vec(), "the message ends inside a field at byte 2"),
        (row(3, 0), pair(-1, 1), "create revision -1 or version 1 is out of range"),
        (row(3, 0), pair(2, i64::MAX), "create revision 2 or version 9223372036854775807 is out of range"),
        (row(3, 1 << 40), pair(2, 2), "sub revision 1099511627776 is too large"),
        (row(i64::MAX, 0), pair(2, 2), "the newest revision"),
    ];
    for (key, value, expected) in cases {
        let mut records = vec![(Table::Key, &good.0[..], &good.1[..]), (Table::Key, &key[..], &value[..])];
        if !expected.starts_with("the newest") {
            records.push((Table::Key, &last, &good.1));
        }
        let error = open(&records).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}: {expected}");
    }
    open(&[(Table::Key, &good.0, &good.1)]).expect("a sound file");
}

#[test]
fn records_that_are_none_are_refused_with_bucket_and_key() {
    for (key, value, expected) in [
        (
            &b"consistent_index"[..],
            &b"1234567"[..],
            "record consistent_index of bucket meta: 7 bytes instead of 8",
        ),
        (
            b"scheduledCompactRev",
            b"abc",
            "record scheduledCompactRev of bucket meta: 3 bytes that are no revision",
        ),
        (
            b"finishedCompactRev",
            b"",
            "record finishedCompactRev of bucket meta: 0 bytes that are no revision",
        ),
        (b"storageVersion", b"\xff", "record storageVersion of bucket meta: "),
        (
            b"storageVersion",
            b"3.9.0",
            "storage version \"3.9.0\" of db is not supported; the newest supported one is 3.7",
        ),
    ] {
        let error = open(&[(Table::Meta, key, value)]).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
