//! What one is told, all know; a leader that ends is replaced and comes back; who lags is sent the database.

use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::cluster_client::ClusterClient;
use stanchion_api::etcdserverpb::lease_client::LeaseClient;
use stanchion_api::etcdserverpb::watch_client::WatchClient;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_replicate_and_survive_the_loss_of_their_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    let leader = agreed_leader(&members).await;

    // Every member takes writes, and reads what any other has written just before.
    for (at, writer) in members.iter().enumerate() {
        put(writer, "k", &at.to_string()).await;
        for reader in &members {
            assert_eq!(get(reader, "k").await, Some(at.to_string()));
        }
    }
    leases_are_one_whoever_is_asked(&members).await;
    assert_eq!(listed(&members[0]).await.iter().filter(|member| !member.client_ur_ls.is_empty()).count(), 3);
    let version = async |at: usize| eventually("a status", async || members[at].status().await).await.version;
    assert_eq!(version(0).await, version(1).await);

    // A watch on a follower sees what is written elsewhere, without a gap, while the leader goes.
    let follower = (leader + 1) % 3;
    let third = (leader + 2) % 3;
    let first_watched = put(&members[leader], "w", "0").await;
    let created =
        pb::WatchCreateRequest { key: "w".into(), start_revision: first_watched, ..Default::default() };
    let create = pb::watch_request::RequestUnion::CreateRequest(created);
    let requests = tokio_stream::once(pb::WatchRequest { request_union: Some(create) });
    let requests = tokio_stream::StreamExt::chain(requests, tokio_stream::pending());
    let mut watch = WatchClient::new(members[follower].channel()).watch(requests).await.unwrap().into_inner();

    members[leader].kill();
    put(&members[third], "w", "1").await;
    put(&members[follower], "w", "2").await;
    assert_eq!(get(&members[third], "w").await, Some("2".to_owned()));
    members[leader].start();
    agreed_leader(&members).await;
    put(&members[leader], "w", "3").await;
    assert_eq!(get(&members[leader], "w").await, Some("3".to_owned()));

    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "3") {
        let response = tokio::time::timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
        seen.extend(
            response
                .events
                .into_iter()
                .filter_map(|event| event.kv)
                .map(|kv| String::from_utf8_lossy(&kv.value).into_owned()),
        );
    }
    // A write that was tried again may have happened twice.
    seen.dedup();
    assert_eq!(seen, ["0", "1", "2", "3"]);
    all_have_the_same_history(&members).await;
}

async fn leases_are_one_whoever_is_asked(members: &[Member]) {
    let request = pb::LeaseGrantRequest { ttl: 600, id: 7 };
    match answered(async || LeaseClient::new(members[0].channel()).lease_grant(request).await).await {
        Ok(granted) => assert_eq!(granted.id, 7),
        // By a try that got no answer.
        Err(refused) => assert_eq!(refused.message(), "etcdserver: lease already exists"),
    }
    for member in members {
        for (id, ttl) in [(7, 600), (8, 0)] {
            // Whoever leads renews it, and may have yet to apply what the one that granted it has applied.
            eventually("the renewal", async || (renewed(member, id).await? == ttl).then_some(())).await;
        }
        let left = async |id| {
            let request = pb::LeaseTimeToLiveRequest { id, keys: false };
            answered(async || LeaseClient::new(member.channel()).lease_time_to_live(request).await)
                .await
                .unwrap()
        };
        assert_eq!(left(7).await.granted_ttl, 600);
        assert_eq!(left(8).await.ttl, -1);
    }
}

/// The time that a lease has after its renewal, 0 if there is no such lease.
async fn renewed(member: &Member, id: i64) -> Option<i64> {
    let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
    let answers = LeaseClient::new(member.channel()).lease_keep_alive(request).await.ok()?;
    Some(answers.into_inner().message().await.ok()??.ttl)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_replaced_and_the_removed_one_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    agreed_leader(&members).await;
    put(&members[0], "before", "1").await;

    // The last one goes, and stops by itself with status 0.
    let gone = id_of(&members[2]).await;
    eventually("the removal", async || {
        if listed(&members[0]).await.iter().all(|member| member.id != gone) {
            return Some(());
        }
        let mut cluster = ClusterClient::new(members[0].channel());
        cluster.member_remove(pb::MemberRemoveRequest { id: gone }).await.ok().map(drop)
    })
    .await;
    let mut removed = members.pop().unwrap();
    assert_eq!(removed.ended().await.code(), Some(0));

    // On its old directory it is told that it was removed, and stops again.
    removed.start();
    assert_eq!(removed.ended().await.code(), Some(0));
    // Once in each of its two lives at most, however many of the others tell it so.
    assert!(removed.lines(&["has been permanently removed from the cluster"]) <= 2);

    // A list that does not fit is refused before anything is written.
    let mut fresh = joining(dir.path(), &members);
    fresh.start();
    assert_eq!(fresh.ended().await.code(), Some(1));
    assert_eq!(fresh.lines(&["member count is unequal"]), 1);

    let url = flag(&fresh, "initial-advertise-peer-urls");
    added(&members[0], &url, false).await;
    fresh.start();
    members.push(fresh);
    agreed_leader(&members).await;
    assert_eq!(get(&members[2], "before").await, Some("1".to_owned()));
    put(&members[2], "after", "2").await;
    all_have_the_same_history(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_the_released_log_or_joins_late_is_sent_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three_with(dir.path(), &[("snapshot-count", "20"), ("snapshot-catchup-entries", "5")]);
    let leader = agreed_leader(&members).await;
    let lagging = (leader + 1) % 3;
    put(&members[lagging], "w", "before").await;
    members[lagging].kill();
    for n in 0..200 {
        put(&members[leader], &format!("k{}", n % 7), &n.to_string()).await;
    }
    members[lagging].start();
    agreed_leader(&members).await;
    assert_eq!(get(&members[lagging], "k3").await, Some("199".to_owned()));
    members[lagging].until_said("installed the leader's snapshot").await;
    all_have_the_same_history(&members).await;

    // A learner that starts with nothing, while the log's beginning is long gone.
    let mut learner = joining(dir.path(), &members);
    let url = flag(&learner, "initial-advertise-peer-urls");
    let id = added(&members[leader], &url, true).await;
    learner.start();
    promoted(&members[leader], id).await;
    learner.until_said("installed the leader's snapshot").await;
    members.push(learner);
    agreed_leader(&members).await;
    assert_eq!(get(&members[3], "w").await, Some("before".to_owned()));
    all_have_the_same_history(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_end_hands_leadership_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    let leader = agreed_leader(&members).await;
    let other = (leader + 1) % 3;
    put(&members[other], "k", "0").await;
    let before = term(&members[other]).await;
    members[leader].terminate();
    // Until then the old leader may take writes.
    members[leader].ended().await;
    put(&members[other], "k", "1").await;
    // One election, which the old leader has started: nobody had to wait for a timeout.
    assert_eq!(term(&members[other]).await, before + 1);
    assert!(members[leader].said("leadership transfer starting"));
    assert!(!members[leader].said("leadership could not be handed over"));
}

async fn term(member: &Member) -> u64 {
    eventually("a status", async || member.status().await).await.raft_term
}
