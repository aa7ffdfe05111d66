//! Members that are driven by hand, one step of work at a time.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::{RequestKind, wrap};
use stanchion_disk::RealDisk;
use stanchion_mvcc::StoreOptions;
use stanchion_raft::{Message, Role};
use stanchion_replica::apply::{Applier, Config, Effect};
use stanchion_replica::boot::{Booted, Layout, NewCluster, boot};
use stanchion_replica::consensus::{Consensus, ConsensusConfig};
use stanchion_replica::{Granted, ReleasePolicy, Round};
use stanchion_wal::{EntryRef, HardState, Options, SnapshotMark, Wal};

pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) consensus: Consensus,
    pub(crate) applier: Applier,
    wal: Wal,
    wal_dir: std::path::PathBuf,
    pub(crate) effects: BTreeMap<u64, Effect>,
    pub(crate) granted: Vec<Granted>,
    /// Messages that wait to be carried.
    pub(crate) outbox: Vec<Message>,
    pub(crate) releases: usize,
    pub(crate) hub: stanchion_watch::Hub,
    requests: u64,
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
        let config = Config {
            quota_bytes: None,
            max_learners: 1,
            persist_lease_checkpoints: true,
            lease: stanchion_lease::Config::default(),
        };
        let layout = Layout::new(dir, None);
        let wal_options = Options::default().segment_size(1 << 16);
        let booted: Booted =
            boot(Arc::new(RealDisk), &layout, config, &StoreOptions::default(), wal_options, cluster)
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
        Member {
            id,
            consensus,
            applier: booted.applier,
            wal: booted.wal,
            wal_dir: layout.wal.clone(),
            effects: BTreeMap::new(),
            granted: Vec::new(),
            outbox: Vec::new(),
            releases: 0,
            hub,
            requests: 0,
        }
    }

    /// Does all work that is due, until there is none.
    pub(crate) fn run(&mut self) {
        loop {
            let outputs = self.consensus.take_outputs().expect("raft goes on");
            self.outbox.extend(outputs.messages);
            self.granted.extend(outputs.granted);
            let idle = outputs.append.is_empty() && outputs.apply.is_empty() && outputs.release.is_none();
            for work in outputs.append {
                let entries: Vec<EntryRef<'_>> = work
                    .entries()
                    .iter()
                    .map(|e| EntryRef::new(e.index, e.term, e.entry_type as u8, &e.data))
                    .collect();
                let state = work.hard_state().map_or(HardState::default(), |hs| HardState {
                    term: hs.term,
                    vote: hs.vote,
                    commit: hs.commit,
                });
                self.wal.save(&state, &entries).expect("the log takes it");
                self.consensus.handle_appended(work).expect("raft goes on");
            }
            for work in outputs.apply {
                let done = self.applier.apply_work(0, work, |_, _| {}).expect("the store takes it");
                for effect in done.effects {
                    if let Some((revision, events)) = &effect.events {
                        self.hub.publish(*revision, events.clone());
                    }
                    self.effects.insert(effect.id, effect);
                }
                for change in done.changes {
                    self.consensus.apply_change(change).expect("the change fits");
                }
                self.consensus.handle_applied(done.work).expect("raft goes on");
            }
            if let Some(release) = outputs.release {
                self.applier.store().commit().expect("the store commits");
                self.wal
                    .save_snapshot(&SnapshotMark::new(release.index, release.term))
                    .expect("the log takes it");
                self.wal.release_to(release.keep_from).expect("the log lets go");
                stanchion_wal::purge(&RealDisk, &self.wal_dir, 1).expect("released segments go");
                self.consensus.handle_released(&release).expect("raft goes on");
                self.releases += 1;
            }
            if idle {
                return;
            }
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
}

impl Cluster {
    pub(crate) fn new(members: Vec<Member>) -> Cluster {
        Cluster { members, wire: VecDeque::new(), cut_off: Vec::new() }
    }

    /// Carries messages and does work until nothing moves.
    pub(crate) fn settle(&mut self) {
        loop {
            for member in &mut self.members {
                member.run();
                self.wire.append(&mut VecDeque::from(std::mem::take(&mut member.outbox)));
            }
            if self.wire.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.wire) {
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

    /// Passes `ticks` ticks, settling after each.
    pub(crate) fn tick(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for member in &mut self.members {
                member.consensus.handle_tick().expect("raft goes on");
            }
            self.settle();
        }
    }

    pub(crate) fn leader(&mut self) -> &mut Member {
        let cut_off = self.cut_off.clone();
        self.members
            .iter_mut()
            .find(|member| member.is_leader() && !cut_off.contains(&member.id))
            .expect("somebody leads")
    }
}
