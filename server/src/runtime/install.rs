//! A leader's snapshot takes the place of this member's state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stanchion_disk::Disk;
use stanchion_mvcc::{Store, StoreOptions};
use stanchion_replica::boot::{Layout, install_database};
use stanchion_snap::Snapshotter;

use super::applier::ApplierLoop;
use super::fatal;
use super::store_cell::StoreCell;

/// What it takes to open a received database.
#[derive(Debug)]
pub(super) struct Installer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    pub(super) options: StoreOptions,
    pub(super) snapshots: Arc<Snapshotter>,
    pub(super) store: Arc<StoreCell>,
}

impl ApplierLoop {
    /// Reads are served from the old state until the new one is whole. Whoever waits for a request of this member that
    /// the snapshot has jumped over is not told: its time runs out, as its outcome is unknown here.
    pub(super) fn install(&mut self, index: u64) {
        tracing::info!(index, "installing the leader's snapshot");
        self.metrics.server.snapshot_apply_in_progress.set(1);
        let Installer { disk, layout, options, snapshots, store } = &self.installer;
        if let Err(error) = install_database(snapshots, layout, index) {
            fatal("a received database cannot be put in place", &error);
        }
        let (opened, recovered) = match Store::open(disk.clone(), &layout.db, options) {
            Ok(opened) => opened,
            Err(error) => fatal("a received database cannot be opened", &error),
        };
        let opened = Arc::new(opened);
        if let Err(error) = self.applier.install(opened.clone(), &recovered) {
            fatal("a received database cannot be taken over", &error);
        }
        let revision = opened.revision();
        store.replace(opened);
        self.show_settings();
        self.peers.follow(self.applier.cluster());
        let applied = self.applier.applied();
        self.shared.applied_term.store(applied.term, Ordering::Relaxed);
        self.shared.applied.store(applied.index, Ordering::Relaxed);
        self.watch.restore(revision);
        self.metrics.server.snapshot_apply_in_progress.set(0);
        tracing::info!(index = applied.index, revision, "installed the leader's snapshot");
    }
}
