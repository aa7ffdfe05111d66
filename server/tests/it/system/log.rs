//! The log of a running member, and the one line for people.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

use super::process::{PATIENCE, Server, command};

#[test]
fn a_terminal_gets_one_line_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_on_terminal(command(dir.path(), &[]));
    // It does not go through the log's queue, so it may overtake lines of the log.
    let line = server.line("try: etcdctl");
    let data = dir.path().join("data");
    assert!(line.contains(&format!("serves on {}", server.address)), "{line}");
    assert!(line.contains(&format!("with its data in {}", data.display())), "{line}");
    let (_, lines) = server.stop(rustix::process::Signal::TERM);
    assert!(!lines.iter().any(|line| line.contains("try: etcdctl")), "{lines:?}");
}

#[test]
fn a_service_gets_no_line_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let (_, lines) = Server::start(dir.path(), &[]).stop(rustix::process::Signal::TERM);
    assert!(!lines.iter().any(|line| line.contains("try: etcdctl")), "{lines:?}");
}

#[test]
fn nobody_waits_for_a_log_that_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stalled");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let mut stalled =
        OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(&path).unwrap();
    let outputs = format!("--log-outputs=stderr,{}", path.display());
    // Every call is worth a line.
    let server = Server::start(dir.path(), &[&outputs, "--warning-unary-request-duration=1ns"]);
    while stalled.write(&[b'\n'; 512]).is_ok() {}
    for key in ["YQ==", "Yg==", "Yw=="] {
        let put = format!(r#"{{"key":"{key}","value":"{key}"}}"#);
        assert_eq!(server.send("POST", "/v3/kv/put", &put).0, 200);
    }
    assert_eq!(server.get("/health").0, 200);
    let (_, vars) = server.get("/debug/vars");
    let vars: serde_json::Value = serde_json::from_str(&vars).unwrap();
    assert_eq!(vars["lost_log_lines"], 0, "three lines have room to wait");
    // What has waited comes when it is read again.
    let deadline = Instant::now() + PATIENCE;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&text).contains("KV/Put") {
        match stalled.read(&mut piece) {
            Ok(len) => text.extend_from_slice(&piece[..len]),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                await_bytes(&stalled, deadline);
            }
        }
    }
}

/// Blocks until there is something to read.
fn await_bytes(pipe: &File, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).expect("it is short");
    let readable = rustix::event::poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&left)).unwrap();
    assert!(readable > 0, "the lines that have waited do not come");
}

#[test]
fn its_level_changes_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--warning-unary-request-duration=1ns"]);
    let path = "/config/local/log";
    assert_eq!(server.send("PUT", path, r#"{"Level":"ERROR"}"#).0, 204);
    assert_eq!(server.send("POST", "/v3/kv/put", r#"{"key":"YQ=="}"#).0, 200);
    assert_eq!(server.send("PUT", path, r#"{"Level":"info"}"#).0, 204);
    assert_eq!(server.send("POST", "/v3/kv/range", r#"{"key":"YQ=="}"#).0, 200);
    let line = server.wait_for_line("request stats");
    assert!(line.contains("KV/Range"), "{line}");
    assert_eq!(
        server.send("PUT", path, r#"{"Level":"loud"}"#),
        (400, "unrecognized level: \"loud\"\n".into())
    );
    assert_eq!(server.send("PUT", path, "loud").0, 400);
    assert_eq!(server.get(path).0, 405);
}
