//! A start need not wait a whole election timeout when there is nobody to be disturbed.

use stanchion_replica::ReleasePolicy;

use crate::cluster::{Cluster, Member, founders};

/// The election timeout of the harness in ticks; what is drawn lies between it and twice it.
const ELECTION: u32 = 10;

fn three(dirs: &[tempfile::TempDir]) -> Cluster {
    let names = ["a", "b", "c"];
    let start = |(name, dir): (&&str, &tempfile::TempDir)| {
        Member::start(dir.path(), &founders(&names, name), ReleasePolicy::default())
    };
    let mut cluster = Cluster::new(names.iter().zip(dirs).map(start).collect());
    cluster.settle();
    cluster
}

fn dirs() -> Vec<tempfile::TempDir> {
    (0..3).map(|_| tempfile::tempdir().unwrap()).collect()
}

/// Ticks until somebody leads.
fn ticks_to_a_leader(cluster: &mut Cluster) -> u32 {
    let mut ticks = 0;
    while !cluster.members.iter().any(Member::is_leader) {
        cluster.tick(1);
        ticks += 1;
        assert!(ticks <= 2 * ELECTION, "nobody leads");
    }
    ticks
}

#[test]
fn an_idle_start_elects_sooner_by_what_it_was_advanced() {
    let (plain, hastened) = (dirs(), dirs());
    let usual = ticks_to_a_leader(&mut three(&plain));
    assert!(usual >= ELECTION);
    // Same names and seeds: the same timeouts are drawn.
    let mut cluster = three(&hastened);
    for member in &mut cluster.members {
        member.consensus.advance_election(ELECTION - 2).unwrap();
    }
    cluster.settle();
    assert!(!cluster.members.iter().any(Member::is_leader), "nobody campaigns in the advance itself");
    assert_eq!(ticks_to_a_leader(&mut cluster), usual - (ELECTION - 2));
}

#[test]
fn who_knows_a_leader_is_not_advanced() {
    let dirs = dirs();
    let mut cluster = three(&dirs);
    cluster.tick(3 * ELECTION as usize);
    let (leader, term) = (cluster.leader().id, cluster.leader().consensus.leadership().term);
    for _ in 0..10 {
        for member in &mut cluster.members {
            member.consensus.advance_election(ELECTION - 2).unwrap();
        }
        cluster.settle();
    }
    assert_eq!((cluster.leader().id, cluster.leader().consensus.leadership().term), (leader, term));
}
