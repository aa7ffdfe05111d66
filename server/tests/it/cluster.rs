//! Three members as processes: what one is told, all know; a leader that is killed is replaced and comes back.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::cluster_client::ClusterClient;
use stanchion_api::etcdserverpb::kv_client::KvClient;
use stanchion_api::etcdserverpb::lease_client::LeaseClient;
use stanchion_api::etcdserverpb::maintenance_client::MaintenanceClient;
use stanchion_api::etcdserverpb::watch_client::WatchClient;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for something that is going to happen.
const SOON: Duration = Duration::from_secs(60);

struct Member {
    name: String,
    args: Vec<String>,
    client: String,
    log: PathBuf,
    process: Option<Child>,
}

impl Member {
    fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stanchion"))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(child.unwrap());
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.client.clone()).unwrap();
        endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel())
    }

    /// The member's own view; nothing while it does not serve.
    async fn status(&self) -> Option<pb::StatusResponse> {
        let mut client = MaintenanceClient::new(self.channel());
        let asked = tokio::time::timeout(Duration::from_secs(5), client.status(pb::StatusRequest {}));
        Some(asked.await.ok()?.ok()?.into_inner())
    }
}

#[allow(clippy::print_stderr, reason = "the log of a failed test is what one wants to see")]
impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            eprintln!("--- {}", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Free ports of this moment.
fn ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn three(dir: &Path) -> Vec<Member> {
    three_with(dir, &[])
}

fn three_with(dir: &Path, more: &[(&str, &str)]) -> Vec<Member> {
    let ports = ports(6);
    let name = |i: usize| format!("m{i}");
    let peer = |i: usize| format!("http://127.0.0.1:{}", ports[i]);
    let initial: Vec<String> = (0..3).map(|i| format!("{}={}", name(i), peer(i))).collect();
    let member = |i: usize| {
        let client = format!("http://127.0.0.1:{}", ports[3 + i]);
        let args = [
            ("name", name(i)),
            ("data-dir", dir.join(name(i)).display().to_string()),
            ("listen-peer-urls", peer(i)),
            ("initial-advertise-peer-urls", peer(i)),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client.clone()),
            ("initial-cluster", initial.join(",")),
            ("heartbeat-interval", "50".to_owned()),
            ("election-timeout", "500".to_owned()),
        ];
        let mut args: Vec<String> = args.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
        args.extend(more.iter().map(|(flag, value)| format!("--{flag}={value}")));
        let mut member =
            Member { name: name(i), args, client, log: dir.join(format!("m{i}.log")), process: None };
        member.start();
        member
    };
    (0..3).map(member).collect()
}

/// Waits until `check` gives something.
async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} has not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The place of the leader that all running members name.
async fn agreed_leader(members: &[Member]) -> usize {
    eventually("one leader", async || {
        let mut leaders = Vec::new();
        let mut ids = Vec::new();
        for (at, member) in members.iter().enumerate().filter(|(_, member)| member.process.is_some()) {
            let status = member.status().await?;
            ids.push((at, status.header?.member_id));
            leaders.push(status.leader);
        }
        let first = leaders[0];
        let (at, _) = *ids.iter().find(|(_, id)| *id == first)?;
        leaders.iter().all(|leader| *leader == first).then_some(at)
    })
    .await
}

async fn put(member: &Member, key: &str, value: &str) -> i64 {
    let request =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    let put = member.kv().put(request).await.unwrap().into_inner();
    put.header.unwrap().revision
}

/// Reads one key linearizably.
async fn get(member: &Member, key: &str) -> Option<String> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let found = member.kv().range(request).await.unwrap().into_inner();
    found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

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
    let mut asked = ClusterClient::new(members[0].channel());
    let listed =
        asked.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner().members;
    assert_eq!(listed.iter().filter(|member| !member.client_ur_ls.is_empty()).count(), 3);
    assert_eq!(members[0].status().await.unwrap().version, members[1].status().await.unwrap().version);

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
    eventually("a write after the leader's end", async || {
        let request = pb::PutRequest { key: "w".into(), value: "1".into(), ..Default::default() };
        members[third].kv().put(request).await.ok()
    })
    .await;
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
    let mut granting = LeaseClient::new(members[0].channel());
    let granted = granting.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 7 }).await;
    assert_eq!(granted.unwrap().into_inner().id, 7);
    for member in members {
        let mut leases = LeaseClient::new(member.channel());
        for (id, ttl) in [(7, 600), (8, 0)] {
            let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
            let mut answers = leases.lease_keep_alive(request).await.unwrap().into_inner();
            assert_eq!(answers.message().await.unwrap().unwrap().ttl, ttl, "{} lease {id}", member.name);
        }
        let request = pb::LeaseTimeToLiveRequest { id: 7, keys: false };
        let found = leases.lease_time_to_live(request).await.unwrap().into_inner();
        assert_eq!(found.granted_ttl, 600);
        let request = pb::LeaseTimeToLiveRequest { id: 8, keys: false };
        assert_eq!(leases.lease_time_to_live(request).await.unwrap().into_inner().ttl, -1);
    }
}

async fn all_have_the_same_history(members: &[Member]) {
    let revision = put(&members[0], "end", "").await;
    let mut hashes = Vec::new();
    for member in members {
        get(member, "end").await;
        let request = pb::HashKvRequest { revision };
        let hash = MaintenanceClient::new(member.channel()).hash_kv(request).await.unwrap().into_inner();
        hashes.push((hash.hash, hash.compact_revision));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// The id of a member.
async fn id_of(member: &Member) -> u64 {
    eventually("a status", async || member.status().await).await.header.unwrap().member_id
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
        let mut cluster = ClusterClient::new(members[0].channel());
        cluster.member_remove(pb::MemberRemoveRequest { id: gone }).await.ok()
    })
    .await;
    let mut removed = members.pop().unwrap();
    let status = eventually("the end of the removed member", async || {
        removed.process.as_mut().unwrap().try_wait().unwrap()
    })
    .await;
    assert_eq!(status.code(), Some(0));
    removed.process = None;

    // On its old directory it is told that it was removed, and stops again.
    removed.start();
    let status = eventually("the second end of the removed member", async || {
        removed.process.as_mut().unwrap().try_wait().unwrap()
    })
    .await;
    assert_eq!(status.code(), Some(0));
    removed.process = None;

    // A list that does not fit is refused before anything is written.
    let mut fresh = joining(dir.path(), &members);
    fresh.start();
    let status =
        eventually("the refusal", async || fresh.process.as_mut().unwrap().try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(1));
    fresh.process = None;
    assert!(std::fs::read_to_string(&fresh.log).unwrap().contains("member count is unequal"));

    let url = flag(&fresh, "initial-advertise-peer-urls");
    eventually("the addition", async || {
        let mut cluster = ClusterClient::new(members[0].channel());
        let request = pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: false };
        cluster.member_add(request).await.ok()
    })
    .await;
    fresh.start();
    members.push(fresh);
    agreed_leader(&members).await;
    assert_eq!(get(&members[2], "before").await, Some("1".to_owned()));
    put(&members[2], "after", "2").await;
    all_have_the_same_history(&members).await;
}

/// Has the member's log said so?
fn said(member: &Member, what: &str) -> bool {
    std::fs::read_to_string(&member.log).unwrap().contains(what)
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
    assert!(said(&members[lagging], "installed the leader's snapshot"));
    all_have_the_same_history(&members).await;

    // A learner that starts with nothing, while the log's beginning is long gone.
    let mut learner = joining(dir.path(), &members);
    let url = flag(&learner, "initial-advertise-peer-urls");
    let mut cluster = ClusterClient::new(members[leader].channel());
    // Refused until all members have been connected for a while.
    let added = eventually("the addition", async || {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: true };
        cluster.member_add(request).await.ok()
    })
    .await;
    let added = added.into_inner().member.unwrap().id;
    learner.start();
    eventually("the promotion", async || {
        cluster.member_promote(pb::MemberPromoteRequest { id: added }).await.ok()
    })
    .await;
    assert!(said(&learner, "installed the leader's snapshot"));
    members.push(learner);
    agreed_leader(&members).await;
    assert_eq!(get(&members[3], "w").await, Some("before".to_owned()));
    all_have_the_same_history(&members).await;
}

fn flag(member: &Member, name: &str) -> String {
    let prefix = format!("--{name}=");
    member.args.iter().find_map(|arg| arg.strip_prefix(&prefix)).unwrap().to_owned()
}

/// One member more, not started, that knows the others.
fn joining(dir: &Path, others: &[Member]) -> Member {
    let ports = ports(2);
    let (peer, client) = (format!("http://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
    let mut initial: Vec<String> = others
        .iter()
        .map(|other| format!("{}={}", other.name, flag(other, "initial-advertise-peer-urls")))
        .collect();
    initial.push(format!("m3={peer}"));
    let args = [
        ("name", "m3".to_owned()),
        ("data-dir", dir.join("m3").display().to_string()),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client.clone()),
        ("initial-cluster", initial.join(",")),
        ("initial-cluster-state", "existing".to_owned()),
        ("heartbeat-interval", "50".to_owned()),
        ("election-timeout", "500".to_owned()),
    ];
    let args = args.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
    Member { name: "m3".to_owned(), args, client, log: dir.join("m3.log"), process: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_end_hands_leadership_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    let leader = agreed_leader(&members).await;
    let other = (leader + 1) % 3;
    put(&members[other], "k", "0").await;
    let term = members[other].status().await.unwrap().raft_term;
    let process = members[leader].process.take().unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    eventually("a write after the hand-over", async || {
        let request = pb::PutRequest { key: "k".into(), value: "1".into(), ..Default::default() };
        members[other].kv().put(request).await.ok()
    })
    .await;
    // One election, which the old leader has started: nobody had to wait for a timeout.
    assert_eq!(members[other].status().await.unwrap().raft_term, term + 1);
    let log = std::fs::read_to_string(&members[leader].log).unwrap();
    assert!(log.contains("leadership transfer starting"));
    assert!(!log.contains("leadership could not be handed over"), "{log}");
    let mut process = process;
    eventually("the end of the old leader", async || process.try_wait().unwrap()).await;
}
