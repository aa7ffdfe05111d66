//! Members that are driven by hand, one step of work at a time.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::{RequestKind, wrap};
use stanchion_disk::RealDisk;
use stanchion_mvcc::{Store, StoreOptions};
use stanchion_raft::{Message, MessageType, Role};
use stanchion_replica::apply::{Applier, Config, Effect};
use stanchion_replica::boot::{Booted, Bootstrap, Layout, NewCluster, boot, install_database};
use stanchion_replica::consensus::{AppendWork, Consensus, ConsensusConfig};
use stanchion_replica::journal::{Journal, Retention};
use stanchion_replica::snapshot::of_image;
use stanchion_replica::{Granted, ReleasePolicy, Round};
use stanchion_snap::Snapshotter;
use stanchion_wal::Options;

pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) consensus: Consensus,
    pub(crate) applier: Applier,
    journal: Journal,
    pub(crate) snapshots: Arc<Snapshotter>,
    layout: Layout,
    pub(crate) effects: BTreeMap<u64, Effect>,
    pub(crate) granted: Vec<Granted>,
    /// Messages that wait to be carried.
    pub(crate) outbox: Vec<Message>,
    pub(crate) releases: usize,
    /// Snapshots that were sent.
    pub(crate) sent: usize,
    /// Databases on their way, each with the message that announces it.
    pub(crate) databases: Vec<(Message, Vec<u8>)>,
    /// Databases of others that were put in place.
    pub(crate) installed: usize,
    pub(crate) hub: stanchion_watch::Hub,
    requests: u64,
    /// The disk takes what it is given and gives nothing back.
    hangs: bool,
    /// What it has not given back.
    held: Vec<AppendWork>,
}

pub(crate) fn founders(names: &[&str], own: &str) -> NewCluster {
    let members = names
        .iter()
        .zip(1..)
        .map(|(name, n)| ((*name).to_owned(), vec![format!("http://127.0.0.1:{n}")]))
        .collect();
    NewCluster { token: "tests".into(), members, name: own.to_owned() }
}

impl Member {
    pub(crate) fn start(dir: &Path, cluster: &NewCluster, release: ReleasePolicy) -> Member {
        Member::start_as(dir, &Bootstrap::New(cluster.clone()), release)
    }

    pub(crate) fn start_as(dir: &Path, bootstrap: &Bootstrap, release: ReleasePolicy) -> Member {
        let config = Config {
            quota_bytes: None,
            max_learners: 1,
            persist_lease_checkpoints: true,
            lease: stanchion_lease::Config::default(),
        };
        let layout = Layout::new(dir, None);
        let wal_options = Options::default().segment_size(1 << 16);
        let booted: Booted =
            boot(Arc::new(RealDisk), &layout, config, &StoreOptions::default(), wal_options, bootstrap)
                .expect("it starts");
        let id = booted.identity.member_id;
        let consensus_config = ConsensusConfig {
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            read_retry_ticks: 5,
            release,
            seed: id,
            start_id: 1,
        };
        let mut consensus = Consensus::new(id, &booted.start, &consensus_config).expect("the log fits");
        consensus.start().expect("it may campaign");
        let hub = stanchion_watch::Hub::new(booted.applier.store().revision(), 128);
        let retention = Retention { segments: 1, snapshots: 2 };
        Member {
            id,
            consensus,
            applier: booted.applier,
            journal: Journal::new(Arc::new(RealDisk), booted.wal, booted.snapshots.clone(), retention),
            snapshots: booted.snapshots,
            layout,
            sent: 0,
            databases: Vec::new(),
            installed: 0,
            effects: BTreeMap::new(),
            granted: Vec::new(),
            outbox: Vec::new(),
            releases: 0,
            hub,
            requests: 0,
            hangs: false,
            held: Vec::new(),
        }
    }

    /// Does all work that is due, until there is none.
    pub(crate) fn run(&mut self) {
        loop {
            let outputs = self.consensus.take_outputs().expect("raft goes on");
            self.outbox.extend(outputs.messages);
            self.granted.extend(outputs.granted);
            let idle = outputs.append.is_empty() && outputs.apply.is_empty() && outputs.release.is_none();
            for message in outputs.snapshots {
                self.send_database(message);
            }
            for work in outputs.append {
                if self.hangs { self.held.push(work) } else { self.write(work) }
            }
            for work in outputs.apply {
                let done = self.applier.apply_work(0, work, |_, _| {}).expect("the store takes it");
                for effect in done.effects {
                    if let Some((revision, events)) = &effect.events {
                        self.hub.publish(*revision, events.clone());
                    }
                    self.effects.insert(effect.id, effect);
                }
                for (index, change) in done.changes {
                    self.consensus.apply_change(index, change).expect("the change fits");
                }
                self.consensus.handle_applied(done.work).expect("raft goes on");
            }
            if let Some(release) = outputs.release {
                let (snapshot, _) = self.image();
                let release = release.at(&snapshot.metadata);
                self.journal.release(&release, &snapshot).expect("the log lets go");
                self.consensus.handle_released(&release).expect("raft goes on");
                self.releases += 1;
            }
            if idle {
                return;
            }
        }
    }

    fn write(&mut self, work: AppendWork) {
        self.journal.append(&work).expect("the log takes it");
        self.journal.sync().expect("the log is durable");
        if let Some(snapshot) = work.snapshot() {
            self.install(snapshot.metadata.index);
        }
        self.consensus.handle_appended(work).expect("raft goes on");
    }

    /// From now on the disk gives nothing back.
    pub(crate) fn hang(&mut self) {
        self.hangs = true;
    }

    /// Whether the disk has work that it has not given back.
    pub(crate) fn owes_syncs(&self) -> bool {
        !self.held.is_empty()
    }

    /// The disk gives back all that it owes, and goes on.
    pub(crate) fn wake(&mut self) {
        self.hangs = false;
        for work in std::mem::take(&mut self.held) {
            self.write(work);
        }
    }

    /// The committed database as a snapshot, and its bytes.
    pub(crate) fn image(&self) -> (stanchion_raft::Snapshot, Vec<u8>) {
        self.applier.store().commit().expect("the store commits");
        let image = self.applier.store().read();
        let mut bytes = Vec::new();
        image.write_file_to(&mut bytes).expect("the file is read");
        (of_image(&image).expect("the file's records are read"), bytes)
    }

    fn send_database(&mut self, mut message: Message) {
        let (snapshot, bytes) = self.image();
        self.consensus.handle_snapshot_started(message.to, snapshot.metadata.index);
        message.snapshot = Some(Box::new(snapshot));
        self.databases.push((message, bytes));
        self.sent += 1;
    }

    /// Takes a database from another member, up to the message that raft is given.
    pub(crate) fn receive_database(&mut self, message: Message, bytes: &[u8]) {
        let index = message.snapshot.as_ref().expect("a snapshot message").metadata.index;
        let mut receiver = self.snapshots.receive_database(index).expect("it begins");
        receiver.write(bytes).expect("it is written");
        receiver.finish(bytes.len() as u64).expect("it is complete");
        self.consensus.handle_message(message).expect("raft takes it");
    }

    fn install(&mut self, index: u64) {
        install_database(&self.snapshots, &self.layout, index).expect("it was received");
        let opened = Store::open(Arc::new(RealDisk), &self.layout.db, &StoreOptions::default());
        let (store, recovered) = opened.expect("the database opens");
        self.applier.install(Arc::new(store), &recovered).expect("its records are read");
        self.hub.restore(self.applier.store().revision());
        self.installed += 1;
    }

    /// Writes what raft wants durable and goes no further, as a member that stops there.
    pub(crate) fn run_only_the_journal(&mut self) {
        for work in self.consensus.take_outputs().expect("raft goes on").append {
            self.journal.append(&work).expect("the log takes it");
            self.journal.sync().expect("the log is durable");
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.consensus.leadership().role == Role::Leader
    }

    /// Proposes a request; its effect is found under the id that is returned.
    pub(crate) fn propose(&mut self, kind: RequestKind, request: &impl prost::Message) -> u64 {
        self.requests += 1;
        let id = self.id.wrapping_add(self.requests);
        let header = pb::RequestHeader { id, ..Default::default() };
        let data = wrap(&header, kind, &request.encode_to_vec());
        self.consensus.propose(vec![data]).expect("a leader is known");
        id
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> u64 {
        let request = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        self.propose(RequestKind::Put, &request)
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let row = self.applier.store().get(key.as_bytes(), 0).expect("the store reads")?;
        let pair = stanchion_api::mvccpb::KeyValue::decode(row).expect("a pair");
        Some(String::from_utf8(pair.value.to_vec()).expect("text"))
    }

    pub(crate) fn has_granted(&self, round: Round) -> Option<u64> {
        self.granted.iter().find(|granted| granted.round == round).map(|granted| granted.index)
    }
}

/// Members and what travels between them.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    wire: VecDeque<Message>,
    /// Messages from and to these are lost.
    pub(crate) cut_off: Vec<u64>,
    /// So many databases are lost on their way.
    pub(crate) lose_databases: usize,
    /// Offers of leadership are lost.
    lose_offers: bool,
}

impl Cluster {
    pub(crate) fn new(members: Vec<Member>) -> Cluster {
        Cluster { members, wire: VecDeque::new(), cut_off: Vec::new(), lose_databases: 0, lose_offers: false }
    }

    /// Carries messages and does work until nothing moves.
    pub(crate) fn settle(&mut self) {
        loop {
            for member in &mut self.members {
                member.run();
                self.wire.append(&mut VecDeque::from(std::mem::take(&mut member.outbox)));
            }
            let databases = self.carry_databases();
            if self.wire.is_empty() && databases == 0 {
                return;
            }
            for message in std::mem::take(&mut self.wire) {
                if self.lose_offers && message.msg_type == MessageType::TimeoutNow {
                    continue;
                }
                if self.cut_off.contains(&message.to) || self.cut_off.contains(&message.from) {
                    continue;
                }
                if let Some(member) = self.members.iter_mut().find(|member| member.id == message.to) {
                    // A message of an older term or configuration may be refused; that is no failure.
                    if let Err(refused) = member.consensus.handle_message(message) {
                        assert!(!refused.is_fatal(), "{refused}");
                    }
                }
            }
        }
    }

    /// Carries databases; returns how many set out. One to a member that cannot be reached is reported as lost.
    fn carry_databases(&mut self) -> usize {
        let mut on_the_way = Vec::new();
        for member in &mut self.members {
            on_the_way.append(&mut member.databases);
        }
        for (message, bytes) in &on_the_way {
            let (from, to) = (message.from, message.to);
            let lost = self.lose_databases > 0;
            self.lose_databases = self.lose_databases.saturating_sub(1);
            let reachable = !lost && !self.cut_off.contains(&to) && !self.cut_off.contains(&from);
            let receiver = self.members.iter_mut().find(|member| reachable && member.id == to);
            let delivered = receiver.is_some();
            if let Some(receiver) = receiver {
                receiver.receive_database(message.clone(), bytes);
            }
            let sender = self.members.iter_mut().find(|member| member.id == from);
            sender.expect("it has just sent").consensus.handle_snapshot_sent(to, delivered);
        }
        on_the_way.len()
    }

    /// Passes `ticks` ticks, settling after each.
    pub(crate) fn tick(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for member in &mut self.members {
                member.consensus.handle_tick().expect("raft goes on");
            }
            self.settle();
        }
    }

    /// One tick in which no offer of leadership arrives.
    pub(crate) fn tick_without_offers(&mut self) {
        self.lose_offers = true;
        self.tick(1);
        self.lose_offers = false;
    }

    pub(crate) fn leader(&mut self) -> &mut Member {
        let cut_off = self.cut_off.clone();
        self.members
            .iter_mut()
            .find(|member| member.is_leader() && !cut_off.contains(&member.id))
            .expect("somebody leads")
    }
}
