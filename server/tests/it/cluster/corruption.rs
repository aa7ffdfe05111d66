//! A member whose database was changed behind its back is found by each of the three checks.

use stanchion_disk::RealDisk;
use stanchion_mvcc::{Store, StoreOptions};
use std::sync::Arc;

use super::*;

/// A cluster that has written something, and the member that is going to be changed. It is stopped in good order, so that
/// nothing is left to be replayed over what is changed, and everything is stopped with it.
async fn written(dir: &Path, more: &[(&str, &str)]) -> (Vec<Member>, usize) {
    let mut members = three_with(dir, more);
    agreed_leader(&members).await;
    for n in 0..20 {
        put(&members[n % 3], &format!("k{n}"), "true").await;
    }
    all_have_the_same_history(&members).await;
    let victim = (agreed_leader(&members).await + 1) % 3;
    members[victim].stop().await;
    (members, victim)
}

/// Changes a value in a database that nobody has open, in the way of a flipped bit: one stored byte.
fn corrupt(member: &Member) {
    let path = Path::new(&flag(member, "data-dir")).join("member/snap/db");
    let mut file = std::fs::read(&path).unwrap();
    let needle = b"true";
    let places: Vec<usize> = (0..file.len() - 4).filter(|at| file[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty(), "the values are in the file");
    for place in places {
        file[place] = b'T';
    }
    std::fs::write(&path, file).unwrap();
    // What was changed is a value: the file is as sound as before.
    let (store, _) = Store::open(Arc::new(RealDisk), &path, &StoreOptions::default()).unwrap();
    assert!(store.revision() > 20);
}

/// Waits for the alarm that names this member, and for no other member. A check that reached too few members to tell which
/// of them differs names member 0 first.
async fn alarmed(members: &[Member], victim: u64) {
    let named = eventually("the CORRUPT alarm", async || {
        let mut client = MaintenanceClient::new(members[0].channel());
        let asked = pb::AlarmRequest { alarm: pb::AlarmType::Corrupt as i32, ..Default::default() };
        let alarms = client.alarm(asked).await.ok()?.into_inner().alarms;
        let named: Vec<u64> = alarms.iter().map(|alarm| alarm.member_id).filter(|id| *id != 0).collect();
        (!named.is_empty()).then_some(named)
    })
    .await;
    assert_eq!(named, [victim]);
}

async fn nothing_is_written_any_more(members: &[Member]) {
    for member in members {
        // After it the member has applied what was committed before, the alarm too.
        assert!(get(member, "k3").await.is_some(), "reads go on");
        let request = pb::PutRequest { key: "k".into(), ..Default::default() };
        let refused = answered(async || member.kv().put(request.clone()).await).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (tonic::Code::DataLoss, "etcdserver: corrupt cluster")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cor_1_a_changed_member_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut members, victim) = written(dir.path(), &[("feature-gates", "InitialCorruptCheck=true")]).await;
    // Unchanged it starts.
    members[victim].start();
    agreed_leader(&members).await;
    members[victim].until_said("no corruption").await;
    members[victim].stop().await;
    corrupt(&members[victim]);
    members[victim].start();
    assert_eq!(members[victim].ended().await.code(), Some(1));
    assert!(members[victim].said("found data inconsistency with peers"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cor_4_a_changed_follower_is_found_by_the_periodic_check() {
    let dir = tempfile::tempdir().unwrap();
    let (mut members, victim) = written(dir.path(), &[("corrupt-check-time", "300ms")]).await;
    corrupt(&members[victim]);
    members[victim].start();
    alarmed(&members, id_of(&members[victim]).await).await;
    nothing_is_written_any_more(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cor_8_a_changed_member_is_found_by_what_compactions_saw() {
    let dir = tempfile::tempdir().unwrap();
    let checks = [("feature-gates", "CompactHashCheck=true"), ("compact-hash-check-time", "300ms")];
    let (mut members, victim) = written(dir.path(), &checks).await;
    corrupt(&members[victim]);
    members[victim].start();
    agreed_leader(&members).await;
    let revision = put(&members[0], "k0", "false").await;
    let compact = pb::CompactionRequest { revision, physical: true };
    match answered(async || members[0].kv().compact(compact).await).await {
        Ok(_) => {}
        // By a try that got no answer.
        Err(refused) => {
            assert_eq!(refused.message(), "etcdserver: mvcc: required revision has been compacted");
        }
    }
    alarmed(&members, id_of(&members[victim]).await).await;
    nothing_is_written_any_more(&members).await;
}
