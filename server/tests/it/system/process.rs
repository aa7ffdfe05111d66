//! A real member in a process of its own, on ports that the system chooses.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Longest wait for anything that a member does. It matters only to a test that fails, and a machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A member that serves.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    /// What it said before it served.
    pub(crate) said: String,
    /// Where clients reach it.
    pub(crate) address: String,
}

/// Why a member did not serve.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// The binary with `flags`, in `dir`, on free ports.
pub(crate) fn command(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanchion"));
    command
        .current_dir(dir)
        .arg(format!("--data-dir={}", dir.join("data").display()))
        .args(["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1"])
        .args(["--listen-peer-urls=http://127.0.0.1:0"])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Server {
    /// Starts a member; it serves when this returns.
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Server {
        Server::try_start(command(dir, flags)).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    pub(crate) fn try_start(mut command: Command) -> Result<Server, Refused> {
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        Server::wait_until_it_serves(child, stderr)
    }

    /// Starts a member on a terminal of its own.
    pub(crate) fn start_on_terminal(mut command: Command) -> Server {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let terminal = OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes()));
        let child = command.stderr(terminal.expect("it opens")).spawn().expect("the binary starts");
        // Else this process would hold the terminal open, too, and never read its end.
        drop(command);
        let served = Server::wait_until_it_serves(child, File::from(master));
        served.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    fn wait_until_it_serves(mut child: Child, log: impl Read + Send + 'static) -> Result<Server, Refused> {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut output = String::new();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains("\"serving client traffic") {
                let fields: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
                let address = fields["address"].as_str().expect("it says where").to_owned();
                return Ok(Server { child, lines, said: output, address });
            }
            output.push_str(&line);
            output.push('\n');
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
        }
        Err(Refused { status: child.wait().expect("it has ended"), output })
    }

    /// The first log line with `text` in it, whether it came before the member served or is still to come.
    pub(crate) fn line(&self, text: &str) -> String {
        let early = self.said.lines().find(|line| line.contains(text)).map(str::to_owned);
        early.unwrap_or_else(|| self.wait_for_line(text))
    }

    /// Waits for a log line with `text` in it, which comes after the member serves.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|e| panic!("no line with {text:?}: {e}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Sends a signal and waits for the end; the lines that were not read yet come along.
    pub(crate) fn stop(mut self, signal: rustix::process::Signal) -> (ExitStatus, Vec<String>) {
        rustix::process::kill_process(self.pid(), signal).expect("it lives");
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        // Its log ends with it.
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {lines:?}"),
            }
        }
        (self.child.wait().expect("it ends"), lines)
    }

    /// Status, head and body of one HTTP/1.1 request.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not 0");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head") + 4;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head, answer.split_off(end))
    }

    /// Sends a body; status and body of the answer.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let head = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let (status, _, body) = self.http(method, path, &head);
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.http("GET", path, "");
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
