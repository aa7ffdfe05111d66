//! Members as processes that form clusters.
//!
//! What lives here: starting, killing and asking them. The tests are in the modules, by what they are about.

mod basics;
mod changes;
mod corruption;
mod discovery;
mod disk;
mod refusals;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::cluster_client::ClusterClient;
use stanchion_api::etcdserverpb::kv_client::KvClient;
use stanchion_api::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// Longest wait for something that is going to happen. It matters only to a test that fails, and a machine may be busy.
const SOON: Duration = Duration::from_secs(180);
/// Longest wait for one answer of a member that may be gone; then it is asked again.
const ANSWER: Duration = Duration::from_secs(20);

/// Milliseconds between heartbeats.
const HEARTBEAT: &str = "100";
/// Milliseconds without a leader: on a busy machine members stand still for a second, and no test is about an election that
/// begins for that reason.
const ELECTION: &str = "3000";

/// A process, and the thread that reads its log.
struct Process {
    child: Child,
    reader: JoinHandle<()>,
}

struct Member {
    name: String,
    args: Vec<String>,
    client: String,
    /// What all its processes have said so far.
    log: watch::Sender<String>,
    process: Option<Process>,
}

impl Member {
    fn new(name: &str, args: Vec<String>, client: String) -> Member {
        Member { name: name.to_owned(), args, client, log: watch::Sender::default(), process: None }
    }

    fn start(&mut self) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stanchion"))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = self.log.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        self.process = Some(Process { child, reader });
    }

    fn runs(&self) -> bool {
        self.process.is_some()
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("it was started").child.id()
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.child.kill().unwrap();
            process.child.wait().unwrap();
            process.reader.join().unwrap();
        }
    }

    /// SIGTERM.
    fn terminate(&self) {
        let pid = Pid::from_child(&self.process.as_ref().expect("it was started").child);
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for the end of the process, and for the last line of its log.
    async fn ended(&mut self) -> ExitStatus {
        let Process { mut child, reader } = self.process.take().expect("it was started");
        let pid = Pid::from_child(&child);
        let ending = tokio::task::spawn_blocking(move || {
            let status = child.wait().unwrap();
            reader.join().unwrap();
            status
        });
        let Ok(status) = tokio::time::timeout(SOON, ending).await else {
            kill_process(pid, Signal::KILL).unwrap();
            panic!("{} has not ended", self.name);
        };
        status.unwrap()
    }

    /// SIGTERM, and the end of the process.
    async fn stop(&mut self) {
        self.terminate();
        self.ended().await;
    }

    /// Has the log said so?
    fn said(&self, what: &str) -> bool {
        self.log.borrow().contains(what)
    }

    /// Lines of the log that say all of this.
    fn lines(&self, said: &[&str]) -> usize {
        self.log.borrow().lines().filter(|line| said.iter().all(|what| line.contains(what))).count()
    }

    /// Waits until the log says so.
    async fn until_said(&self, what: &str) {
        let mut log = self.log.subscribe();
        let saying = log.wait_for(|log| log.contains(what));
        assert!(tokio::time::timeout(SOON, saying).await.is_ok(), "{} has not said {what:?}", self.name);
    }

    /// Changes a flag for the next start.
    fn set(&mut self, name: &str, value: &str) {
        let prefix = format!("--{name}=");
        self.args.retain(|arg| !arg.starts_with(&prefix));
        self.args.push(prefix + value);
    }

    fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.client.clone()).unwrap();
        endpoint.connect_timeout(ANSWER).connect_lazy()
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel())
    }

    /// The member's own view; nothing while it does not serve.
    async fn status(&self) -> Option<pb::StatusResponse> {
        let mut client = MaintenanceClient::new(self.channel());
        let asked = tokio::time::timeout(ANSWER, client.status(pb::StatusRequest {}));
        Some(asked.await.ok()?.ok()?.into_inner())
    }
}

#[allow(clippy::print_stderr, reason = "the log of a failed test is what one wants to see")]
impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log.borrow();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            eprintln!("--- {}", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Ports that nobody listens on and that nobody else is given until this process ends. A member takes its port some time
/// after this, and leaves it free while it is killed. Others of these tests, and other processes, are kept off by a name that
/// only one can hold, an abstract socket's; the system, which gives ports to whoever connects or listens on port 0, has a
/// range of its own for that (`ip_local_port_range`), and these lie below unless it leaves hardly any there.
pub(crate) fn ports(count: usize) -> Vec<u16> {
    static KEPT: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    const LOWEST: u16 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let own: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let end = if own < LOWEST + 1000 { u16::MAX } else { own };
    let mut kept = KEPT.lock().unwrap();
    let free = |port: &u16| {
        let name = SocketAddr::from_abstract_name(format!("stanchion-conformance-{port}")).unwrap();
        let Ok(name) = UnixListener::bind_addr(&name) else { return false };
        let free = TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if free {
            kept.push(name);
        }
        free
    };
    // Processes begin at different places.
    let first = LOWEST + (std::process::id() % u32::from(end - LOWEST)) as u16;
    let found: Vec<u16> = (first..end).chain(LOWEST..first).filter(free).take(count).collect();
    assert_eq!(found.len(), count, "no port is free");
    found
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
            ("heartbeat-interval", HEARTBEAT.to_owned()),
            ("election-timeout", ELECTION.to_owned()),
        ];
        let mut args: Vec<String> = args.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
        args.extend(more.iter().map(|(flag, value)| format!("--{flag}={value}")));
        let mut member = Member::new(&name(i), args, client);
        member.start();
        member
    };
    (0..3).map(member).collect()
}

/// Asks until `check` gives something. What another process knows can only be asked for, and what a cluster refuses for a
/// while (writes without a leader, changes of membership) only be asked for again: there is nothing to wait on. What ends
/// or is logged is waited for instead, by [`Member::ended`] and [`Member::until_said`].
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
        for (at, member) in members.iter().enumerate().filter(|(_, member)| member.runs()) {
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

/// What a member answers when it can: on a busy machine another leader may be elected at any time, and until then nobody
/// answers. What was asked may be done twice.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<Response<T>, Status>) -> Result<T, Status> {
    eventually("an answer", async || match ask().await {
        Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => None,
        answer => Some(answer.map(Response::into_inner)),
    })
    .await
}

async fn put(member: &Member, key: &str, value: &str) -> i64 {
    let request =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    let put = answered(async || member.kv().put(request.clone()).await).await.unwrap();
    put.header.unwrap().revision
}

/// Reads one key linearizably.
async fn get(member: &Member, key: &str) -> Option<String> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let found = answered(async || member.kv().range(request.clone()).await).await.unwrap();
    found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

async fn all_have_the_same_history(members: &[Member]) {
    let revision = put(&members[0], "end", "").await;
    let mut hashes = Vec::new();
    for member in members {
        get(member, "end").await;
        let ask =
            async || MaintenanceClient::new(member.channel()).hash_kv(pb::HashKvRequest { revision }).await;
        let hash = answered(ask).await.unwrap();
        hashes.push((hash.hash, hash.compact_revision));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

async fn listed(asked: &Member) -> Vec<pb::Member> {
    let request = pb::MemberListRequest { linearizable: true };
    let ask = async || ClusterClient::new(asked.channel()).member_list(request).await;
    answered(ask).await.unwrap().members
}

/// Adds a member, and gives its id. That is refused until all members have been connected for a while.
async fn added(asked: &Member, url: &str, is_learner: bool) -> u64 {
    eventually("the addition", async || {
        // A try that got no answer may have been carried out.
        let known = listed(asked).await.into_iter().find(|member| member.peer_ur_ls == [url]);
        if let Some(known) = known {
            return Some(known.id);
        }
        let request = pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner };
        let added = ClusterClient::new(asked.channel()).member_add(request).await.ok()?;
        Some(added.into_inner().member?.id)
    })
    .await
}

/// Makes a learner a voter. That is refused until it has caught up.
async fn promoted(asked: &Member, id: u64) {
    eventually("the promotion", async || {
        let learner = listed(asked).await.into_iter().find(|member| member.id == id)?;
        if !learner.is_learner {
            return Some(());
        }
        let request = pb::MemberPromoteRequest { id };
        ClusterClient::new(asked.channel()).member_promote(request).await.ok().map(drop)
    })
    .await;
}

/// The id of a member.
async fn id_of(member: &Member) -> u64 {
    eventually("a status", async || member.status().await).await.header.unwrap().member_id
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
        ("heartbeat-interval", HEARTBEAT.to_owned()),
        ("election-timeout", ELECTION.to_owned()),
    ];
    let args = args.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
    Member::new("m3", args, client)
}
