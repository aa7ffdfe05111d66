//! Starting a member: creating its data directory for a new cluster, or taking up an existing one, ours or etcd's.
//!
//! What lives here: the order of effects at a start, and what must fit together. What may not: what entries do (that is
//! `apply`), and the repair of anything (the log cuts its own torn end and says so).
//!
//! A new member is written so that it looks like one that stopped right after its bootstrap: the log holds one
//! membership change for each member, committed. From there on both ways are the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use stanchion_api::etcdserverpb::Metadata;
use stanchion_disk::Disk;
use stanchion_mvcc::{Applied, Recovered, Store, StoreOptions, schema};
use stanchion_snap::{DIR_MODE, Snapshotter};
use stanchion_wal::{Entry, HardState, Options, Recovery, SnapshotMark, Wal, valid_snapshots};

use crate::apply::{Applier, Config};
use crate::older;

mod error;
mod founding;

pub use error::BootError;
pub use founding::{Bootstrap, Identity, NewCluster};

/// Where a member keeps what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The log.
    pub wal: PathBuf,
    /// Snapshots, and the database beside them.
    pub snap: PathBuf,
    /// The database.
    pub db: PathBuf,
}

impl Layout {
    /// etcd's layout of a data directory; the log may be elsewhere (`--wal-dir`).
    #[must_use]
    pub fn new(data_dir: &Path, wal_dir: Option<&Path>) -> Layout {
        let member = data_dir.join("member");
        let snap = member.join("snap");
        Layout {
            wal: wal_dir.map_or_else(|| member.join("wal"), Path::to_path_buf),
            db: snap.join("db"),
            snap,
        }
    }
}

/// A member that is ready to take part.
#[derive(Debug)]
pub struct Booted {
    /// Who it is.
    pub identity: Identity,
    /// Its log, open for append.
    pub wal: Wal,
    /// Its snapshot files, and databases that others send.
    pub snapshots: Arc<Snapshotter>,
    /// Its state.
    pub applier: Applier,
    /// What raft starts from.
    pub start: RaftStart,
    /// What opening the log found; `None` for a new member.
    pub recovery: Option<Recovery>,
}

/// What raft starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStart {
    /// The last hard state, its commit raised to what is applied.
    pub hard_state: HardState,
    /// The position just before the first entry: index and term of the snapshot mark.
    pub base: Applied,
    /// The entries behind that, without gaps.
    pub entries: Vec<Entry>,
    /// Entries up to here are in the state already, membership changes included.
    pub applied: u64,
    /// Voters as of the applied entry.
    pub voters: Vec<u64>,
    /// Learners as of the applied entry.
    pub learners: Vec<u64>,
}

/// Starts a member: takes up its directory if there is a log in it, or else makes a new one as `bootstrap` says.
///
/// # Errors
/// [`BootError`]. Nothing of an existing directory is changed then, but the torn end of the log.
pub fn boot(
    disk: Arc<dyn Disk>,
    layout: &Layout,
    config: Config,
    options: &StoreOptions,
    wal_options: Options,
    bootstrap: &Bootstrap,
) -> Result<Booted, BootError> {
    let boot = Boot { disk, layout, config, options, wal_options, bootstrap };
    if stanchion_wal::exists(&*boot.disk, &layout.wal)? {
        boot.restart()
    } else {
        // The ids are checked before anything is written.
        boot.create(bootstrap.identity()?)
    }
}

/// What [`boot`] is given.
struct Boot<'a> {
    disk: Arc<dyn Disk>,
    layout: &'a Layout,
    config: Config,
    options: &'a StoreOptions,
    wal_options: Options,
    bootstrap: &'a Bootstrap,
}

impl Boot<'_> {
    fn create(self, identity: Identity) -> Result<Booted, BootError> {
        let snapshots = self.layout.snap.clone();
        let made = self.disk.create_dir_all(&snapshots, DIR_MODE);
        made.map_err(|source| BootError::Io { path: snapshots, source })?;
        // Locked before anything else is touched.
        let (store, recovered) = self.open_store()?;
        let snapshots = self.open_snapshots()?;
        let metadata = Metadata { node_id: Some(identity.member_id), cluster_id: Some(identity.cluster_id) };
        let metadata = metadata.encode_to_vec();
        let mut wal = Wal::create(self.disk, &self.layout.wal, &metadata, self.wal_options)?;
        let (hard_state, entries) = self.bootstrap.found(&mut wal)?;
        let applier = Applier::open(self.config, Arc::new(store), &recovered)?;
        let start = RaftStart { hard_state, entries, ..RaftStart::default() };
        Ok(Booted { identity, wal, snapshots, applier, start, recovery: None })
    }

    fn restart(self) -> Result<Booted, BootError> {
        // The newest by index, as etcd takes it: etcd may write the mark of a snapshot of its own after that of a leader's
        // snapshot which has overtaken it meanwhile.
        let marks = valid_snapshots(self.disk.clone(), &self.layout.wal)?;
        let mark = marks.into_iter().max_by_key(|mark| mark.index).unwrap_or_default();
        // Locked before anything else is touched: another process may be receiving a database.
        let log = Wal::open(self.disk.clone(), &self.layout.wal, mark.index, mark.term, self.wal_options)?;
        let snapshots = self.open_snapshots()?;
        let (store, recovered) = self.newest_store(&snapshots, mark.index)?;
        let applied = recovered.applied.index;
        let (mut wal, mut recovery, mut entries) = log.read_all()?;
        let identity = identity(&self.layout.wal, &recovery.metadata)?;
        let max_learners = self.config.max_learners;
        let mut applier = Applier::open(self.config, Arc::new(store), &recovered)?;
        if schema::storage_version(&applier.store().read())?.is_none()
            && let Some(mut members) = older::members_at(&snapshots, &mark)?
        {
            older::follow(&mut members, &entries, applied, max_learners);
            older::repair(&mut applier, members);
        }
        if applied > 0 && applier.cluster().members().next().is_none() {
            return Err(BootError::NoMembers { applied });
        }
        if recovery.last_index == 0
            && recovery.hard_state.is_empty()
            && self.bootstrap.identity().ok() == Some(identity)
        {
            // It stopped between the creation of its log and the first entries.
            (recovery.hard_state, entries) = self.bootstrap.found(&mut wal)?;
            recovery.last_index = recovery.hard_state.commit;
        }
        let start = raft_start(&recovery, mark, entries, &applier);
        Ok(Booted { identity, wal, snapshots, applier, start, recovery: Some(recovery) })
    }

    fn open_snapshots(&self) -> Result<Arc<Snapshotter>, BootError> {
        let (snapshots, _orphans) = Snapshotter::open(self.disk.clone(), &self.layout.snap)?;
        Ok(Arc::new(snapshots))
    }

    fn open_store(&self) -> Result<(Store, Recovered), BootError> {
        Ok(Store::open(self.disk.clone(), &self.layout.db, self.options)?)
    }

    /// The database, which must reach up to the newest mark. A leader's database that was received, but not put in
    /// place before the member stopped, is put in place now.
    fn newest_store(&self, snapshots: &Snapshotter, marked: u64) -> Result<(Store, Recovered), BootError> {
        let received = snapshots.database(marked);
        if exists(&*self.disk, &self.layout.db)? {
            let (store, recovered) = self.open_store()?;
            let applied = recovered.applied.index;
            if applied >= marked {
                return Ok((store, recovered));
            }
            // Dropped here: the old one is closed before it is replaced.
            received.map_err(|_| BootError::DatabaseTooOld { applied, snapshot: marked })?;
        } else {
            let (db, wal) = (self.layout.db.clone(), self.layout.wal.clone());
            received.map_err(|_| BootError::MissingDatabase { db, wal })?;
        }
        install_database(snapshots, self.layout, marked)?;
        let (store, recovered) = self.open_store()?;
        let applied = recovered.applied.index;
        if applied < marked {
            return Err(BootError::DatabaseTooOld { applied, snapshot: marked });
        }
        Ok((store, recovered))
    }
}

/// Puts the database that was received for a snapshot into the place of the member's own. Images of the old one that
/// are being read stay readable.
///
/// # Errors
/// There is none, or it cannot be moved.
pub fn install_database(
    snapshots: &Snapshotter,
    layout: &Layout,
    index: u64,
) -> Result<(), stanchion_snap::Error> {
    let name = layout.db.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or("db");
    snapshots.install_database(index, name).map(drop)
}

/// The database may be ahead of the commit index that the log has on disk, and even of the log's end: what is applied
/// was committed.
fn raft_start(recovery: &Recovery, mark: SnapshotMark, entries: Vec<Entry>, applier: &Applier) -> RaftStart {
    let applied = applier.applied().index.min(recovery.last_index).max(mark.index);
    let mut hard_state = recovery.hard_state;
    hard_state.commit = hard_state.commit.max(applied);
    let ids =
        |learners: bool| applier.cluster().members().filter(move |m| m.is_learner == learners).map(|m| m.id);
    RaftStart {
        hard_state,
        base: Applied { index: mark.index, term: mark.term },
        entries,
        applied,
        voters: ids(false).collect(),
        learners: ids(true).collect(),
    }
}

fn identity(wal: &Path, metadata: &[u8]) -> Result<Identity, BootError> {
    let wrong = |what: String| BootError::Metadata { wal: wal.to_path_buf(), what };
    let metadata = Metadata::decode(metadata).map_err(|e| wrong(e.to_string()))?;
    match (metadata.node_id(), metadata.cluster_id()) {
        (0, _) | (_, 0) => Err(wrong("an id is missing".to_owned())),
        (member_id, cluster_id) => Ok(Identity { member_id, cluster_id }),
    }
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, BootError> {
    disk.exists(path).map_err(|source| BootError::Io { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::{Change, ChangeContext};
    use stanchion_disk::RealDisk;
    use stanchion_raft::ConfChange;

    fn config() -> Config {
        Config {
            quota_bytes: None,
            max_learners: 1,
            persist_lease_checkpoints: true,
            lease: stanchion_lease::Config::default(),
        }
    }

    fn cluster() -> NewCluster {
        let member = |name: &str, port: u16| (name.to_owned(), vec![format!("http://127.0.0.1:{port}")]);
        NewCluster {
            token: "tok1".into(),
            members: vec![member("a", 24791), member("b", 24792)],
            name: "a".into(),
        }
    }

    fn start_as(dir: &Path, bootstrap: &Bootstrap) -> Result<Booted, BootError> {
        let layout = Layout::new(dir, None);
        boot(Arc::new(RealDisk), &layout, config(), &StoreOptions::default(), Options::default(), bootstrap)
    }

    fn start(dir: &Path) -> Result<Booted, BootError> {
        start_as(dir, &Bootstrap::New(cluster()))
    }

    /// Applies all membership changes of the log, as the member's first round does.
    fn apply_all(booted: &mut Booted) {
        for entry in booted.start.entries.clone() {
            let change = ConfChange::decode(entry.data.clone()).unwrap();
            let context = ChangeContext::from_json(&change.context).unwrap();
            assert_eq!(change.node_id, context.member.id);
            booted.applier.apply_change(entry.index, entry.term, &Change::from_context(context, false));
        }
        booted.applier.store().commit().unwrap();
    }

    #[test]
    fn a_new_member_is_one_that_stopped_after_its_bootstrap() {
        let dir = tempfile::tempdir().unwrap();
        let first = start(dir.path()).unwrap();
        assert_eq!(first.identity.member_id, 0x249a_333a_f4fe_0c78);
        assert_eq!(first.start.hard_state.commit, 2);
        let (identity, entries) = (first.identity, first.start.entries.clone());
        drop(first);
        let mut second = start(dir.path()).unwrap();
        assert_eq!(second.identity, identity);
        assert_eq!(second.start.applied, 0);
        let payloads =
            |entries: &[Entry]| entries.iter().map(|e| (e.index, e.data.clone())).collect::<Vec<_>>();
        assert_eq!(payloads(&second.start.entries), payloads(&entries));
        apply_all(&mut second);
        drop(second);
        let third = start(dir.path()).unwrap();
        assert_eq!((third.start.applied, third.start.voters.len()), (2, 2));
        assert!(third.start.learners.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None);
        let stranger = NewCluster { name: "x".into(), ..cluster() };
        let refused = start_as(dir.path(), &Bootstrap::New(stranger));
        assert!(matches!(refused, Err(BootError::NotAmongMembers { .. })));
        assert!(!layout.wal.exists());
        let twice = NewCluster { members: vec![cluster().members[0].clone(); 2], ..cluster() };
        assert!(matches!(twice.identity(), Err(BootError::EqualIds { .. })));

        drop(start(dir.path()).unwrap());
        std::fs::remove_file(&layout.db).unwrap();
        assert!(matches!(start(dir.path()), Err(BootError::MissingDatabase { .. })));
    }

    #[test]
    fn a_directory_in_use_is_refused_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None);
        let running = start(dir.path()).unwrap();
        // What a member that receives a database has there until it is complete.
        let arriving = layout.snap.join("tmp123456");
        std::fs::write(&arriving, b"half of it").unwrap();
        let refused = start(dir.path());
        assert!(matches!(refused, Err(BootError::Wal(stanchion_wal::Error::Locked { .. }))), "{refused:?}");
        assert!(arriving.exists());
        drop(running);
        drop(start(dir.path()).unwrap());
        assert!(!arriving.exists(), "what nobody is writing any more is removed");
    }

    #[test]
    fn who_joins_begins_with_an_empty_log() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity { member_id: 5, cluster_id: 6 };
        for _ in 0..2 {
            let joined = start_as(dir.path(), &Bootstrap::Join(identity)).unwrap();
            assert_eq!(joined.identity, identity);
            assert_eq!((joined.start.entries.len(), joined.start.voters.len()), (0, 0));
            assert!(joined.start.hard_state.is_empty());
        }
    }
}
