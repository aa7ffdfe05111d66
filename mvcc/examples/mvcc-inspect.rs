//! Looks into a store's file without changing it.
//!
//! ```text
//! mvcc-inspect FILE status                       revision, compact revision, keys, versions, sizes, file hash
//! mvcc-inspect FILE hashkv [REV]                 the hash of all keys, as members compare it
//! mvcc-inspect FILE range [KEY [END]] [--rev N]  pairs, one per line; no key means all
//! ```
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use stanchion_disk::RealDisk;
use stanchion_mvcc::{KeyRange, KeyValueRef, RangeOptions, Recovered, Store, StoreOptions, schema};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let revision = take_revision(&mut arguments)?;
    let [file, command, rest @ ..] = &arguments[..] else {
        return Err("usage: mvcc-inspect FILE status | hashkv [REV] | range [KEY [END]] [--rev N]".into());
    };
    let options = StoreOptions { read_only: true, ..StoreOptions::default() };
    let (store, recovered) = Store::open(Arc::new(RealDisk), Path::new(file), &options)?;
    match command.as_str() {
        "status" => status(&store, &recovered),
        "hashkv" => hash_kv(&store, rest.first().map_or(Ok(revision), |text| text.parse())?),
        "range" => range(&store, rest, revision),
        other => Err(format!("unknown command {other:?}").into()),
    }
}

/// Takes `--rev N` out of the arguments; 0 if it is not there.
fn take_revision(arguments: &mut Vec<String>) -> Result<i64, Box<dyn Error>> {
    let Some(at) = arguments.iter().position(|argument| argument == "--rev") else {
        return Ok(0);
    };
    arguments.remove(at);
    if at == arguments.len() {
        return Err("--rev needs a number".into());
    }
    Ok(arguments.remove(at).parse()?)
}

fn status(store: &Store, recovered: &Recovered) -> Result<(), Box<dyn Error>> {
    let view = store.read();
    println!("revision {}", recovered.revision);
    println!("compact_revision {}", recovered.compact_revision);
    println!("keys {}", recovered.keys);
    println!("keys_with_history {}", store.indexed_key_count());
    println!("attached_keys {}", recovered.lease_keys.len());
    println!("leases {}", schema::leases(&view)?.len());
    println!("applied_index {}", recovered.applied.index);
    println!("applied_term {}", recovered.applied.term);
    println!("storage_version {}", schema::storage_version(&view)?.unwrap_or_else(|| "none".into()));
    println!("cluster_version {}", schema::cluster_version(&view)?.unwrap_or_else(|| "none".into()));
    println!("size {}", store.size());
    println!("size_in_use {}", store.size_in_use());
    println!("hash {}", view.hash_file()?);
    println!("snapshot_hash {}", view.hash_snapshot()?);
    Ok(())
}

fn hash_kv(store: &Store, revision: i64) -> Result<(), Box<dyn Error>> {
    let hash = store.hash_kv(revision)?;
    println!("hash {}", hash.hash);
    println!("hash_revision {}", hash.revision);
    println!("compact_revision {}", hash.compact_revision);
    Ok(())
}

fn range(store: &Store, keys: &[String], revision: i64) -> Result<(), Box<dyn Error>> {
    let range = match keys {
        [] => KeyRange::ALL,
        [key] => KeyRange::single(key.as_bytes()),
        [key, end, ..] => KeyRange::from_request(key.as_bytes(), end.as_bytes()),
    };
    let found = store.read().range(range, &RangeOptions { revision, ..RangeOptions::default() })?;
    for row in found.rows.iter() {
        let kv = KeyValueRef::decode(row)?;
        println!(
            "{} create={} mod={} version={} lease={} value={}",
            kv.key.escape_ascii(),
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            kv.lease,
            kv.value.escape_ascii()
        );
    }
    println!("count {}", found.count);
    Ok(())
}
