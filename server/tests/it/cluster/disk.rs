//! A disk that hangs under a running member: the thread that writes the log stands still, all others go on.

use std::path::Path;
use std::time::Instant;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::*;

/// The thread of a process that writes its log.
fn log_writer(process: u32) -> Pid {
    let tasks = std::fs::read_dir(Path::new("/proc").join(process.to_string()).join("task")).unwrap();
    let named = |dir: &std::path::PathBuf| {
        std::fs::read_to_string(dir.join("comm")).is_ok_and(|name| name.trim() == "log-writer")
    };
    let dir = tasks.map(|entry| entry.unwrap().path()).find(named).expect("a thread that writes the log");
    Pid::from_raw(dir.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

/// A thread that stands still until this is dropped. Tracing belongs to the thread that began it, so it has its own.
struct Still {
    go_on: Option<std::sync::mpsc::Sender<()>>,
    tracer: Option<std::thread::JoinHandle<()>>,
}

impl Still {
    fn new(thread: Pid) -> Still {
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (stopped, is_still) = std::sync::mpsc::channel();
        let tracer = std::thread::spawn(move || {
            ptrace::seize(thread, ptrace::Options::empty()).expect("a parent may trace its child");
            ptrace::interrupt(thread).unwrap();
            waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
            stopped.send(()).unwrap();
            let _ = wait.recv();
            ptrace::detach(thread, None).unwrap();
        });
        is_still.recv().expect("the thread stands still");
        Still { go_on: Some(go_on), tracer: Some(tracer) }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        drop(self.go_on.take());
        if let Some(tracer) = self.tracer.take() {
            tracer.join().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_hangs_does_not_hold_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let members = three(dir.path());
    let old = agreed_leader(&members).await;
    put(&members[old], "k", "before").await;
    let others: Vec<&Member> = (1..3).map(|n| &members[(old + n) % 3]).collect();
    let old_id = id_of(&members[old]).await;

    let hanging = Still::new(log_writer(members[old].pid()));
    let began = Instant::now();
    // The others can commit this; the old leader cannot write it, and so gives way.
    put(others[0], "k", "during").await;
    let leader = eventually("another leader", async || {
        let seen = others[0].status().await?.leader;
        (seen != 0 && seen != old_id).then_some(seen)
    })
    .await;
    let took = began.elapsed();
    put(others[1], "k", "with another leader").await;
    members[old].until_said("this member will not lead").await;
    // One election timeout of silence is what it takes; a loaded machine may need several, but no operator.
    assert!(took < SOON, "{took:?}");
    assert_eq!(get(others[0], "k").await.as_deref(), Some("with another leader"));

    drop(hanging);
    assert_eq!(get(&members[old], "k").await.as_deref(), Some("with another leader"));
    members[old].until_said("the log is written again").await;
    assert_ne!(leader, old_id);
    all_have_the_same_history(&members).await;
}
