//! Changes of membership that need the leader, and members that move.

use stanchion_api::etcdserverpb::cluster_client::ClusterClient;
use stanchion_api::etcdserverpb::downgrade_request::DowngradeAction;
use stanchion_peer::Asker;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clu_8_any_member_promotes_a_learner() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    let leader = agreed_leader(&members).await;
    let mut learner = joining(dir.path(), &members);
    let url = flag(&learner, "initial-advertise-peer-urls");
    let asked = (leader + 1) % 3;
    let id = added(&members[asked], &url, true).await;
    let refusal = async |id| {
        let request = pb::MemberPromoteRequest { id };
        let ask = async || ClusterClient::new(members[asked].channel()).member_promote(request).await;
        answered(ask).await.unwrap_err().message().to_owned()
    };

    // The leader's refusals come through in its words.
    assert_eq!(
        refusal(id).await,
        "etcdserver: can only promote a learner member which is in sync with leader"
    );
    assert_eq!(refusal(7).await, "etcdserver: member not found");
    let voter = id_of(&members[0]).await;
    assert_eq!(refusal(voter).await, "etcdserver: can only promote a learner member");

    learner.start();
    promoted(&members[asked], id).await;
    let list = listed(&members[asked]).await;
    assert_eq!(list.len(), 4);
    assert!(list.iter().all(|member| !member.is_learner));
    members.push(learner);
    agreed_leader(&members).await;
    all_have_the_same_history(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_all_others_goes_on_alone_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    let leader = agreed_leader(&members).await;
    put(&members[leader], "k", "kept").await;
    // As in etcd, what the log does not know to be committed is dropped; it learns of the first write with the second.
    put(&members[leader], "later", "").await;
    for member in &mut members {
        member.kill();
    }
    let survivor = &mut members[leader];
    let flags = survivor.args.len();
    survivor.args.push("--force-new-cluster".to_owned());
    survivor.start();
    agreed_leader(std::slice::from_ref(survivor)).await;
    assert_eq!(get(survivor, "k").await, Some("kept".to_owned()));
    put(survivor, "k", "alone").await;
    survivor.stop().await;

    // The cluster stays as it is without the flag, and can grow again.
    survivor.args.truncate(flags);
    survivor.start();
    agreed_leader(std::slice::from_ref(survivor)).await;
    assert_eq!(get(survivor, "k").await, Some("alone".to_owned()));
    let list = listed(survivor).await;
    assert_eq!(list.iter().map(|member| &member.name).collect::<Vec<_>>(), [&survivor.name]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_back_at_another_peer_url() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    let leader = agreed_leader(&members).await;
    let moving = (leader + 1) % 3;
    let id = id_of(&members[moving]).await;
    put(&members[leader], "k", "before").await;

    let url = format!("http://127.0.0.1:{}", ports(1)[0]);
    let request = pb::MemberUpdateRequest { id, peer_ur_ls: vec![url.clone()] };
    let update = async || ClusterClient::new(members[leader].channel()).member_update(request.clone()).await;
    answered(update).await.unwrap();
    members[moving].stop().await;
    put(&members[leader], "k", "meanwhile").await;
    members[moving].set("listen-peer-urls", &url);
    members[moving].set("initial-advertise-peer-urls", &url);
    // The list at the start is that of the founding; with a log nobody asks it.
    members[moving].start();
    agreed_leader(&members).await;
    assert_eq!(get(&members[moving], "k").await.as_deref(), Some("meanwhile"));
    let list = listed(&members[leader]).await;
    let moved = list.iter().find(|member| member.id == id).unwrap();
    assert_eq!(moved.peer_ur_ls, [url]);

    // It is a full member there: with one of the others gone, it is needed for every write.
    let third = (leader + 2) % 3;
    members[third].kill();
    put(&members[moving], "k", "after").await;
    assert_eq!(get(&members[leader], "k").await.as_deref(), Some("after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_told_of_a_downgrade_by_every_member() {
    let dir = tempfile::tempdir().unwrap();
    let members = three(dir.path());
    agreed_leader(&members).await;
    let asker = Asker::new(SOON);
    for (action, expected, done) in [
        (DowngradeAction::Enable, true, "has a downgrade job in progress"),
        (DowngradeAction::Cancel, false, "no inflight downgrade"),
    ] {
        // Refused until the cluster's version is decided.
        eventually("the answer to a downgrade", async || {
            let request = pb::DowngradeRequest { action: action as i32, version: "3.6.0".to_owned() };
            match MaintenanceClient::new(members[0].channel()).downgrade(request).await {
                Ok(_) => Some(()),
                // By a try that got no answer.
                Err(refused) => refused.message().contains(done).then_some(()),
            }
        })
        .await;
        for member in &members {
            // The answer is linearizable: no member lags behind the one that was asked.
            let url = flag(member, "listen-peer-urls");
            assert_eq!(asker.downgrade_enabled(&url).await.unwrap(), expected, "{}", member.name);
        }
    }
}
