//! `stanchion demo-cluster`: three members on this machine, for a first look. Each is a process of its own, so that one
//! can be killed and seen to come back.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lifecycle::{Signals, Stop};

/// What the command is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demo {
    /// Below it each member has its directory and its log file.
    pub data_dir: PathBuf,
    /// Client port of the first member; the others have the ones behind it.
    pub client_port: u16,
    /// Peer port of the first member; the others have the ones behind it.
    pub peer_port: u16,
}

/// The names of the members.
const NAMES: [&str; 3] = ["s1", "s2", "s3"];
/// How the command is used.
pub const USAGE: &str = "\
Usage: stanchion demo-cluster [--data-dir DIR] [--client-port PORT] [--peer-port PORT]

Starts three members on this machine and waits; Ctrl-C ends them. What they hold stays in DIR and is taken up again.

  --data-dir DIR       where the members keep their data (default: demo-cluster)
  --client-port PORT   client port of the first member, the others have the next ones (default: 2379)
  --peer-port PORT     peer port of the first member, the others have the next ones (default: 12380)
";

impl Demo {
    /// Reads the arguments behind `demo-cluster`; nothing if help is wanted.
    ///
    /// # Errors
    /// Which argument is wrong.
    pub fn parse(args: &[String]) -> Result<Option<Demo>> {
        let mut demo = Demo { data_dir: "demo-cluster".into(), client_port: 2379, peer_port: 12380 };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (flag, value) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            if matches!(flag, "-h" | "--help") {
                return Ok(None);
            }
            let mut value = || {
                value
                    .clone()
                    .or_else(|| args.next().cloned())
                    .with_context(|| format!("{flag} needs a value"))
            };
            let port = |text: String| -> Result<u16> {
                let port = text.parse().with_context(|| format!("{flag}: {text} is no port"))?;
                if port > u16::MAX - 3 {
                    bail!("{flag}: {port} leaves no room for three ports")
                } else {
                    Ok(port)
                }
            };
            match flag {
                "--data-dir" => demo.data_dir = value()?.into(),
                "--client-port" => demo.client_port = port(value()?)?,
                "--peer-port" => demo.peer_port = port(value()?)?,
                _ => bail!("unknown flag {flag}\n\n{USAGE}"),
            }
        }
        Ok(Some(demo))
    }

    fn client(&self, place: u16) -> String {
        format!("http://127.0.0.1:{}", self.client_port + place)
    }

    fn peer(&self, place: u16) -> String {
        format!("http://127.0.0.1:{}", self.peer_port + place)
    }

    /// The flags of the member at `place`.
    fn flags(&self, place: u16) -> Vec<String> {
        let initial: Vec<String> =
            (0..).zip(NAMES).map(|(place, name)| format!("{name}={}", self.peer(place))).collect();
        let name = NAMES[usize::from(place)];
        let flags = [
            ("name", name.to_owned()),
            ("data-dir", self.data_dir.join(name).display().to_string()),
            ("listen-client-urls", self.client(place)),
            ("advertise-client-urls", self.client(place)),
            ("listen-peer-urls", self.peer(place)),
            ("initial-advertise-peer-urls", self.peer(place)),
            ("initial-cluster", initial.join(",")),
            ("initial-cluster-token", "demo-cluster".to_owned()),
        ];
        flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect()
    }
}

/// Starts the members of `program` and waits for a signal; then ends them.
///
/// # Errors
/// A member cannot be started, or ends by itself.
pub fn run(demo: &Demo, program: &Path) -> Result<Stop> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        let mut signals = Signals::install().context("signals cannot be handled")?;
        std::fs::create_dir_all(&demo.data_dir)
            .with_context(|| format!("{} cannot be made", demo.data_dir.display()))?;
        let mut members = Vec::new();
        for (place, name) in (0..).zip(NAMES) {
            let log = demo.data_dir.join(format!("{name}.log"));
            let to = std::fs::OpenOptions::new().create(true).append(true).open(&log);
            let to = to.with_context(|| format!("{} cannot be written", log.display()))?;
            let mut command = Command::new(program);
            command.args(demo.flags(place)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(to);
            // A signal from the keyboard goes to this process alone, which ends them one after another.
            command.process_group(0);
            let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
            members.push(Running { name, log, child });
        }
        greet(demo, &members);
        let stop = tokio::select! {
            stop = signals.stop() => stop,
            ended = all_ended(&mut members) => return Err(ended?),
        };
        for member in &mut members {
            member.end().await?;
        }
        Ok(stop)
    })
}

fn greet(demo: &Demo, members: &[Running]) {
    let clients: Vec<String> = (0..3).map(|place| demo.client(place)).collect();
    let mut text = format!("three members are starting; their data is in {}\n", demo.data_dir.display());
    for Running { name, log, child } in members {
        text.push_str(&format!("  {name}: process {}, log {}\n", child.id(), log.display()));
    }
    text.push_str(&format!("try: etcdctl --endpoints={} endpoint status -w table\n", clients.join(",")));
    // A terminal that is gone misses nothing else.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// How often members are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A member's process.
struct Running {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Running {
    /// Asks the member to end and waits for it.
    async fn end(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        if self.child.try_wait()?.is_none() {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .with_context(|| format!("{} cannot be ended", self.name))?;
        }
        while self.child.try_wait()?.is_none() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Running {
    /// Nobody is left behind; after an orderly end this finds nothing to do.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until all members have ended by themselves; one or two may be killed, to see what happens.
async fn all_ended(members: &mut [Running]) -> Result<anyhow::Error> {
    loop {
        let mut ended = Vec::new();
        for Running { name, log, child } in members.iter_mut() {
            if let Some(status) = child.try_wait()? {
                ended.push(format!("{name}: {status}, see {}", log.display()));
            }
        }
        if ended.len() == members.len() {
            return Ok(anyhow::anyhow!("all members have ended ({})", ended.join("; ")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Demo>> {
        Demo::parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_or_refused() {
        let demo = parse(&["--data-dir", "/x", "--client-port=4000"]).unwrap().unwrap();
        assert_eq!(demo, Demo { data_dir: "/x".into(), client_port: 4000, peer_port: 12380 });
        assert_eq!(parse(&["--help"]).unwrap(), None);
        for wrong in [&["--port"][..], &["--client-port"], &["--peer-port=x"], &["--peer-port=65535"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn members_name_each_other() {
        let flags = parse(&[]).unwrap().unwrap().flags(1);
        assert!(flags.contains(&"--name=s2".to_owned()));
        assert!(flags.contains(&"--listen-client-urls=http://127.0.0.1:2380".to_owned()));
        assert!(flags.contains(
            &"--initial-cluster=s1=http://127.0.0.1:12380,s2=http://127.0.0.1:12381,s3=http://127.0.0.1:12382"
                .to_owned()
        ));
    }
}
