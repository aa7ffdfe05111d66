//! The order in which a directory of 3.5 becomes one of today, seen at every change of a file: whatever is there then is
//! what a process leaves behind that is killed at this moment.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use stanchion_api::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use stanchion_disk::{Disk, File, LockKind, Map, Metadata, OpenOptions, RealDisk};
use stanchion_mvcc::{Store, StoreOptions};
use stanchion_replica::ReleasePolicy;
use stanchion_replica::boot::{Bootstrap, Layout, NewCluster, boot};
use stanchion_replica::journal::Retention;
use stanchion_replica::older::members_at;
use stanchion_snap::Snapshotter;
use stanchion_wal::{EntryRef, HardState, SnapshotMark, valid_snapshots};

use super::*;
use crate::metrics::Metrics;
use crate::peers::PeersConfig;
use crate::runtime::{CorruptionChecks, Runtime, RuntimeConfig};

/// A directory at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    /// The storage version in the database.
    storage: Option<String>,
    /// Entries up to here are in the database.
    applied: u64,
    /// The newest mark in the log that counts.
    mark: u64,
    /// Members in the snapshot file of that mark, from which 3.5 takes them.
    members: usize,
}

/// Looks at the directory after each change of a file in it. Changes come one after the other.
#[derive(Clone, Debug)]
struct Witness {
    layout: Layout,
    /// Where files are copied to that are read: a database is locked, and a directory of snapshots is tidied up.
    copies: PathBuf,
    images: Arc<Mutex<Vec<Result<Image, String>>>>,
}

impl Witness {
    fn after<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut images = self.images.lock();
        let changed = change();
        // A thread of the member must not panic.
        let image = self.look().map_err(|error| format!("{error:#}"));
        if images.last() != Some(&image) {
            images.push(image);
        }
        changed
    }

    fn look(&self) -> anyhow::Result<Image> {
        let db = self.copies.join("db");
        std::fs::copy(&self.layout.db, &db)?;
        let (store, recovered) = Store::open(Arc::new(RealDisk), &db, &StoreOptions::default())?;
        let marks = valid_snapshots(Arc::new(RealDisk), &self.layout.wal)?;
        let mark = marks.into_iter().max_by_key(|mark| mark.index).unwrap_or_default();
        Ok(Image {
            storage: schema::storage_version(&store.read())?,
            applied: recovered.applied.index,
            mark: mark.index,
            members: self.members(&mark)?,
        })
    }

    fn members(&self, mark: &SnapshotMark) -> anyhow::Result<usize> {
        for name in RealDisk.list(&self.layout.snap)?.iter().filter(|name| name.ends_with(".snap")) {
            std::fs::copy(self.layout.snap.join(name), self.copies.join(name))?;
        }
        let (snapshots, _) = Snapshotter::open(Arc::new(RealDisk), &self.copies)?;
        Ok(members_at(&snapshots, mark)?.map_or(0, |cluster| cluster.members().count()))
    }
}

impl Disk for Witness {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, options)?;
        Ok(Arc::new(Witnessed { file, witness: self.clone() }))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        RealDisk.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealDisk.create_dir(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.after(|| RealDisk.rename(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.after(|| RealDisk.remove_file(path))
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.after(|| RealDisk.remove_dir_all(path))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
}

/// A file whose changes are seen.
#[derive(Debug)]
struct Witnessed {
    file: Arc<dyn File>,
    witness: Witness,
}

impl File for Witnessed {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.witness.after(|| self.file.write_vectored_at(bufs, offset))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.witness.after(|| self.file.allocate(offset, len))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.witness.after(|| self.file.set_len(len))
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        self.file.try_lock(kind)
    }
    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        self.file.unlock(kind)
    }
    fn map(&self, len: usize) -> io::Result<Map> {
        self.file.map(len)
    }
}

const PEER: &str = "http://127.0.0.1:1";

fn founders() -> NewCluster {
    NewCluster { token: "tests".into(), members: vec![("a".into(), vec![PEER.into()])], name: "a".into() }
}

/// A request of the v2 store, as 3.5 writes it into the log.
#[derive(Clone, PartialEq, prost::Message)]
struct V2Request {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(string, tag = "3")]
    path: String,
    #[prost(string, tag = "4")]
    value: String,
}

/// Makes a directory of one member as 3.5 leaves it: what it publishes is in the log in the words of the v2 store, and the
/// database does not name its version. Returns the index of the last entry.
fn older_directory(dir: &Path) -> u64 {
    let layout = Layout::new(dir, None);
    let config = stanchion_replica::apply::Config {
        quota_bytes: None,
        max_learners: 1,
        persist_lease_checkpoints: true,
        lease: stanchion_lease::Config::default(),
    };
    let bootstrap = Bootstrap::New(founders());
    let (store, wal) = (StoreOptions::default(), stanchion_wal::Options::default());
    let mut booted = boot(Arc::new(RealDisk), &layout, config, &store, wal, &bootstrap).unwrap();
    let attributes = format!("/0/members/{:x}/attributes", booted.identity.member_id);
    let words = [
        (attributes.as_str(), r#"{"name":"a","clientURLs":["http://127.0.0.1:2"]}"#),
        ("/0/version", "3.5.0"),
        ("/1/key", "of the v2 store"),
    ];
    let first = booted.start.hard_state.commit + 1;
    let entry = |(index, (path, value)): (u64, &(&str, &str))| {
        let (path, value) = ((*path).to_owned(), (*value).to_owned());
        (index, V2Request { id: index, method: "PUT".into(), path, value }.encode_to_vec())
    };
    let entries: Vec<(u64, Vec<u8>)> = (first..).zip(&words).map(entry).collect();
    let refs: Vec<EntryRef<'_>> =
        entries.iter().map(|(index, data)| EntryRef::new(*index, 1, 0, data)).collect();
    let last = booted.start.hard_state.commit + words.len() as u64;
    booted.wal.save(&HardState { commit: last, ..booted.start.hard_state }, &refs).unwrap();
    booted.wal.close().unwrap();
    last
}

fn config(dir: &Path) -> RuntimeConfig {
    let limit = Duration::from_secs(120);
    RuntimeConfig {
        data_dir: dir.to_path_buf(),
        wal_dir: None,
        bootstrap: Bootstrap::New(founders()),
        tick: Duration::from_millis(50),
        election_ticks: 10,
        request_timeout: limit,
        max_request_bytes: 1 << 20,
        quota_bytes: None,
        max_learners: 1,
        pre_vote: true,
        release: ReleasePolicy::default(),
        retention: Retention::default(),
        commit_interval: Duration::from_millis(100),
        commit_changes: 10_000,
        compaction_batch: 1000,
        compaction_pause: Duration::from_millis(10),
        lease_checkpoint_interval: None,
        unsafe_no_fsync: false,
        force_new_cluster: false,
        strict_reconfig_check: true,
        warning_apply_duration: limit,
        hold_cluster_version: false,
        corruption: CorruptionChecks { initial: false, period: None, compaction_period: None },
        initial_election_tick_advance: true,
        peers: PeersConfig {
            advertised: vec![PEER.into()],
            acquainted: Vec::new(),
            election: Duration::from_millis(500),
            request_timeout: limit,
        },
        unix_millis: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_marked_before_the_storage_version_changes() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let last = older_directory(dir.path());
    let witness = Witness {
        layout: Layout::new(dir.path(), None),
        copies: copies.path().to_path_buf(),
        images: Arc::default(),
    };
    let metrics = Arc::new(Metrics::new(false).unwrap());
    let runtime = Runtime::start_on(Arc::new(witness.clone()), config(dir.path()), &metrics).await.unwrap();
    // It leads, and has applied the log of 3.5, when it has published itself.
    let attributes = Attributes { name: "a".into(), client_urls: vec!["http://127.0.0.1:2".into()] };
    let member_id = runtime.handle.shared.identity.member_id;
    let request = ClusterMemberAttrSetRequest { member_id, member_attributes: Some(attributes) };
    let request = request.encode_to_vec();
    runtime
        .handle
        .propose(Caller::default(), RequestKind::ClusterMemberAttrSet, request.into())
        .await
        .unwrap();
    assert_eq!(runtime.handle.versions().cluster.as_deref(), Some("3.5.0"), "the log of 3.5 says so");
    look(&runtime.handle).await.unwrap();
    runtime.stop();

    let images: Vec<Image> = witness.images.lock().iter().map(|image| image.clone().unwrap()).collect();
    let named = |image: &&Image| image.storage.is_some();
    assert!(images.first().is_some_and(|image| image.storage.is_none() && image.mark == 0), "{images:#?}");
    assert!(images.last().is_some_and(|image| image.storage.as_deref() == Some("3.7.0")), "{images:#?}");
    // The release that a named version is meant for need not read the words of 3.5.
    assert!(images.iter().filter(named).all(|image| image.mark >= last), "{images:#?}");
    // Killed between the two it leaves a directory of 3.5 with a mark. That release takes a database that reaches up to
    // the mark, and members from the mark's file.
    let between = images.iter().any(|image| image.storage.is_none() && image.mark >= last);
    assert!(between, "{images:#?}");
    for image in images.iter().filter(|image| image.mark > 0) {
        assert!(image.applied >= image.mark && image.members == 1, "{images:#?}");
    }
}
