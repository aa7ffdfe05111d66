//! Starting a member: creating its data directory for a new cluster, or taking up an existing one, ours or etcd's.
//!
//! What lives here: the order of effects at a start, and what must fit together. What may not: what entries do (that is
//! `apply`), and the repair of anything (the log cuts its own torn end and says so).
//!
//! A new member is written so that it looks like one that stopped right after its bootstrap: the log holds one
//! membership change for each member, committed. From there on both ways are the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stanchion_api::etcdserverpb::Metadata;
use stanchion_disk::Disk;
use stanchion_mvcc::{Applied, Recovered, Store, StoreOptions, schema};
use stanchion_raft::{ConfChange, ConfChangeType};
use stanchion_snap::Snapshotter;
use stanchion_wal::{Entry, EntryRef, HardState, Options, Recovery, SnapshotMark, Wal, valid_snapshots};

use crate::apply::{Applier, Config, Fatal};
use crate::membership::{ChangeContext, Member, bootstrap_member_id, cluster_id};
use crate::older::{self, OlderError};

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

/// Who a member is; written into its log once and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The member's id.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
}

/// A cluster to be made: what all its first members are started with alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCluster {
    /// Tells clusters with equal addresses apart.
    pub token: String,
    /// Name and peer URLs of every first member.
    pub members: Vec<(String, Vec<String>)>,
    /// The name of the one that starts here.
    pub name: String,
}

impl NewCluster {
    /// The members with their ids, by rising id.
    fn members(&self) -> Vec<Member> {
        let member = |(name, peer_urls): &(String, Vec<String>)| Member {
            id: bootstrap_member_id(peer_urls, &self.token),
            name: name.clone(),
            peer_urls: peer_urls.clone(),
            ..Member::default()
        };
        let mut members: Vec<Member> = self.members.iter().map(member).collect();
        members.sort_unstable_by_key(|member| member.id);
        members
    }

    /// The ids that this member and its cluster get.
    ///
    /// # Errors
    /// [`BootError::NotAmongMembers`], [`BootError::EqualIds`].
    pub fn identity(&self) -> Result<Identity, BootError> {
        let members = self.members();
        if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(BootError::EqualIds { id: pair[0].id });
        }
        let own = members.iter().find(|member| member.name == self.name);
        let member_id = own.ok_or_else(|| BootError::NotAmongMembers { name: self.name.clone() })?.id;
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        Ok(Identity { member_id, cluster_id: cluster_id(&ids) })
    }
}

/// How a member without a log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// It founds a cluster together with others.
    New(NewCluster),
    /// It was added to a running cluster, which has told who it is. Its log begins empty: the leader sends it all.
    Join(Identity),
}

impl Bootstrap {
    fn identity(&self) -> Result<Identity, BootError> {
        match self {
            Bootstrap::New(cluster) => cluster.identity(),
            Bootstrap::Join(identity) => Ok(*identity),
        }
    }

    /// The first entries.
    fn found(&self, wal: &mut Wal) -> Result<(HardState, Vec<Entry>), BootError> {
        match self {
            Bootstrap::New(cluster) => bootstrap(wal, cluster),
            Bootstrap::Join(_) => Ok((HardState::default(), Vec::new())),
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

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The name is not in the list of first members.
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NotAmongMembers {
        /// The name.
        name: String,
    },
    /// Two first members have the same URLs.
    #[error("member {id:x} exists twice in the initial cluster configuration")]
    EqualIds {
        /// The id that both get.
        id: u64,
    },
    /// There is a log but no database: what the log has released is lost.
    #[error("the database {} is missing although the log {} exists", db.display(), wal.display())]
    MissingDatabase {
        /// The database.
        db: PathBuf,
        /// The log.
        wal: PathBuf,
    },
    /// The database does not reach up to where the log begins.
    #[error(
        "the database is applied up to {applied}, but the log begins after snapshot {snapshot}, of which there is no file"
    )]
    DatabaseTooOld {
        /// The database's applied index.
        applied: u64,
        /// The newest snapshot's index.
        snapshot: u64,
    },
    /// The log has a snapshot but the database knows no members, as in directories of 3.5 and before that were never
    /// served by 3.6.
    #[error(
        "the database knows no members although entries up to {applied} are applied: start etcd 3.6 on it once"
    )]
    NoMembers {
        /// The database's applied index.
        applied: u64,
    },
    /// The log's head does not say whose it is.
    #[error("the log {} does not name its member: {what}", wal.display())]
    Metadata {
        /// The log.
        wal: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The log failed.
    #[error(transparent)]
    Wal(#[from] stanchion_wal::Error),
    /// A snapshot file, or the directory of them, failed.
    #[error(transparent)]
    Snapshot(#[from] stanchion_snap::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] stanchion_mvcc::Error),
    /// The stored state cannot be loaded.
    #[error(transparent)]
    State(#[from] Fatal),
    /// The members that an older release left cannot be read.
    #[error(transparent)]
    Older(#[from] OlderError),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
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
        let snapshots = self.open_snapshots()?;
        let (store, recovered) = self.open_store()?;
        let metadata = Metadata { node_id: Some(identity.member_id), cluster_id: Some(identity.cluster_id) };
        let metadata = metadata.encode_to_vec();
        let mut wal = Wal::create(self.disk, &self.layout.wal, &metadata, self.wal_options)?;
        let (hard_state, entries) = self.bootstrap.found(&mut wal)?;
        let applier = Applier::open(self.config, Arc::new(store), &recovered)?;
        let start = RaftStart { hard_state, entries, ..RaftStart::default() };
        Ok(Booted { identity, wal, snapshots, applier, start, recovery: None })
    }

    fn restart(self) -> Result<Booted, BootError> {
        let mark = valid_snapshots(self.disk.clone(), &self.layout.wal)?.pop().unwrap_or_default();
        let snapshots = self.open_snapshots()?;
        let (store, recovered) = self.newest_store(&snapshots, mark.index)?;
        let applied = recovered.applied.index;
        let disk = self.disk.clone();
        let (mut wal, mut recovery, mut entries) =
            Wal::open(disk, &self.layout.wal, mark.index, mark.term, self.wal_options)?.read_all()?;
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

/// Writes the first members into an empty log, as changes that are committed.
fn bootstrap(wal: &mut Wal, new_cluster: &NewCluster) -> Result<(HardState, Vec<Entry>), BootError> {
    let entries = bootstrap_entries(&new_cluster.members());
    let hard_state = HardState { term: 1, vote: 0, commit: entries.len() as u64 };
    let refs: Vec<EntryRef<'_>> =
        entries.iter().map(|e| EntryRef::new(e.index, e.term, e.kind, &e.data)).collect();
    wal.save(&hard_state, &refs)?;
    Ok((hard_state, entries))
}

/// The kind of an entry that holds a membership change.
const ENTRY_CONF_CHANGE: u8 = 1;

/// One membership change for each first member, by rising id, as every first member writes them alike.
fn bootstrap_entries(members: &[Member]) -> Vec<Entry> {
    let entry = |(member, index): (&Member, u64)| {
        let context = ChangeContext { member: member.clone(), is_promote: false };
        let context = context.to_json().into();
        let change = ConfChange { context, ..ConfChange::new(ConfChangeType::AddNode, member.id) };
        let data = Bytes::from(change.encode());
        Entry { index, term: 1, kind: ENTRY_CONF_CHANGE, data, encoded: Bytes::new() }
    };
    members.iter().zip(1..).map(entry).collect()
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
    use crate::membership::Change;
    use stanchion_disk::RealDisk;

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
