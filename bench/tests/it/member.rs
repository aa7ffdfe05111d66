//! A member in a process of its own, on ports that the system chooses.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use stanchion_bench::Report;

/// A member that serves until this is dropped.
pub(crate) struct Member {
    child: Child,
    pub(crate) endpoint: String,
    _data: tempfile::TempDir,
}

/// The member's binary, which Cargo builds with the tests.
pub(crate) fn binary() -> PathBuf {
    let load = PathBuf::from(env!("CARGO_BIN_EXE_load"));
    let member = load.with_file_name("examples").join("member");
    assert!(
        member.exists(),
        "{} is built by `cargo test -p stanchion-bench`, or --example member",
        member.display()
    );
    member
}

impl Member {
    pub(crate) fn start() -> Member {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(binary())
            .arg(format!("--data-dir={}", data.path().join("data").display()))
            .args(["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1"])
            .arg("--listen-peer-urls=http://127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line =
            log.find(|line| line.contains("\"serving client traffic")).expect("it says when it serves");
        // Whoever writes to a closed pipe may die of it.
        std::thread::spawn(move || log.for_each(drop));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        Member { child, endpoint: line["address"].as_str().unwrap().to_owned(), _data: data }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run of `load` ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) log: String,
}

impl Ended {
    /// Its report, which was asked for as JSON.
    pub(crate) fn report(&self) -> Report {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {:?}: {}{}", self.code, self.out, self.log))
    }
}

/// Runs `load` with `flags`, separated by blanks, on `endpoint`.
pub(crate) fn load(endpoint: &str, flags: &str) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .arg(format!("--endpoints={endpoint}"))
        .args(flags.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), log: text(output.stderr) }
}
