//! What operators do to a running member: defragmentation, and going on alone.

use stanchion_api::etcdserverpb as pb;
use tonic::transport::Channel;

use super::process::Server;

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap()
}

fn put(key: String, value: Vec<u8>) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

#[tokio::test]
async fn mnt_14_a_defragmentation_gives_space_back_while_the_member_serves() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let channel = channel(&server).await;
    let mut kv = pb::kv_client::KvClient::new(channel.clone());
    for i in 0..400 {
        kv.put(put(format!("bulk/{i:04}"), vec![7; 16 << 10])).await.unwrap();
    }
    kv.put(put("kept".into(), b"value".to_vec())).await.unwrap();
    let bulk =
        pb::DeleteRangeRequest { key: "bulk/".into(), range_end: "bulk0".into(), ..Default::default() };
    let revision = kv.delete_range(bulk).await.unwrap().into_inner().header.unwrap().revision;
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();

    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(channel);
    let before = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert!(before.db_size > 6 << 20, "{}", before.db_size);
    let hash = maintenance.hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner().hash;
    let mut beside = maintenance.clone();
    let defragmenting = tokio::spawn(async move { beside.defragment(pb::DefragmentRequest {}).await });
    for i in 0..20 {
        kv.put(put(format!("beside/{i}"), vec![1; 100])).await.unwrap();
    }
    let answer = defragmenting.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.header, None);
    let after = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert!(after.db_size < before.db_size / 2, "{} of {}", after.db_size, before.db_size);
    let again = maintenance.hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner().hash;
    assert_eq!(again, hash);
    let kept = pb::RangeRequest { key: "kept".into(), ..Default::default() };
    assert_eq!(kv.range(kept).await.unwrap().into_inner().kvs[0].value, "value");
    server.wait_for_line("finished defragmenting directory");
}

#[tokio::test]
async fn srv_30_a_member_goes_on_alone_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut kv = pb::kv_client::KvClient::new(channel(&server).await);
    kv.put(put("kept".into(), b"value".to_vec())).await.unwrap();
    let mut cluster = pb::cluster_client::ClusterClient::new(channel(&server).await);
    let add = pb::MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:9".into()], ..Default::default() };
    assert_eq!(cluster.member_add(add).await.unwrap().into_inner().members.len(), 2);
    // Two voters, of which one will never come: nothing can be committed any more.
    let _ = server.stop(rustix::process::Signal::KILL);

    let alone = Server::start(dir.path(), &["--force-new-cluster"]);
    let mut cluster = pb::cluster_client::ClusterClient::new(channel(&alone).await);
    let listed =
        cluster.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!(listed.members.len(), 1);
    let mut kv = pb::kv_client::KvClient::new(channel(&alone).await);
    let kept = pb::RangeRequest { key: "kept".into(), ..Default::default() };
    assert_eq!(kv.range(kept).await.unwrap().into_inner().kvs[0].value, "value");
    kv.put(put("more".into(), b"value".to_vec())).await.unwrap();
}

#[tokio::test]
async fn clu_7_changes_that_would_cost_the_quorum_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut cluster = pb::cluster_client::ClusterClient::new(channel(&server).await);
    let own = cluster.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    let id = own.members[0].id;
    let refused = cluster.member_remove(pb::MemberRemoveRequest { id }).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: re-configuration failed due to not enough started members");
    let unknown = cluster.member_remove(pb::MemberRemoveRequest { id: 4711 }).await.unwrap_err();
    assert_eq!(unknown.message(), "etcdserver: member not found");
    let voter = cluster.member_promote(pb::MemberPromoteRequest { id }).await.unwrap_err();
    assert_eq!(voter.message(), "etcdserver: can only promote a learner member");
    let nobody = cluster.member_promote(pb::MemberPromoteRequest { id: 4711 }).await.unwrap_err();
    assert_eq!(nobody.message(), "etcdserver: member not found");
    let learner = pb::MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:9".into()], is_learner: true };
    let added = cluster.member_add(learner.clone()).await.unwrap().into_inner().member.unwrap();
    let behind = cluster.member_promote(pb::MemberPromoteRequest { id: added.id }).await.unwrap_err();
    assert_eq!(
        behind.message(),
        "etcdserver: can only promote a learner member which is in sync with leader"
    );
    let second = vec!["http://127.0.0.1:8".into(), "http://127.0.0.1:9".into()];
    let learner = pb::MemberAddRequest { peer_ur_ls: second, ..learner };
    let twice = cluster.member_add(learner).await.unwrap_err();
    assert_eq!(twice.message(), "etcdserver: Peer URLs already exists");
    let left = cluster.member_remove(pb::MemberRemoveRequest { id: added.id }).await.unwrap().into_inner();
    assert_eq!(left.members.len(), 1);
}
