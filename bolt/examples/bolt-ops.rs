//! Obeys commands, so that somebody else's engine can be compared with this one operation by operation.
//!
//! One command a line on standard input, one line of answer: `ok`, `ok <text>`, or `err <kind>`. Names, keys and values
//! are hex, `-` is an empty value; a path is bucket names joined by `/`.
//!
//! ```text
//! open FILE              makes it if it is not there        begin              of a write transaction
//! bucket PATH            makes the last bucket of the path   commit | rollback
//! drop PATH              deletes a bucket and all in it      check              ok, or err findings …
//! put PATH KEY VALUE     fill PATH KEY LEN BYTE              dump               ok <pairs> <FNV-1a 64 of all>
//! delete PATH KEY        get PATH KEY: ok [VALUE]            close
//! sequence PATH          the next one: ok <number>      shrink             ok <pages moved or saved>
//! ```
//!
//! Kinds: bucket-exists, bucket-not-found, bucket-name-required, key-required, key-too-large, incompatible-value; any
//! other error is `err` and its message. `check` and `dump` run in a read transaction of their own. Nothing is synced.
//!
//! A dump goes through all buckets in key order, depth first. It hashes for each bucket: `B`, depth as 4 bytes, name
//! length as 4 bytes, name, sequence as 8 bytes; for each pair: `K`, depth, key length, key, value length, value.
//! Numbers are little-endian; the buckets of the root have depth 0 and their pairs depth 1.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use stanchion_bolt::{Bucket, BucketMut, Db, Error, Options, WriteTx};
use stanchion_disk::RealDisk;

fn main() -> io::Result<()> {
    let mut session = Session::default();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = match session.obey(&line?) {
            Ok(text) if text.is_empty() => "ok".to_owned(),
            Ok(text) => format!("ok {text}"),
            Err(Failure::Bolt(error)) => format!("err {}", kind(&error)),
            Err(Failure::Findings(text)) => format!("err findings {text}"),
            Err(Failure::Misuse(text)) => format!("err misuse: {text}"),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

enum Failure {
    Bolt(Error),
    Findings(String),
    Misuse(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Bolt(error)
    }
}

type Answer = Result<String, Failure>;

fn kind(error: &Error) -> String {
    match error {
        Error::BucketExists { .. } => "bucket-exists",
        Error::BucketNotFound { .. } => "bucket-not-found",
        Error::BucketNameEmpty => "bucket-name-required",
        Error::KeyEmpty => "key-required",
        Error::KeyTooLarge { .. } => "key-too-large",
        Error::IncompatibleValue { .. } => "incompatible-value",
        other => return other.to_string(),
    }
    .to_owned()
}

/// The open file and its write transaction. The transaction is dropped first.
#[derive(Default)]
struct Session {
    tx: Option<WriteTx>,
    db: Option<Db>,
}

impl Session {
    fn obey(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["open", path] => self.open(path)?,
            ["close"] => (self.tx, self.db) = (None, None),
            ["begin"] => self.tx = Some(self.db()?.begin_write()?),
            ["commit"] => self.take_tx()?.commit()?,
            ["rollback"] => self.take_tx()?.rollback(),
            ["check"] => return self.check(),
            ["dump"] => return self.dump(),
            ["shrink"] => return self.shrink(),
            [command, path, ref rest @ ..] => {
                let path = path.split('/').map(unhex).collect::<Result<Vec<_>, _>>()?;
                let tx = self.tx.as_mut().ok_or(Failure::Misuse("no transaction"))?;
                return change(tx, command, &path, rest);
            }
            _ => return Err(Failure::Misuse("unknown command")),
        }
        Ok(String::new())
    }

    fn open(&mut self, path: &str) -> Result<(), Failure> {
        let lock_timeout = Some(Duration::from_secs(5));
        let options = Options { lock_timeout, no_sync: true, ..Options::default() };
        self.db = Some(Db::open(Arc::new(RealDisk), path, options)?);
        Ok(())
    }

    fn db(&self) -> Result<&Db, Failure> {
        self.db.as_ref().ok_or(Failure::Misuse("no file is open"))
    }

    fn take_tx(&mut self) -> Result<WriteTx, Failure> {
        self.tx.take().ok_or(Failure::Misuse("no transaction"))
    }

    fn check(&self) -> Answer {
        let findings = self.db()?.begin_read()?.check();
        if findings.is_empty() {
            return Ok(String::new());
        }
        Err(Failure::Findings(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    }

    /// Small steps, as many as there is something to do.
    fn shrink(&self) -> Answer {
        let mut pages = 0;
        loop {
            let report = self.db()?.shrink_step(8)?;
            pages += report.moved + report.joined;
            if report.done {
                return Ok(pages.to_string());
            }
        }
    }

    fn dump(&self) -> Answer {
        let tx = self.db()?.begin_read()?;
        let mut dump = Dump { hash: FNV_OFFSET, pairs: 0 };
        dump.nested(&tx.root(), 0)?;
        Ok(format!("{} {:016x}", dump.pairs, dump.hash))
    }
}

fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    if text == "-" {
        return Ok(Vec::new());
    }
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair).map_err(|_| Failure::Misuse("not hex"))?;
        u8::from_str_radix(digits, 16).map_err(|_| Failure::Misuse("not hex"))
    });
    pairs.collect()
}

/// Runs a command inside the write transaction.
fn change(tx: &mut WriteTx, command: &str, path: &[Vec<u8>], rest: &[&str]) -> Answer {
    let create = command == "bucket";
    if !create && command != "drop" {
        return with_bucket(tx, path, &mut |bucket| operate(bucket, command, rest));
    }
    match path {
        [] => Err(Failure::Misuse("no path")),
        [name] if create => nothing(tx.create_bucket(name).map(drop)),
        [name] => nothing(tx.delete_bucket(name)),
        [parents @ .., name] => with_bucket(tx, parents, &mut |parent| {
            nothing(if create { parent.create_bucket(name).map(drop) } else { parent.delete_bucket(name) })
        }),
    }
}

type Act<'a> = &'a mut dyn FnMut(&mut BucketMut<'_>) -> Answer;

/// Lets `act` work on the bucket at the end of the path.
fn with_bucket(tx: &mut WriteTx, path: &[Vec<u8>], act: Act<'_>) -> Answer {
    let (first, rest) = path.split_first().ok_or(Failure::Misuse("no path"))?;
    within(&mut tx.bucket_mut(first).map_err(no_bucket)?, rest, act)
}

fn within(bucket: &mut BucketMut<'_>, path: &[Vec<u8>], act: Act<'_>) -> Answer {
    match path.split_first() {
        None => act(bucket),
        Some((name, rest)) => within(&mut bucket.bucket_mut(name).map_err(no_bucket)?, rest, act),
    }
}

/// A value on the way is no bucket: bbolt does not tell the two apart.
fn no_bucket(error: Error) -> Error {
    match error {
        Error::IncompatibleValue { name, .. } => Error::BucketNotFound { name },
        other => other,
    }
}

fn nothing(result: Result<(), Error>) -> Answer {
    Ok(result.map(|()| String::new())?)
}

fn operate(bucket: &mut BucketMut<'_>, command: &str, rest: &[&str]) -> Answer {
    match (command, rest) {
        ("put", [key, value]) => nothing(bucket.put(unhex(key)?, unhex(value)?)),
        ("fill", [key, len, byte]) => {
            let len = len.parse().map_err(|_| Failure::Misuse("not a length"))?;
            let value = unhex(byte)?.repeat(len);
            nothing(bucket.put(unhex(key)?, value))
        }
        ("delete", [key]) => nothing(bucket.delete(unhex(key)?).map(drop)),
        ("get", [key]) => {
            let key = unhex(key)?;
            let value = bucket.get(&key)?.unwrap_or_default();
            Ok(value.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        ("sequence", []) => Ok(bucket.next_sequence().to_string()),
        _ => Err(Failure::Misuse("unknown command")),
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

struct Dump {
    hash: u64,
    pairs: u64,
}

impl Dump {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    fn text(&mut self, text: &[u8]) {
        // Neither keys nor values are longer than 2^31.
        self.bytes(&(text.len() as u32).to_le_bytes());
        self.bytes(text);
    }

    /// Hashes what is in `bucket`, whose pairs have this depth.
    fn nested(&mut self, bucket: &Bucket<'_>, depth: u32) -> Result<(), Failure> {
        for entry in bucket.iter() {
            let (key, value) = entry?;
            let Some(value) = value else {
                let Some(inner) = bucket.bucket(key)? else {
                    return Err(Failure::Misuse("a bucket that was listed is not there"));
                };
                self.bytes(b"B");
                self.bytes(&depth.to_le_bytes());
                self.text(key);
                self.bytes(&inner.sequence().to_le_bytes());
                self.nested(&inner, depth + 1)?;
                continue;
            };
            self.pairs += 1;
            self.bytes(b"K");
            self.bytes(&depth.to_le_bytes());
            self.text(key);
            self.text(value);
        }
        Ok(())
    }
}
