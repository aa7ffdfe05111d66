//! Servers under test: processes on loopback, on ports that the system chose, ended by their own handle.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stanchion_api::etcdserverpb::{RangeRequest, RangeResponse};

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
    children: Vec<Child>,
    pub(crate) endpoints: Vec<String>,
    /// From the start of the processes to the first linearizable read.
    pub(crate) start: Duration,
}

impl Cluster {
    /// Starts `members` members of `kind` in `directory`, which may hold the data of an earlier start.
    pub(crate) fn start(kind: &Kind, members: usize, directory: &Path) -> Result<Cluster, Failure> {
        let ports = ports(2 * members)?;
        let url = |at: usize| format!("http://127.0.0.1:{}", ports[at]);
        let initial: Vec<String> = (0..members).map(|at| format!("m{at}={}", url(members + at))).collect();
        let begun = Instant::now();
        let mut cluster = Cluster {
            children: Vec::new(),
            endpoints: (0..members).map(url).collect(),
            start: Duration::ZERO,
        };
        for at in 0..members {
            let data = directory.join(format!("m{at}"));
            let log = directory.join(format!("m{at}.log"));
            let open_log = || -> std::io::Result<File> {
                fs::create_dir_all(directory)?;
                File::create(&log)
            };
            let log = open_log().map_err(|error| Failure::local(log.display().to_string(), &error))?;
            let child = Command::new(&kind.binary)
                .current_dir(directory)
                .arg(format!("--name=m{at}"))
                .arg(format!("--data-dir={}", data.display()))
                .arg(format!("--listen-client-urls={}", url(at)))
                .arg(format!("--advertise-client-urls={}", url(at)))
                .arg(format!("--listen-peer-urls={}", url(members + at)))
                .arg(format!("--initial-advertise-peer-urls={}", url(members + at)))
                .arg(format!("--initial-cluster={}", initial.join(",")))
                .arg("--quota-backend-bytes=8589934592")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .map_err(|error| Failure::local(format!("starting {}", kind.binary.display()), &error))?;
            cluster.children.push(child);
        }
        cluster.wait_until_it_reads(kind, directory)?;
        cluster.start = begun.elapsed();
        Ok(cluster)
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Every member has answered a linearizable read.
    fn wait_until_it_reads(&mut self, kind: &Kind, directory: &Path) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::local("a runtime", &error))?;
        let deadline = Instant::now() + START_PATIENCE;
        for endpoint in self.endpoints.clone() {
            let address = endpoint.trim_start_matches("http://");
            while let Err(failure) = runtime.block_on(reads(address)) {
                let ended = self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
                if ended || Instant::now() >= deadline {
                    return Err(Failure::Local {
                        what: format!("{} does not serve", kind.name),
                        reason: format!("{failure}; its last words: {}", last_words(directory)),
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

fn last_words(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("m0.log")).unwrap_or_default();
    log.lines().last().unwrap_or("none").to_owned()
}
