//! What a member and a cluster must do, as short plays.

use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;
use stanchion_replica::ReleasePolicy;
use stanchion_replica::apply::Refusal;
use stanchion_watch::{KeyRange, Options, ResponseKind};

use crate::cluster::{Cluster, Member, founders};

#[test]
fn a_single_voter_leads_at_once_and_serves() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::start(dir.path(), &founders(&["a"], "a"), ReleasePolicy::default());
    member.run();
    assert!(member.is_leader(), "without a single tick");
    let round = member.consensus.want_read();
    let put = member.put("k", "1");
    member.run();
    assert!(member.effects[&put].result.is_ok());
    assert_eq!(member.get("k").as_deref(), Some("1"));
    assert!(member.has_granted(round).is_some());
    let lost = member.propose(RequestKind::LeaseRevoke, &pb::LeaseRevokeRequest { id: 9 });
    member.run();
    assert_eq!(member.effects[&lost].result, Err(Refusal::LeaseNotFound));
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Member::start(dir.path(), &founders(&["a"], "a"), ReleasePolicy::default());
    let mut member = start();
    member.run();
    for n in 0..20 {
        member.put(&format!("k{n}"), "1");
        member.run();
        if n == 10 {
            member.applier.store().commit().unwrap();
        }
    }
    let revision = member.applier.store().revision();
    // Nothing is closed or committed: what the store had in memory is gone.
    drop(member);
    let mut member = start();
    member.run();
    assert_eq!(member.applier.store().revision(), revision, "each entry took effect once");
    for n in 0..20 {
        assert_eq!(member.get(&format!("k{n}")).as_deref(), Some("1"));
    }
}

#[test]
fn the_log_is_released_by_count_and_a_restart_begins_at_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let policy = ReleasePolicy { snapshot_count: 50, catch_up_entries: 10, ..Default::default() };
    let start = || Member::start(dir.path(), &founders(&["a"], "a"), policy);
    let mut member = start();
    member.run();
    for n in 0..500 {
        member.put(&format!("k{}", n % 7), &"x".repeat(1000));
        member.run();
    }
    assert!(member.releases >= 8, "{} releases", member.releases);
    let revision = member.applier.store().revision();
    let segments = std::fs::read_dir(dir.path().join("member/wal")).unwrap().count();
    assert!(segments < 6, "{segments} segments of 64 KiB for 500 KB");
    drop(member);
    let mut member = start();
    member.run();
    assert_eq!(member.applier.store().revision(), revision);
}

#[test]
fn the_log_in_memory_is_bounded_by_bytes_and_a_restart_begins_at_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let policy = ReleasePolicy { log_bytes: 100_000, ..Default::default() };
    let start = || Member::start(dir.path(), &founders(&["a"], "a"), policy);
    let mut member = start();
    member.run();
    for n in 0..200 {
        member.put(&format!("k{}", n % 7), &"x".repeat(10_000));
        member.run();
        let held = member.consensus.committed() + 1 - member.consensus.first_index().unwrap();
        assert!(held <= 24, "{held} entries of 10 kB, twice as many as may be kept");
    }
    assert!(member.releases >= 15, "{} releases", member.releases);
    let revision = member.applier.store().revision();
    drop(member);
    let mut member = start();
    member.run();
    assert_eq!(member.applier.store().revision(), revision);
}

#[test]
fn reads_are_free_for_a_leader_alone_once_its_term_has_begun() {
    let dirs: Vec<tempfile::TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut alone = Member::start(dirs[3].path(), &founders(&["a"], "a"), ReleasePolicy::default());
    assert!(!alone.consensus.reads_are_free(), "before anything of its own is applied");
    alone.run();
    assert!(alone.consensus.reads_are_free());

    let names = ["a", "b", "c"];
    let start = |(name, dir): (&&str, &tempfile::TempDir)| {
        Member::start(dir.path(), &founders(&names, name), ReleasePolicy::default())
    };
    let mut cluster = Cluster::new(names.iter().zip(&dirs).map(start).collect());
    cluster.tick(40);
    cluster.leader().put("k", "1");
    cluster.tick(2);
    assert!(cluster.members.iter().all(|member| !member.consensus.reads_are_free()));
}

#[test]
fn three_members_agree_and_outlive_their_leader() {
    let dirs: Vec<tempfile::TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let names = ["a", "b", "c"];
    let members = names
        .iter()
        .zip(&dirs)
        .map(|(name, dir)| Member::start(dir.path(), &founders(&names, name), ReleasePolicy::default()))
        .collect();
    let mut cluster = Cluster::new(members);
    cluster.tick(40);
    let put = cluster.leader().put("k", "1");
    cluster.tick(2);
    for member in &cluster.members {
        assert_eq!(member.get("k").as_deref(), Some("1"));
        assert!(member.effects[&put].result.is_ok());
        assert_eq!(member.applier.cluster().members().count(), 3);
    }

    let old = cluster.leader().id;
    cluster.cut_off.push(old);
    cluster.tick(60);
    assert_ne!(cluster.leader().id, old);
    cluster.leader().put("k", "2");
    cluster.tick(2);
    let stale = cluster.members.iter_mut().find(|member| member.id == old).unwrap();
    let round = stale.consensus.want_read();
    cluster.tick(10);
    let stale = cluster.members.iter().find(|member| member.id == old).unwrap();
    assert_eq!(stale.has_granted(round), None, "who is cut off answers no linearizable read");
    cluster.cut_off.clear();
    cluster.tick(40);
    let hashes: Vec<_> =
        cluster.members.iter().map(|member| member.applier.store().hash_kv(0).unwrap()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    assert!(cluster.members.iter().all(|member| member.get("k").as_deref() == Some("2")));
}

#[test]
fn watchers_are_told_from_the_past_and_live() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::start(dir.path(), &founders(&["a"], "a"), ReleasePolicy::default());
    member.run();
    for n in 0..5 {
        member.put("k", &n.to_string());
        member.put("other", "x");
        member.run();
    }
    // A hub of its own, as after a restart: it has seen nothing of the past.
    member.hub = stanchion_watch::Hub::new(member.applier.store().revision(), 128);
    let stream = member.hub.open();
    let options = Options { start_revision: 1, ..Options::default() };
    member.hub.create(stream, 0, KeyRange::new(b"k", b"").unwrap(), options).unwrap();
    let job = member.hub.begin_catch_up().unwrap();
    let history = stanchion_replica::history::History(member.applier.store().read());
    member.put("k", "live");
    member.run();
    member.hub.finish_catch_up(job.run(&history));
    let mut revisions = Vec::new();
    while let Some(response) = member.hub.poll(stream) {
        if let ResponseKind::Events { events, .. } = response.kind {
            revisions.extend(events.iter().map(|event| event.revision));
        }
    }
    assert_eq!(revisions, [2, 4, 6, 8, 10, 12]);
}
