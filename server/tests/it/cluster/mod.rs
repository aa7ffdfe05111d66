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
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::kv_client::KvClient;
use stanchion_api::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for something that is going to happen. It matters only to a test that fails, and a machine may be busy.
const SOON: Duration = Duration::from_secs(180);
/// Longest wait for one answer of a member that may be gone; then it is asked again.
const ANSWER: Duration = Duration::from_secs(20);

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
    Member::new("m3", args, client)
}
