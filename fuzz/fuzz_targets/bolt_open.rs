//! Arbitrary bytes, or a real database with bytes changed, as a bolt file: checked, read, copied, written and shrunk.
//!
//! First byte 0: the rest is the file. Otherwise the rest are changes to a real file (bit 1: one with a stored
//! freelist) of four bytes each: a 24-bit offset and the new byte; bit 2: the meta pages get right checksums again.

#![no_main]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use stanchion_bolt::{Bucket, Db, Error, Options, Result};
use stanchion_disk::{Disk as _, OpenOptions, SimDisk};

/// Entries read at most: buckets of a damaged file may contain each other.
const MAX_ENTRIES: usize = 20_000;
const PAGE: usize = 1024;

fuzz_target!(|input: &[u8]| {
    let Some((&how, rest)) = input.split_first() else { return };
    let bytes = if how == 0 { rest.to_vec() } else { changed(how, rest) };
    let disk = SimDisk::new(0);
    disk.open(Path::new("db"), OpenOptions::create())
        .expect("a new file")
        .write_all_at(&bytes, 0)
        .expect("written");
    let sound = read(&disk);
    let Ok(db) = open(&disk, Options::default()) else {
        assert!(!sound, "a file without findings can be written");
        return;
    };
    let written = write(&db);
    // A value may have the name that is to be a bucket's, and the other way round.
    let written =
        written.or_else(|e| if matches!(e, Error::IncompatibleValue { .. }) { Ok(()) } else { Err(e) });
    assert!(!sound || written.is_ok(), "{written:?}");
    if sound {
        assert_eq!(db.begin_read().expect("open").check(), []);
    }
});

fn open(disk: &SimDisk, options: Options) -> Result<Db> {
    Db::open(Arc::new(disk.clone()), "db", options)
}

/// Reads in all ways there are; whether the check had no finding.
fn read(disk: &SimDisk) -> bool {
    let Ok(db) = open(disk, Options::read_only()) else { return false };
    let tx = db.begin_read().expect("an open database");
    let sound = tx.check().is_empty();
    let mut left = MAX_ENTRIES;
    let entries = walk(&tx.root(), 0, &mut left);
    assert!(!sound || entries.is_ok(), "{entries:?}");
    let _ = (tx.pages(), tx.bucket_stats());
    let _ = tx.write_to(&mut std::io::sink());
    let _ =
        tx.compact_to(Arc::new(disk.clone()), "copy", Options { no_sync: true, ..Options::default() }, 4096);
    sound
}

/// Every entry forwards, backwards and by its key, buckets included.
fn walk(bucket: &Bucket<'_>, depth: usize, left: &mut usize) -> Result<()> {
    for entry in bucket.iter() {
        let (key, value) = entry?;
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        match value {
            Some(_) => drop(bucket.get(key)?),
            None if depth < 20 => {
                if let Some(inner) = bucket.bucket(key)? {
                    walk(&inner, depth + 1, left)?;
                }
            }
            None => {}
        }
    }
    let mut cursor = bucket.cursor();
    let mut entry = cursor.last()?;
    for _ in 0..MAX_ENTRIES {
        if entry.is_none() {
            break;
        }
        entry = cursor.prev()?;
    }
    Ok(())
}

fn write(db: &Db) -> Result<()> {
    let names: Vec<Vec<u8>> = {
        let tx = db.begin_read()?;
        tx.buckets().take(4).map(|entry| entry.map(|(name, _)| name.to_vec())).collect::<Result<_>>()?
    };
    for name in &names {
        db.update::<_, Error>(|tx| {
            let mut bucket = tx.bucket_mut(name)?;
            let keys: Vec<Vec<u8>> = bucket
                .as_bucket()
                .iter()
                .take(40)
                .filter_map(|entry| {
                    entry.ok().filter(|(_, value)| value.is_some()).map(|(key, _)| key.to_vec())
                })
                .collect();
            keys.iter().try_for_each(|key| bucket.delete(key).map(drop))?;
            bucket.put("fuzz", vec![1; 3000])
        })?;
    }
    if let Some(name) = names.last() {
        db.update::<_, Error>(|tx| tx.delete_bucket(name))?;
    }
    for _ in 0..20 {
        if db.shrink_step(8)?.done {
            break;
        }
    }
    Ok(())
}

/// A real file with the changes that the input asks for.
fn changed(how: u8, changes: &[u8]) -> Vec<u8> {
    static FILES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let files = FILES.get_or_init(|| [real_file(false), real_file(true)]);
    let mut bytes = files[usize::from(how & 2 != 0)].clone();
    for change in changes.chunks_exact(4).take(64) {
        let offset = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % bytes.len();
        bytes[offset] = change[3];
    }
    if how & 4 != 0 {
        for meta in [0, PAGE] {
            let sum = bytes[meta + 16..meta + 72].iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &b| {
                (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
            });
            bytes[meta + 72..meta + 80].copy_from_slice(&sum.to_le_bytes());
        }
    }
    bytes
}

/// Branches, leaves, large values, nested and inline buckets, free pages: about 60 KiB.
fn real_file(sync_freelist: bool) -> Vec<u8> {
    let disk = SimDisk::new(1);
    let options = Options { page_size: PAGE as u32, sync_freelist, ..Options::default() };
    let db = open(&disk, options).expect("a new database");
    db.update::<_, Error>(|tx| {
        let mut rows = tx.create_bucket("rows")?;
        (0..100_u32).try_for_each(|i| rows.put(i.to_be_bytes(), [i as u8; 90]))?;
        rows.create_bucket("inner")?.put("large", [5; 5000])?;
        tx.create_bucket("inline")?.put("k", "v")?;
        tx.create_bucket("dropped")?.put("k", [6; 9000])
    })
    .expect("written");
    db.update::<_, Error>(|tx| tx.delete_bucket("dropped")).expect("deleted");
    let mut bytes = Vec::new();
    db.begin_read().expect("open").write_to(&mut bytes).expect("copied");
    bytes
}
