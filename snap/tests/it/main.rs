//! A snapshot directory from outside: what it keeps, what it refuses, what a crash leaves.

mod bad_input;
mod crash;
mod files;

use std::sync::Arc;

use stanchion_disk::SimDisk;
use stanchion_snap::Snapshotter;

const DIR: &str = "/member/snap";

/// A `raftpb.Snapshot` of this term and index with some bytes of data.
fn payload(term: u64, index: u64, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x0a];
    varint(&mut out, data.len() as u64);
    out.extend_from_slice(data);
    let mut metadata = vec![0x0a, 0x04, 0x08, 0x01, 0x28, 0x00, 0x10];
    varint(&mut metadata, index);
    metadata.push(0x18);
    varint(&mut metadata, term);
    out.push(0x12);
    varint(&mut out, metadata.len() as u64);
    out.extend_from_slice(&metadata);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn open(disk: &SimDisk) -> Snapshotter {
    Snapshotter::open(Arc::new(disk.clone()), DIR).unwrap().0
}
