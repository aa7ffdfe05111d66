//! Members that need more than the log still holds: they are sent the database.

use std::path::Path;

use stanchion_raft::{ConfChange, ConfChangeType};
use stanchion_replica::ReleasePolicy;
use stanchion_replica::boot::{Bootstrap, Identity};
use stanchion_replica::membership::{self, ChangeContext, added_member_id};
use stanchion_watch::{KeyRange, Options, ResponseKind};
use tempfile::TempDir;

use crate::cluster::{Cluster, Member, founders};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// The log is released often and keeps little.
const EAGER: ReleasePolicy = ReleasePolicy { snapshot_count: 20, catch_up_entries: 5, log_bytes: u64::MAX };

fn dirs() -> Vec<TempDir> {
    (0..4).map(|_| tempfile::tempdir().unwrap()).collect()
}

fn three(dirs: &[TempDir]) -> Cluster {
    let start = |(name, dir): (&&str, &TempDir)| Member::start(dir.path(), &founders(&NAMES, name), EAGER);
    let mut cluster = Cluster::new(NAMES.iter().zip(dirs).map(start).collect());
    cluster.tick(40);
    cluster
}

fn put_many(cluster: &mut Cluster, n: usize) {
    for i in 0..n {
        cluster.leader().put(&format!("k{}", i % 7), &i.to_string());
        cluster.settle();
    }
    cluster.tick(2);
}

fn assert_equal(cluster: &Cluster) {
    let hashes: Vec<_> = cluster.members.iter().map(|m| m.applier.store().hash_kv(0).unwrap()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// Position of a member that does not lead.
fn follower(cluster: &mut Cluster) -> usize {
    let leader = cluster.leader().id;
    cluster.members.iter().position(|member| member.id != leader).unwrap()
}

#[test]
fn who_fell_behind_the_released_log_gets_the_database_and_its_watchers_miss_nothing() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    put_many(&mut cluster, 3);
    let lagging = follower(&mut cluster);
    let id = cluster.members[lagging].id;
    let stream = cluster.members[lagging].hub.open();
    let all = KeyRange::new(b"k", b"l").unwrap();
    cluster.members[lagging].hub.create(stream, 0, all, Options::default()).unwrap();

    cluster.cut_off.push(id);
    put_many(&mut cluster, 100);
    cluster.cut_off.clear();
    cluster.tick(40);
    assert_eq!(cluster.members[lagging].installed, 1);
    assert_equal(&cluster);
    put_many(&mut cluster, 10);
    assert_eq!(cluster.members[lagging].installed, 1, "from there on entries are enough");
    assert_equal(&cluster);

    let member = &mut cluster.members[lagging];
    let mut revisions = Vec::new();
    loop {
        while let Some(response) = member.hub.poll(stream) {
            if let ResponseKind::Events { events, .. } = response.kind {
                revisions.extend(events.iter().map(|event| event.revision));
            }
        }
        let Some(job) = member.hub.begin_catch_up() else { break };
        let history = stanchion_replica::history::History(member.applier.store().read());
        member.hub.finish_catch_up(job.run(&history));
    }
    assert_eq!(revisions, (5..=114).collect::<Vec<i64>>(), "each event once, in order");

    // It starts from what it was sent.
    let revision = member.applier.store().revision();
    let name = NAMES[lagging];
    drop(cluster);
    let again = Member::start(dirs[lagging].path(), &founders(&NAMES, name), EAGER);
    assert!(again.applier.store().revision() > revision - 30, "the database was kept");
}

#[test]
fn a_crash_before_the_database_is_in_place_is_healed_by_the_next_start() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    let lagging = follower(&mut cluster);
    let id = cluster.members[lagging].id;
    cluster.cut_off.push(id);
    put_many(&mut cluster, 100);

    // The leader's database is received and marked in the log, and then the member stops.
    let leader = cluster.leader();
    let heartbeat = leader.consensus.leadership();
    let (snapshot, bytes) = leader.image();
    let mut message = stanchion_raft::Message::new(stanchion_raft::MessageType::Snap, id);
    (message.from, message.term) = (leader.id, heartbeat.term);
    let index = snapshot.metadata.index;
    message.snapshot = Some(Box::new(snapshot));
    cluster.members[lagging].receive_database(message, &bytes);
    cluster.members[lagging].run_only_the_journal();
    let name = NAMES[lagging];
    drop(cluster.members.remove(lagging));
    let received = format!("member/snap/{index:016x}.snap.db");
    assert!(dirs[lagging].path().join(&received).exists());

    let again = Member::start(dirs[lagging].path(), &founders(&NAMES, name), EAGER);
    assert_eq!(again.applier.applied().index, index);
    assert!(!dirs[lagging].path().join(&received).exists());
    cluster.members.insert(lagging, again);
    cluster.cut_off.clear();
    cluster.tick(40);
    assert_equal(&cluster);
}

#[test]
fn a_lost_database_is_sent_again() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    let lagging = follower(&mut cluster);
    let id = cluster.members[lagging].id;
    cluster.cut_off.push(id);
    put_many(&mut cluster, 100);
    cluster.cut_off.clear();
    cluster.lose_databases = 2;
    cluster.tick(60);
    assert_eq!(cluster.members[lagging].installed, 1);
    let sent: usize = cluster.members.iter().map(|member| member.sent).sum();
    assert!(sent >= 3, "{sent} databases set out");
    put_many(&mut cluster, 1);
    assert_equal(&cluster);
}

/// Adds a member that has never been there, and lets it start.
fn join(cluster: &mut Cluster, dir: &Path, is_learner: bool) -> u64 {
    let peer_urls = vec!["http://127.0.0.1:4".to_owned()];
    let id = added_member_id(&peer_urls, 1);
    let member = membership::Member { id, peer_urls, is_learner, ..membership::Member::default() };
    let context = ChangeContext { member, is_promote: false }.to_json().into();
    let kind = if is_learner { ConfChangeType::AddLearnerNode } else { ConfChangeType::AddNode };
    let change = ConfChange { context, ..ConfChange::new(kind, id) };
    cluster.leader().consensus.propose_change(&change).unwrap();
    cluster.tick(2);
    let identity = Identity { member_id: id, cluster_id: 1 };
    cluster.members.push(Member::start_as(dir, &Bootstrap::Join(identity), EAGER));
    cluster.tick(40);
    id
}

#[test]
fn who_joins_gets_the_whole_log_or_the_database() {
    for entries in [3, 100] {
        let dirs = dirs();
        let mut cluster = three(&dirs);
        put_many(&mut cluster, entries);
        join(&mut cluster, dirs[3].path(), entries == 100);
        put_many(&mut cluster, 3);
        assert_equal(&cluster);
        assert_eq!(cluster.members[3].installed, usize::from(entries == 100));
        for member in &cluster.members {
            assert_eq!(member.applier.cluster().members().count(), 4);
        }
        // It is one of them: a quorum needs it now, if it votes.
        drop(cluster.members.remove(3));
        let identity = Identity { member_id: 1, cluster_id: 1 };
        let again = Member::start_as(dirs[3].path(), &Bootstrap::Join(identity), EAGER);
        assert_ne!(again.id, identity.member_id, "its directory says who it is");
        cluster.members.push(again);
        put_many(&mut cluster, 3);
        cluster.tick(10);
        assert_equal(&cluster);
    }
}

#[test]
fn a_mark_has_its_snapshot_file_as_older_releases_need_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::start(dir.path(), &founders(&["a"], "a"), EAGER);
    member.run();
    for i in 0..100 {
        member.put("k", &i.to_string());
        member.run();
    }
    assert!(member.releases > 3);
    let (newest, broken) = member.snapshots.load_newest().unwrap();
    assert!(broken.is_empty());
    let snapshot = stanchion_raft::Snapshot::decode(newest.unwrap().data).unwrap();
    assert_eq!(snapshot.metadata.conf_state.voters, [member.id]);
    let (cluster, _) = membership::from_v2_json(&snapshot.data).unwrap();
    assert_eq!(&cluster, member.applier.cluster());
    let files = std::fs::read_dir(dir.path().join("member/snap")).unwrap().count();
    assert_eq!(files, 1 + 2, "the database and the newest two");
}

/// A cluster of one that has written something.
fn alone(dir: &Path) -> Cluster {
    let mut cluster = Cluster::new(vec![Member::start(dir, &founders(&["a"], "a"), EAGER)]);
    cluster.tick(2);
    put_many(&mut cluster, 3);
    cluster
}

#[test]
fn reads_are_free_until_a_second_voter_joins() {
    let dirs = dirs();
    let mut cluster = alone(dirs[0].path());
    assert!(cluster.leader().consensus.reads_are_free());
    join(&mut cluster, dirs[1].path(), true);
    assert!(cluster.leader().consensus.reads_are_free(), "a learner cannot elect anybody");
    let mut cluster = alone(dirs[2].path());
    join(&mut cluster, dirs[3].path(), false);
    assert!(cluster.members.iter().all(|member| !member.consensus.reads_are_free()));
}
