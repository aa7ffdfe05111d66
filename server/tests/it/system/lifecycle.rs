//! Start, signals, exit codes, the service manager, and what a refused start says.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;

use crate::answering::answering;

use super::process::{PATIENCE, Refused, Server, command};

#[test]
fn a_signal_ends_it_in_order_and_shows_in_the_exit_status() {
    for (signal, name) in [(Signal::TERM, "terminated"), (Signal::INT, "interrupt")] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &[]);
        assert_eq!(server.get("/health").0, 200);
        let (status, lines) = server.stop(signal);
        assert_eq!(status.signal(), Some(signal.as_raw()));
        let line = lines.iter().find(|line| line.contains("received signal; shutting down"));
        assert!(line.is_some_and(|line| line.contains(name)), "{lines:?}");
        // What it leaves behind starts again.
        assert_eq!(Server::start(dir.path(), &[]).get("/readyz").0, 200);
    }
}

#[test]
fn sigusr1_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    rustix::process::kill_process(server.pid(), Signal::USR1).unwrap();
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn the_service_manager_hears_when_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = command(dir.path(), &[]);
    command.env("NOTIFY_SOCKET", &path);
    let _server = Server::try_start(command).unwrap();
    let mut text = [0; 16];
    let len = manager.recv(&mut text).unwrap();
    assert_eq!(&text[..len], b"READY=1");
}

#[test]
fn another_cluster_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let list = r#"[{"id":7,"peerURLs":["http://127.0.0.1:1"],"name":"x","clientURLs":[]}]"#;
    let other = answering(|_| Some(list.to_owned()));
    let list = format!("--initial-cluster=a=http://127.0.0.1:1,b=http://{other}");
    let flags = ["--name=a", "--initial-advertise-peer-urls=http://127.0.0.1:1", &list];
    // A directory that was founded is not asked for its list any more: it says the same.
    for _ in 0..2 {
        let (code, output) = refused(dir.path(), &flags);
        assert_eq!(code, Some(1));
        let text =
            format!("the one at http://{other} of cluster 1234; to join that cluster, add this member there");
        assert!(output.contains(&text), "{output}");
    }
}

/// Starts a member that must not serve.
fn refused(dir: &std::path::Path, flags: &[&str]) -> (Option<i32>, String) {
    let Err(refused) = Server::try_start(command(dir, flags)) else { panic!("it serves with {flags:?}") };
    (refused.status.code(), refused.output)
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("--listen-client-urls=http://{}", taken.local_addr().unwrap());
    let (code, output) = refused(dir.path(), &[&url]);
    assert_eq!(code, Some(1));
    assert!(output.contains("cannot listen on http://127.0.0.1:"), "{output}");
    assert!(output.contains("choose another port"), "{output}");
    assert!(!dir.path().join("data").exists(), "nothing is touched before the ports are bound");
}

#[test]
fn a_directory_in_use_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start(dir.path(), &[]);
    let second = Server::try_start(command(dir.path(), &[]));
    // If the first one had ended meanwhile, its locks would be free and the second right to serve.
    assert_eq!(first.get("/health").0, 200);
    let Err(Refused { status, output }) = second else { panic!("two members serve on one directory") };
    assert_eq!(status.code(), Some(1));
    assert!(output.contains("locked"), "{output}");
    assert!(output.contains("another process uses this data directory"), "{output}");
}

#[test]
fn a_directory_without_permission_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        // Root may do everything but what the file system itself forbids.
        let (code, output) = refused(dir.path(), &["--data-dir=/proc/stanchion"]);
        assert_eq!(code, Some(1));
        assert!(output.contains("/proc/stanchion"), "{output}");
        return;
    }
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o500)).unwrap();
    let (code, output) = refused(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(output.contains("belongs to another user"), "{output}");
}

#[test]
fn flags_are_refused_with_etcds_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(refused(dir.path(), &["--no-such-flag"]).0, Some(2));
    assert_eq!(refused(dir.path(), &["--election-timeout=1"]).0, Some(1));
}

#[test]
fn unix_sockets_and_several_urls_are_served_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("client.sock");
    let also = std::net::SocketAddr::from(([127, 0, 0, 1], crate::cluster::ports(1)[0]));
    let urls = format!("--listen-client-urls=http://127.0.0.1:0,http://{also},unix://{}", socket.display());
    // What a killed process left there makes way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let server = Server::start(dir.path(), &[&urls]);
    assert_eq!(server.get("/health").0, 200);
    server.wait_for_line(&socket.display().to_string());
    fn asked(mut stream: impl std::io::Read + std::io::Write) -> String {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
    let by_socket = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    by_socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let by_port = std::net::TcpStream::connect(also).unwrap();
    by_port.set_read_timeout(Some(PATIENCE)).unwrap();
    let (by_socket, by_port) = (asked(by_socket), asked(by_port));
    for answer in [by_socket, by_port] {
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""health":"true""#), "{answer}");
    }
    let (code, output) =
        refused(&dir.path().join("."), &[&format!("--listen-client-urls=unix://{}", socket.display())]);
    assert_eq!(code, Some(1));
    assert!(output.contains("another process serves there"), "{output}");
}

#[test]
fn metrics_are_packed_for_those_who_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (status, head, body) = server.http("GET", "/metrics", "Accept-Encoding: deflate, gzip\r\n");
    assert_eq!(status, 200);
    assert!(head.to_lowercase().contains("content-encoding: gzip"), "{head}");
    assert_eq!(body[..2], [0x1f, 0x8b]);
    let (_, vars) = server.get("/debug/vars");
    let vars: serde_json::Value = serde_json::from_str(&vars).unwrap();
    assert!(vars["memstats"]["Sys"].as_u64().unwrap() > 0, "{vars}");
    assert_eq!(vars["raft.status"]["raftState"], "StateLeader");
}
