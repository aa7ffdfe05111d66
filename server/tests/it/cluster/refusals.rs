//! Members that do not fit: each is refused in etcd's words, which its log has once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::answering::answering;

/// One request written by hand, and all of its answer.
fn request(member: &Member, line: &str, headers: &[(&str, &str)]) -> String {
    let url = flag(member, "listen-peer-urls");
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a text field in the first line of a log that says this.
fn field(member: &Member, line: &str, name: &str) -> String {
    let log = member.log.borrow();
    let line = log.lines().find(|known| known.contains(line)).unwrap();
    let (_, rest) = line.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let members = three(dir.path());
    agreed_leader(&members).await;
    // It believes to found a cluster with one of ours: other members, and so another cluster.
    let mut stranger = joining(dir.path(), &members);
    let (own, others) =
        (flag(&stranger, "initial-advertise-peer-urls"), flag(&members[0], "initial-advertise-peer-urls"));
    stranger.set("initial-cluster", &format!("m3={own},m0={others}"));
    stranger.set("initial-cluster-state", "new");
    stranger.start();
    stranger.until_said("cluster ID mismatch").await;
    members[0].until_said("cluster ID mismatch").await;
    // It goes on trying, and so do we in its name.
    let id = field(&members[0], "cluster ID mismatch", "peer");
    for _ in 0..20 {
        let headers = [
            ("X-Server-From", id.as_str()),
            ("X-Server-Version", "3.7.0"),
            ("X-Min-Cluster-Version", "3.0.0"),
            ("X-Etcd-Cluster-ID", "1"),
        ];
        let answer = request(&members[0], &format!("GET /raft/stream/message/{id}"), &headers);
        assert!(answer.starts_with("HTTP/1.1 412 ") && answer.contains("cluster ID mismatch"), "{answer}");
    }
    assert_eq!(members[0].lines(&["refused a peer's request", "stream", "cluster ID mismatch"]), 1);
    for stream in ["message stream from peer", "msgapp stream from peer"] {
        assert!(stranger.lines(&["peer is not reached", stream, "cluster ID mismatch"]) <= 1);
    }
    put(&members[1], "k", "ours go on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_whose_directory_is_gone_does_not_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = three(dir.path());
    agreed_leader(&members).await;
    put(&members[2], "k", "1").await;
    members[2].kill();
    std::fs::remove_dir_all(flag(&members[2], "data-dir")).unwrap();
    members[2].start();
    assert_eq!(members[2].ended().await.code(), Some(1));
    assert_eq!(members[2].lines(&["has already been bootstrapped"]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = format!("http://127.0.0.1:{}", ports(1)[0]);
    let mut member = joining(dir.path(), &[]);
    let own = flag(&member, "initial-advertise-peer-urls");
    for (list, said) in [
        (format!("m3={own},b={nobody},c={nobody}"), "has duplicate url"),
        (format!("b={nobody}"), "couldn't find local name"),
        (format!("m3={nobody}"), "but missing from --initial-advertise-peer-urls"),
        (format!("m3={own},b={nobody}"), "cannot fetch cluster info from peer urls"),
    ] {
        member.set("initial-cluster", &list);
        member.start();
        assert_eq!(member.ended().await.code(), Some(1), "{said}");
        assert_eq!(member.lines(&[said]), 1, "{said}");
    }
    assert!(!Path::new(&flag(&member, "data-dir")).join("member/wal").exists(), "nothing was founded");
}

/// What a fake member tells of its cluster.
#[derive(Clone)]
struct Told {
    version: &'static str,
    downgrading: bool,
    /// Peer URLs of its members, by id.
    members: Vec<(u64, Vec<String>)>,
}

/// A running cluster of one member beside who wants to join it; what it tells can change.
fn running(told: &Arc<Mutex<Told>>) -> SocketAddr {
    let told = told.clone();
    answering(move |path| {
        let Told { version, downgrading, members } = told.lock().unwrap().clone();
        let member = |(id, urls): (u64, Vec<String>)| serde_json::json!({"id": id, "peerURLs": urls});
        match path {
            "/members" => Some(serde_json::Value::from_iter(members.into_iter().map(member)).to_string()),
            "/version" => Some(format!(r#"{{"etcdserver":"{version}","etcdcluster":"{version}"}}"#)),
            "/downgrade/enabled" => Some(downgrading.to_string()),
            _ => None,
        }
    })
}

/// A cluster of one.
fn founder(dir: &Path) -> Member {
    let mut founder = joining(dir, &[]);
    let url = flag(&founder, "initial-advertise-peer-urls");
    founder.name = "m0".to_owned();
    founder.set("name", "m0");
    founder.set("data-dir", &dir.join("m0").display().to_string());
    founder.set("initial-cluster", &format!("m0={url}"));
    founder.set("initial-cluster-state", "new");
    founder.start();
    founder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dwn_9_who_does_not_fit_the_clusters_version_does_not_join() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Told { version: "", downgrading: false, members: Vec::new() }));
    let other = format!("http://{}", running(&told));
    let mut member = joining(dir.path(), &[]);
    let own = flag(&member, "initial-advertise-peer-urls");
    // Nobody is at its first URL: the second one counts.
    let silent = format!("http://127.0.0.1:{}", ports(1)[0]);
    let list = format!("m0={silent},m0={other},{}", flag(&member, "initial-cluster"));
    member.set("initial-cluster", &list);
    told.lock().unwrap().members = vec![(7, vec![silent, other]), (9, vec![own])];

    let (low, high) = ("is not compatible; too low", "is not compatible; too high");
    let newer = "start a release that is at least as new as the cluster";
    for (version, downgrading, warning, why, advice) in [
        ("3.8.0", false, high, "its version is 3.8, this member can join 3.0 to 3.7", newer),
        ("4.0.0", false, high, "its version is 4.0, this member can join 3.0 to 3.7", newer),
        ("2.3.0", false, low, "its version is 2.3, this member can join 3.0 to 3.7", "upgrade the members"),
        (
            "3.7.0",
            true,
            low,
            "its version is 3.7, this member can join 3.8 to 3.8",
            "a downgrade is under way",
        ),
        (
            "not_decided",
            false,
            "failed to parse",
            "no member tells the cluster's version",
            "start this member again",
        ),
    ] {
        {
            let mut told = told.lock().unwrap();
            (told.version, told.downgrading) = (version, downgrading);
        }
        member.log.send_replace(String::new());
        member.start();
        assert_eq!(member.ended().await.code(), Some(1), "{version}");
        assert_eq!(
            member.lines(&["incompatible with current running cluster: ", why, advice]),
            1,
            "{version}"
        );
        assert_eq!(
            member.lines(&["cluster version of remote member", warning, r#""remote-member-id":"7""#]),
            1
        );
        assert!(!Path::new(&flag(&member, "data-dir")).exists(), "{version}: nothing is made");
    }

    // The same directory joins a cluster that fits.
    let founder = founder(dir.path());
    agreed_leader(std::slice::from_ref(&founder)).await;
    put(&founder, "k", "1").await;
    let at = flag(&founder, "initial-advertise-peer-urls");
    let own = flag(&member, "initial-advertise-peer-urls");
    added(&founder, &own, false).await;
    member.set("initial-cluster", &format!("m0={at},m3={own}"));
    member.start();
    let members = [founder, member];
    agreed_leader(&members).await;
    assert_eq!(get(&members[1], "k").await.as_deref(), Some("1"));
}
