//! A disk that hangs: who leads gives way, who follows does not campaign, and both come back.

use stanchion_raft::MessageType;
use stanchion_replica::ReleasePolicy;

use crate::cluster::{Cluster, Member, founders};

/// The election timeout of the harness in ticks.
const ELECTION: usize = 10;

fn three(dirs: &[tempfile::TempDir]) -> Cluster {
    let names = ["a", "b", "c"];
    let start = |(name, dir): (&&str, &tempfile::TempDir)| {
        Member::start(dir.path(), &founders(&names, name), ReleasePolicy::default())
    };
    let mut cluster = Cluster::new(names.iter().zip(dirs).map(start).collect());
    cluster.tick(40);
    cluster
}

fn dirs() -> Vec<tempfile::TempDir> {
    (0..3).map(|_| tempfile::tempdir().unwrap()).collect()
}

fn place(cluster: &Cluster, id: u64) -> usize {
    cluster.members.iter().position(|member| member.id == id).unwrap()
}

fn term(member: &Member) -> u64 {
    member.consensus.leadership().term
}

#[test]
fn a_leader_whose_disk_hangs_hands_over_within_an_election_timeout() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    let old = cluster.leader().id;
    let at = place(&cluster, old);
    let before = term(&cluster.members[at]);
    cluster.members[at].hang();
    cluster.members[at].put("k", "1");
    cluster.settle();
    cluster.tick(ELECTION - 1);
    assert!(cluster.members[at].is_leader(), "a disk that is merely slow costs no leadership");
    cluster.tick(1);
    assert!(!cluster.members[at].is_leader());
    let leader = cluster.leader().id;
    assert_ne!(leader, old);
    assert_eq!(cluster.leader().consensus.leadership().term, before + 1, "one election, which was asked for");

    // The others go on without it, and what the old leader had not written is not lost with it.
    cluster.leader().put("k", "2");
    cluster.tick(3 * ELECTION);
    assert_eq!(cluster.leader().id, leader, "nobody is disturbed by the member whose disk hangs");
    for member in cluster.members.iter().filter(|member| member.id != old) {
        assert_eq!(member.get("k").as_deref(), Some("2"));
    }
    cluster.members[at].wake();
    cluster.tick(2);
    assert_eq!(cluster.members[at].get("k").as_deref(), Some("2"));
    let hashes: Vec<_> = cluster.members.iter().map(|m| m.applier.store().hash_kv(0).unwrap()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// To whom a member sends messages of this type now, lowest first. What it sends goes no further.
fn receivers(member: &mut Member, msg_type: MessageType) -> Vec<u64> {
    member.run();
    let sent = std::mem::take(&mut member.outbox);
    let mut to: Vec<u64> = sent.iter().filter(|m| m.msg_type == msg_type).map(|m| m.to).collect();
    to.sort_unstable();
    to
}

#[test]
fn heartbeats_do_not_wait_behind_fsync() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    let leader = cluster.leader().id;
    let at = place(&cluster, leader);
    let mut others: Vec<u64> =
        cluster.members.iter().map(|member| member.id).filter(|id| *id != leader).collect();
    others.sort_unstable();
    // An entry is with the log, and its sync does not return.
    let member = &mut cluster.members[at];
    member.hang();
    member.put("k", "1");
    assert_eq!(receivers(member, MessageType::App), others, "entries leave before they are synced");
    for tick in 1..ELECTION {
        member.consensus.handle_tick().unwrap();
        assert_eq!(receivers(member, MessageType::Heartbeat), others, "tick {tick}");
        assert!(member.owes_syncs(), "the sync has not returned meanwhile");
    }
    // So does the round that confirms a read.
    let round = member.consensus.want_read();
    assert_eq!(receivers(member, MessageType::Heartbeat), others);
    assert_eq!(member.has_granted(round), None, "nobody has answered yet");
}

#[test]
fn a_heartbeat_is_answered_while_the_log_is_not_synced() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    let leader = cluster.leader().id;
    let (hanging, silent) = ((place(&cluster, leader) + 1) % 3, (place(&cluster, leader) + 2) % 3);
    let before = term(&cluster.members[hanging]);
    cluster.members[hanging].hang();
    // The leader has but this one member's answers to go by.
    let silent = cluster.members[silent].id;
    cluster.cut_off.push(silent);
    let put = cluster.leader().put("k", "1");
    cluster.settle();
    assert!(cluster.members[hanging].owes_syncs());
    for _ in 0..5 * ELECTION {
        cluster.tick(1);
        let round = cluster.leader().consensus.want_read();
        cluster.settle();
        assert!(cluster.leader().has_granted(round).is_some(), "a read needs answers, not syncs");
    }
    assert_eq!((cluster.leader().id, term(&cluster.members[hanging])), (leader, before));
    assert!(!cluster.leader().effects.contains_key(&put), "what one log of three has is not committed");
    cluster.members[hanging].wake();
    cluster.settle();
    assert!(cluster.leader().effects.contains_key(&put));
}

#[test]
fn a_leader_whose_disk_hangs_falls_silent_when_nobody_takes_over() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    let old = cluster.leader().id;
    let at = place(&cluster, old);
    cluster.members[at].hang();
    cluster.members[at].put("k", "1");
    cluster.settle();
    // The offers are lost on their way.
    for _ in 0..ELECTION + ELECTION / 2 {
        cluster.tick_without_offers();
    }
    assert!(cluster.members[at].is_leader());
    let mut waited = 0;
    while cluster.members[at].is_leader() {
        cluster.tick_without_offers();
        waited += 1;
        assert!(waited <= 2 * ELECTION, "followers that hear nothing elect somebody");
    }
    assert_ne!(cluster.leader().id, old);
    cluster.leader().put("k", "2");
    cluster.tick(1);
    assert_eq!(cluster.leader().get("k").as_deref(), Some("2"));
}

#[test]
fn a_follower_whose_disk_hangs_neither_campaigns_nor_takes_leadership() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    let leader = cluster.leader().id;
    let at = (place(&cluster, leader) + 1) % 3;
    let id = cluster.members[at].id;
    cluster.members[at].hang();
    cluster.leader().put("k", "1");
    cluster.tick(ELECTION);
    let before = term(&cluster.members[at]);
    // It hears nobody, and still keeps its peace.
    cluster.cut_off.push(id);
    cluster.tick(5 * ELECTION);
    assert_eq!(term(&cluster.members[at]), before);
    assert_eq!(cluster.leader().id, leader);
    cluster.cut_off.clear();
    cluster.tick(1);
    cluster.leader().consensus.transfer_leader(id).unwrap();
    cluster.tick(2 * ELECTION);
    assert_eq!(cluster.leader().id, leader, "the offer is not taken");
    cluster.members[at].wake();
    cluster.tick(2);
    cluster.leader().consensus.transfer_leader(id).unwrap();
    cluster.settle();
    assert_eq!(cluster.leader().id, id, "with its disk it leads like anybody");
}

#[test]
fn a_member_that_is_alone_waits_for_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path(), &founders(&["a"], "a"), ReleasePolicy::default());
    let mut cluster = Cluster::new(vec![member]);
    cluster.settle();
    cluster.members[0].hang();
    cluster.members[0].put("k", "1");
    cluster.tick(5 * ELECTION);
    assert!(cluster.members[0].is_leader(), "there is nobody to give way to");
    cluster.members[0].wake();
    cluster.settle();
    assert_eq!(cluster.members[0].get("k").as_deref(), Some("1"));
}
