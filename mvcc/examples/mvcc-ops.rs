//! Writes a store from commands: one per line of the standard input, each answered with one line.
//!
//! ```text
//! mvcc-ops FILE                     makes FILE if it is not there; commits and ends with its input
//!
//! put KEY VALUE LEASE               ok REVISION; lease 0 is none
//! delete KEY [END]                  ok REVISION
//! begin … end                       the changes between them form one transaction; `end` answers
//! lease ID TTL | revoke ID          ok REVISION; a revoke deletes the lease's keys in one transaction
//! compact REVISION                  ok ROWS, the number of removed rows
//! commit                            ok CHANGES
//! hash REVISION                     ok HASH COMPACT_REVISION
//! ```
//!
//! Keys and values are hexadecimal, `-` is the empty string. What cannot be done answers `err` and the reason.
#![allow(clippy::print_stdout, reason = "answering is what this is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use stanchion_disk::RealDisk;
use stanchion_mvcc::{CompactionStep, KeyRange, Put, Store, StoreOptions, Written, schema};

/// Rows that one step of a compaction looks at.
const COMPACTION_ROWS: usize = 1000;

type Answer<T = String> = Result<T, Box<dyn Error>>;

/// The store, and what its user has to remember: which key is attached to which lease.
struct Session {
    store: Store,
    attached: BTreeMap<Bytes, i64>,
    /// Changes since `begin`.
    open: Option<Vec<Change>>,
}

/// A change of a transaction.
enum Change {
    Put { key: Vec<u8>, value: Vec<u8>, lease: i64 },
    Delete { key: Vec<u8>, end: Vec<u8> },
}

fn main() -> Answer<()> {
    let file = std::env::args().nth(1).ok_or("usage: mvcc-ops FILE")?;
    let (store, recovered) = Store::open(Arc::new(RealDisk), Path::new(&file), &StoreOptions::default())?;
    let attached = recovered.lease_keys.into_iter().map(|found| (found.key, found.lease)).collect();
    let mut session = Session { store, attached, open: None };
    for line in std::io::stdin().lock().lines() {
        match session.obey(&line?) {
            Ok(answer) => println!("{}", format!("ok {answer}").trim_end()),
            Err(error) => println!("err {error}"),
        }
    }
    session.store.commit()?;
    Ok(())
}

impl Session {
    fn obey(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["put", key, value, lease] => {
                self.change(Change::Put { key: unhex(key)?, value: unhex(value)?, lease: lease.parse()? })
            }
            ["delete", key] => self.change(Change::Delete { key: unhex(key)?, end: Vec::new() }),
            ["delete", key, end] => self.change(Change::Delete { key: unhex(key)?, end: unhex(end)? }),
            ["begin"] => {
                self.open = Some(Vec::new());
                Ok(String::new())
            }
            ["end"] => {
                let changes = self.open.take().ok_or("there is no transaction")?;
                self.apply(&changes)
            }
            ["lease", id, ttl] => self.grant(id.parse()?, ttl.parse()?),
            ["revoke", id] => self.revoke(id.parse()?),
            ["compact", revision] => self.compact(revision.parse()?),
            ["commit"] => Ok(self.store.commit()?.map_or(0, |committed| committed.changes).to_string()),
            ["hash", revision] => {
                let hash = self.store.hash_kv(revision.parse()?)?;
                Ok(format!("{} {}", hash.hash, hash.compact_revision))
            }
            _ => Err(format!("{line:?} is no command").into()),
        }
    }

    fn change(&mut self, change: Change) -> Answer {
        match &mut self.open {
            Some(changes) => {
                changes.push(change);
                Ok(String::new())
            }
            None => self.apply(&[change]),
        }
    }

    fn apply(&mut self, changes: &[Change]) -> Answer {
        let mut txn = self.store.write();
        for change in changes {
            match change {
                Change::Put { key, value, lease } => {
                    txn.put(Put { key, value: Some(value), lease: Some(*lease), prev_kv: false })?;
                }
                Change::Delete { key, end } => {
                    txn.delete_range(KeyRange::from_request(key, end), false)?;
                }
            }
        }
        let written = txn.end();
        Ok(self.follow(written))
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Answer {
        let mut txn = self.store.write();
        schema::put_lease(&mut txn, schema::LeaseRecord { id, ttl, remaining_ttl: 0 });
        let written = txn.end();
        Ok(self.follow(written))
    }

    fn revoke(&mut self, id: i64) -> Answer {
        let mut txn = self.store.write();
        for (key, _) in self.attached.iter().filter(|(_, lease)| **lease == id) {
            txn.delete_range(KeyRange::single(key), false)?;
        }
        schema::delete_lease(&mut txn, id);
        let written = txn.end();
        Ok(self.follow(written))
    }

    /// Keeps up with what was written, as a lessor would; the answer is the revision.
    fn follow(&mut self, written: Written) -> String {
        for event in written.events {
            match event.lease {
                0 => self.attached.remove(&event.key),
                lease => self.attached.insert(event.key, lease),
            };
        }
        written.revision.to_string()
    }

    fn compact(&self, revision: i64) -> Answer {
        self.store.compact(revision)?;
        loop {
            match self.store.compaction_step(COMPACTION_ROWS)? {
                CompactionStep::Working(_) => {}
                CompactionStep::Finished(progress) => return Ok(progress.rows_removed.to_string()),
                CompactionStep::Idle => return Err("the compaction was not queued".into()),
            }
        }
    }
}

fn unhex(text: &str) -> Answer<Vec<u8>> {
    if text == "-" {
        return Ok(Vec::new());
    }
    if !text.len().is_multiple_of(2) {
        return Err(format!("{text:?} is half a byte short").into());
    }
    let digit =
        |byte: u8| char::from(byte).to_digit(16).ok_or_else(|| format!("{text:?} is not hexadecimal"));
    text.as_bytes().chunks(2).map(|pair| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}
