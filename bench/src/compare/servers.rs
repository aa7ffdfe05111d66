//! Servers under test: processes on loopback, on ports that the system chose, ended by their own handle.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stanchion_api::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberRemoveRequest,
    MemberRemoveResponse, RangeRequest, RangeResponse,
};

use crate::error::Failure;
use crate::wire::{Connection, Method};

/// Longest wait for a cluster to serve.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks whether it serves.
const LOOK: Duration = Duration::from_millis(2);
/// Longest wait for a server to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A kind of server: its name in the tables, and its binary.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
}

/// Members that serve.
pub(crate) struct Cluster {
    kind: Kind,
    directory: PathBuf,
    children: Vec<Child>,
    pub(crate) endpoints: Vec<String>,
    /// URLs that members talk to each other at.
    peers: Vec<String>,
    /// From the start of the processes to the first linearizable read.
    pub(crate) start: Duration,
}

impl Cluster {
    /// Starts `members` members of `kind` in `directory`, which may hold the data of an earlier start.
    pub(crate) fn start(kind: &Kind, members: usize, directory: &Path) -> Result<Cluster, Failure> {
        let ports = ports(2 * members)?;
        let url = |at: &u16| format!("http://127.0.0.1:{at}");
        let begun = Instant::now();
        let mut cluster = Cluster {
            kind: kind.clone(),
            directory: directory.to_owned(),
            children: Vec::new(),
            endpoints: ports[..members].iter().map(url).collect(),
            peers: ports[members..].iter().map(url).collect(),
            start: Duration::ZERO,
        };
        for at in 0..members {
            let child = cluster.spawn(at, "new")?;
            cluster.children.push(child);
        }
        cluster.wait_until_it_reads(0..members)?;
        cluster.start = begun.elapsed();
        Ok(cluster)
    }

    /// Starts the process of member number `at`.
    fn spawn(&self, at: usize, state: &str) -> Result<Child, Failure> {
        let (client, peer) = (&self.endpoints[at], &self.peers[at]);
        let initial: Vec<String> =
            self.peers.iter().enumerate().map(|(at, url)| format!("m{at}={url}")).collect();
        let log = self.directory.join(format!("m{at}.log"));
        let open_log = || -> std::io::Result<File> {
            fs::create_dir_all(&self.directory)?;
            File::create(&log)
        };
        let log = open_log().map_err(|error| Failure::local(log.display().to_string(), &error))?;
        Command::new(&self.kind.binary)
            .current_dir(&self.directory)
            .arg(format!("--name=m{at}"))
            .arg(format!("--data-dir={}", self.data(at).display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", initial.join(",")))
            .arg(format!("--initial-cluster-state={state}"))
            .arg("--quota-backend-bytes=8589934592")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::local(format!("starting {}", self.kind.binary.display()), &error))
    }

    fn data(&self, at: usize) -> PathBuf {
        self.directory.join(format!("m{at}"))
    }

    /// Removes the last member with its data and starts an empty one in its place; how long that took to read.
    pub(crate) fn replace_last(&mut self) -> Result<Duration, Failure> {
        let at = self.children.len() - 1;
        let runtime = runtime()?;
        let address = self.address(0);
        let connection = runtime.block_on(Connection::open(address, None))?;
        let list: MemberListResponse = runtime
            .block_on(connection.unary(Method::MemberList, &MemberListRequest { linearizable: true }))?;
        let name = format!("m{at}");
        let member = list.members.iter().find(|member| member.name == name).ok_or_else(|| {
            Failure::Foreign { endpoint: address.to_owned(), what: format!("no member {name} in its list") }
        })?;
        let removal = MemberRemoveRequest { id: member.id };
        accepted(|| {
            runtime.block_on(connection.unary::<MemberRemoveResponse>(Method::MemberRemove, &removal))
        })?;
        let child = &mut self.children[at];
        // A removed member may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
        let data = self.data(at);
        fs::remove_dir_all(&data).map_err(|error| Failure::local(data.display().to_string(), &error))?;
        let addition = MemberAddRequest { peer_ur_ls: vec![self.peers[at].clone()], is_learner: false };
        accepted(|| runtime.block_on(connection.unary::<MemberAddResponse>(Method::MemberAdd, &addition)))?;
        let begun = Instant::now();
        self.children[at] = self.spawn(at, "existing")?;
        self.wait_until_it_reads(at..at + 1)?;
        Ok(begun.elapsed())
    }

    /// `host:port` of a member's clients.
    fn address(&self, at: usize) -> &str {
        self.endpoints[at].trim_start_matches("http://")
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Each of these members has answered a linearizable read.
    fn wait_until_it_reads(&mut self, members: Range<usize>) -> Result<(), Failure> {
        let runtime = runtime()?;
        let deadline = Instant::now() + START_PATIENCE;
        for at in members {
            while let Err(failure) = runtime.block_on(reads(self.address(at))) {
                let ended = self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
                if ended || Instant::now() >= deadline {
                    return Err(Failure::Local {
                        what: format!("{} does not serve", self.kind.name),
                        reason: format!(
                            "{failure}; the last words of m{at}: {}",
                            last_words(&self.directory, at)
                        ),
                    });
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Asks all members to end, and waits; whoever does not is ended.
    pub(crate) fn stop(mut self) {
        for child in &self.children {
            let pid = rustix::process::Pid::from_child(child);
            // One that has ended already needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline
            && self.children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None)))
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("a runtime", &error))
}

/// Asks until the change is accepted: members refuse changes as long as they have not known each other for a while.
fn accepted<A>(ask: impl Fn() -> Result<A, Failure>) -> Result<A, Failure> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match ask() {
            Err(Failure::Refused { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

async fn reads(address: &str) -> Result<(), Failure> {
    let connection = Connection::open(address, None).await?;
    let question = RangeRequest { key: Bytes::from_static(b"\0"), ..Default::default() };
    let read = connection.unary::<RangeResponse>(Method::Range, &question);
    let timeout = |_| Failure::Unreachable { endpoint: address.to_owned(), reason: "no answer".to_owned() };
    tokio::time::timeout(Duration::from_secs(5), read).await.map_err(timeout)?.map(|_| ())
}

/// Ports that are free now.
fn ports(count: usize) -> Result<Vec<u16>, Failure> {
    let hold = || -> std::io::Result<Vec<TcpListener>> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect()
    };
    let ports = hold().and_then(|held| held.iter().map(|held| Ok(held.local_addr()?.port())).collect());
    ports.map_err(|error| Failure::local("a free port", &error))
}

fn last_words(directory: &Path, at: usize) -> String {
    let log = fs::read_to_string(directory.join(format!("m{at}.log"))).unwrap_or_default();
    log.lines().last().unwrap_or("none").to_owned()
}
