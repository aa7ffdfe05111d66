//! Integration tests of the public API.
//!
//! Under Miri, which maps no real files, they run on simulated disks and with small numbers.

mod crash;
mod cursors;
mod errors;
mod model;
mod ops;
// Real files of 100 MiB.
#[cfg(not(miri))]
mod shrink;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;

use stanchion_disk::{Disk, RealDisk, SimDisk};

/// A real disk where there is one: the disk, a path for a database, and what removes it.
fn place() -> (Option<tempfile::TempDir>, Arc<dyn Disk>, PathBuf) {
    if cfg!(miri) {
        return (None, Arc::new(SimDisk::new(1)), "db".into());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    (Some(dir), Arc::new(RealDisk), path)
}
