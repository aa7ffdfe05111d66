//! The engines behind one trait: rows in one table, a durable commit per batch, reads in one transaction.
//!
//! Settings are those a user of the workload would choose: durable commits, room in the map, no stored freelist.

use std::error::Error;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadableDatabase as _, TableDefinition};
use stanchion_disk::RealDisk;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Bytes of address space for engines that want to know beforehand.
const MAP_SIZE: usize = 32 << 30;

pub trait Engine {
    /// Writes rows in one durable commit.
    fn put(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome<()>;
    /// Deletes keys in one durable commit.
    fn delete(&mut self, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Outcome<()>;
    /// Looks keys up in one read transaction; returns how many bytes of values it saw.
    fn get(&self, keys: &[Vec<u8>]) -> Outcome<u64>;
    /// Reads so many rows from each of these keys on; returns how many bytes of keys and values it saw.
    fn scan(&self, from: &[Vec<u8>], rows: usize) -> Outcome<u64>;
}

/// Bytes seen: looks at the value's ends, so that no engine gets away with not fetching it.
fn seen(value: &[u8]) -> u64 {
    std::hint::black_box(value.first().zip(value.last()).map(|(a, b)| a ^ b));
    value.len() as u64
}

pub struct Bolt {
    db: stanchion_bolt::Db,
    fill_percent: f64,
}

impl Bolt {
    pub fn open(dir: &Path, fill_percent: f64, sync_freelist: bool) -> Outcome<Self> {
        let options =
            stanchion_bolt::Options { initial_map_size: 8 << 30, sync_freelist, ..Default::default() };
        let db = stanchion_bolt::Db::open(Arc::new(RealDisk), dir.join("db"), options)?;
        Ok(Self { db, fill_percent })
    }
}

impl Engine for Bolt {
    fn put(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome<()> {
        let mut tx = self.db.begin_write()?;
        let mut bucket = tx.create_bucket_if_not_exists("key")?;
        bucket.set_fill_percent(self.fill_percent);
        for (key, value) in rows {
            bucket.put(key, value)?;
        }
        Ok(tx.commit()?)
    }

    fn delete(&mut self, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Outcome<()> {
        let mut tx = self.db.begin_write()?;
        let mut bucket = tx.bucket_mut("key")?;
        for key in keys {
            bucket.delete(key)?;
        }
        Ok(tx.commit()?)
    }

    fn get(&self, keys: &[Vec<u8>]) -> Outcome<u64> {
        let tx = self.db.begin_read()?;
        let bucket = tx.bucket("key")?.ok_or("no bucket")?;
        let mut bytes = 0;
        for key in keys {
            bytes += bucket.get(key)?.map_or(0, seen);
        }
        Ok(bytes)
    }

    fn scan(&self, from: &[Vec<u8>], rows: usize) -> Outcome<u64> {
        let tx = self.db.begin_read()?;
        let bucket = tx.bucket("key")?.ok_or("no bucket")?;
        let mut bytes = 0;
        for from in from {
            for entry in bucket.range::<&[u8], _>(from.as_slice()..).take(rows) {
                let (key, value) = entry?;
                bytes += key.len() as u64 + value.map_or(0, seen);
            }
        }
        Ok(bytes)
    }
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("key");

pub struct Redb(redb::Database);

impl Redb {
    pub fn open(dir: &Path) -> Outcome<Self> {
        Ok(Self(redb::Database::create(dir.join("redb"))?))
    }
}

impl Engine for Redb {
    fn put(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome<()> {
        let tx = self.0.begin_write()?;
        {
            let mut table = tx.open_table(TABLE)?;
            for (key, value) in rows {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }

    fn delete(&mut self, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Outcome<()> {
        let tx = self.0.begin_write()?;
        {
            let mut table = tx.open_table(TABLE)?;
            for key in keys {
                table.remove(key.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get(&self, keys: &[Vec<u8>]) -> Outcome<u64> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut bytes = 0;
        for key in keys {
            bytes += table.get(key.as_slice())?.map_or(0, |v| seen(v.value()));
        }
        Ok(bytes)
    }

    fn scan(&self, from: &[Vec<u8>], rows: usize) -> Outcome<u64> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut bytes = 0;
        for from in from {
            for entry in table.range(from.as_slice()..)?.take(rows) {
                let (key, value) = entry?;
                bytes += key.value().len() as u64 + seen(value.value());
            }
        }
        Ok(bytes)
    }
}

type Lmdb = heed::Database<heed::types::Bytes, heed::types::Bytes>;

pub struct Heed {
    env: heed::Env,
    table: Lmdb,
}

impl Heed {
    pub fn open(dir: &Path) -> Outcome<Self> {
        // SAFETY: the directory was made for this run; nobody else opens it.
        let env = unsafe { heed::EnvOpenOptions::new().map_size(MAP_SIZE).open(dir)? };
        let mut tx = env.write_txn()?;
        let table = env.create_database(&mut tx, None)?;
        tx.commit()?;
        Ok(Self { env, table })
    }
}

impl Engine for Heed {
    fn put(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome<()> {
        let mut tx = self.env.write_txn()?;
        for (key, value) in rows {
            self.table.put(&mut tx, &key, &value)?;
        }
        Ok(tx.commit()?)
    }

    fn delete(&mut self, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Outcome<()> {
        let mut tx = self.env.write_txn()?;
        for key in keys {
            self.table.delete(&mut tx, &key)?;
        }
        Ok(tx.commit()?)
    }

    fn get(&self, keys: &[Vec<u8>]) -> Outcome<u64> {
        let tx = self.env.read_txn()?;
        let mut bytes = 0;
        for key in keys {
            bytes += self.table.get(&tx, key)?.map_or(0, seen);
        }
        Ok(bytes)
    }

    fn scan(&self, from: &[Vec<u8>], rows: usize) -> Outcome<u64> {
        let tx = self.env.read_txn()?;
        let mut bytes = 0;
        for from in from {
            let bounds = (Bound::Included(from.as_slice()), Bound::Unbounded);
            for entry in self.table.range(&tx, &bounds)?.take(rows) {
                let (key, value) = entry?;
                bytes += key.len() as u64 + seen(value);
            }
        }
        Ok(bytes)
    }
}

pub struct Jammdb(jammdb::DB);

impl Jammdb {
    pub fn open(dir: &Path) -> Outcome<Self> {
        Ok(Self(jammdb::DB::open(dir.join("jammdb"))?))
    }
}

impl Engine for Jammdb {
    fn put(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome<()> {
        let tx = self.0.tx(true)?;
        let bucket = tx.get_or_create_bucket("key")?;
        for (key, value) in rows {
            bucket.put(key, value)?;
        }
        Ok(tx.commit()?)
    }

    fn delete(&mut self, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Outcome<()> {
        let tx = self.0.tx(true)?;
        let bucket = tx.get_bucket("key")?;
        for key in keys {
            bucket.delete(key)?;
        }
        Ok(tx.commit()?)
    }

    fn get(&self, keys: &[Vec<u8>]) -> Outcome<u64> {
        let tx = self.0.tx(false)?;
        let bucket = tx.get_bucket("key")?;
        let mut bytes = 0;
        for key in keys {
            bytes += bucket.get_kv(key).map_or(0, |kv| seen(kv.value()));
        }
        Ok(bytes)
    }

    fn scan(&self, from: &[Vec<u8>], rows: usize) -> Outcome<u64> {
        let tx = self.0.tx(false)?;
        let bucket = tx.get_bucket("key")?;
        let mut bytes = 0;
        for from in from {
            let mut cursor = bucket.cursor();
            cursor.seek(from);
            for data in cursor.take(rows) {
                if let jammdb::Data::KeyValue(kv) = data {
                    bytes += kv.key().len() as u64 + seen(kv.value());
                }
            }
        }
        Ok(bytes)
    }
}

/// Length of all files in a directory.
pub fn bytes_in(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    let mut paths: Vec<PathBuf> = vec![dir.to_path_buf()];
    while let Some(path) = paths.pop() {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                paths.push(entry.path())
            } else {
                bytes += entry.metadata()?.len()
            }
        }
    }
    Ok(bytes)
}
