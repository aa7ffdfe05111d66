//! The workloads: rows made from their number, and the four measurements.

use std::time::Instant;

use crate::engines::{Engine, Outcome};

const BATCH: u64 = 10_000;
const GETS: u64 = 200_000;
const SCANS: u64 = 1_000;
const SCAN_ROWS: usize = 1_000;
const VALUE_LEN: usize = 300;

pub struct Load {
    pub name: &'static str,
    pub keys: u64,
    rising: bool,
}

impl Load {
    pub fn new(name: &str, keys: u64) -> Outcome<Self> {
        match name {
            "etcd" => Ok(Self { name: "etcd", keys, rising: true }),
            "random" => Ok(Self { name: "random", keys, rising: false }),
            other => Err(format!("unknown load {other}").into()),
        }
    }

    /// How full a page is made when it is split, for engines that take advice.
    pub fn fill_percent(&self) -> f64 {
        if self.rising { 0.9 } else { 0.5 }
    }

    fn key(&self, i: u64) -> Vec<u8> {
        if self.rising {
            let mut key = vec![0; 17];
            key[..8].copy_from_slice(&i.to_be_bytes());
            key[8] = b'_';
            return key;
        }
        (0..4).flat_map(|part| mix(4 * i + part).to_be_bytes()).collect()
    }

    fn value(i: u64) -> Vec<u8> {
        let mut value = vec![i as u8; VALUE_LEN];
        value[..8].copy_from_slice(&mix(i).to_be_bytes());
        value
    }

    /// Rows a second.
    pub fn put(&self, engine: &mut dyn Engine) -> Outcome<f64> {
        let start = Instant::now();
        for first in (0..self.keys).step_by(BATCH as usize) {
            let rows = first..self.keys.min(first + BATCH);
            engine.put(&mut rows.map(|i| (self.key(i), Self::value(i))))?;
        }
        Ok(self.keys as f64 / start.elapsed().as_secs_f64())
    }

    /// Nanoseconds of a lookup.
    pub fn get(&self, engine: &dyn Engine) -> Outcome<f64> {
        let keys: Vec<Vec<u8>> = (0..GETS).map(|n| self.key(mix(n) % self.keys)).collect();
        let start = Instant::now();
        let bytes = engine.get(&keys)?;
        let nanos = start.elapsed().as_nanos() as f64 / GETS as f64;
        if bytes == GETS * VALUE_LEN as u64 { Ok(nanos) } else { Err("a row was not found".into()) }
    }

    /// Microseconds of a scan.
    pub fn scan(&self, engine: &dyn Engine) -> Outcome<f64> {
        // Rising keys: no scan begins so late that it has fewer rows. Random ones: one in a thousand may.
        let from: Vec<Vec<u8>> =
            (0..SCANS).map(|n| self.key(mix(n) % (self.keys - SCAN_ROWS as u64))).collect();
        let start = Instant::now();
        let bytes = engine.scan(&from, SCAN_ROWS)?;
        let micros = start.elapsed().as_micros() as f64 / SCANS as f64;
        let row = (VALUE_LEN + self.key(0).len()) as u64;
        if bytes > SCANS * SCAN_ROWS as u64 * row * 9 / 10 {
            Ok(micros)
        } else {
            Err("rows are missing".into())
        }
    }

    /// One more durable commit, of one row: with it an engine stores what its settings want stored.
    pub fn touch(&self, engine: &mut dyn Engine) -> Outcome<()> {
        let last = self.keys - 1;
        engine.put(&mut std::iter::once((self.key(last), Self::value(last))))
    }

    /// Rows a second: the oldest tenth.
    pub fn delete(&self, engine: &mut dyn Engine) -> Outcome<f64> {
        let dead = self.keys / 10;
        let start = Instant::now();
        for first in (0..dead).step_by(BATCH as usize) {
            engine.delete(&mut (first..dead.min(first + BATCH)).map(|i| self.key(i)))?;
        }
        Ok(dead as f64 / start.elapsed().as_secs_f64())
    }
}

/// A number that looks random (the finalizer of SplitMix64).
fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
