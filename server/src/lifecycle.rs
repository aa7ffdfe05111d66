//! How the process begins and ends as its surroundings see it: signals, exit codes, the service manager.
//!
//! What may not live here: the order in which parts of the server stop.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The member was removed from its cluster.
    Removed,
}

impl Stop {
    /// The name in the line `received signal; shutting down`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminated",
            Self::Removed => "removed from the cluster",
        }
    }

    fn number(self) -> Option<i32> {
        match self {
            Self::Interrupt => Some(SignalKind::interrupt().as_raw_value()),
            Self::Terminate => Some(SignalKind::terminate().as_raw_value()),
            Self::Removed => None,
        }
    }

    /// Ends the process after an orderly stop: by the signal itself, so that the parent sees why (a shell shows 130
    /// or 143), or with 0 as process 1, to which the kernel does not deliver a default action. A removed member ends with 0.
    pub fn exit(self) -> ! {
        let Some(number) = self.number().filter(|_| process::id() != 1) else { process::exit(0) };
        // Comes back only if the signal could not be raised.
        let _ = signal_hook::low_level::emulate_default_handler(number);
        process::exit(128 + number)
    }
}

/// The signals that a member heeds. SIGUSR1 is ignored; SIGHUP keeps its default action, which ends the process.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Held so that the signal does nothing.
    _user: Signal,
}

impl Signals {
    /// Takes over the signals. Needs a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// As the system.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for a request to stop. A second one while stopping is ignored, as etcd ignores it.
    pub async fn stop(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }
}

/// Tells the service manager that the member serves. Gives `false` if there is none to tell (`NOTIFY_SOCKET` is not
/// set), and then does nothing.
///
/// # Errors
/// The socket cannot be reached.
pub fn notify_ready() -> io::Result<bool> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(path) if !path.is_empty() => send(path.as_bytes(), b"READY=1").map(|()| true),
        _ => Ok(false),
    }
}

/// Sends one datagram; a name that begins with `@` is an abstract one.
fn send(name: &[u8], text: &[u8]) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let sent = UnixDatagram::unbound()?.send_to_addr(text, &address)?;
    if sent == text.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_reaches_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("stanchion-test-{}", process::id());
        let on_path = UnixDatagram::bind(&path).unwrap();
        let on_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        send(path.as_os_str().as_bytes(), b"READY=1").unwrap();
        send(format!("@{abstract_name}").as_bytes(), b"READY=1").unwrap();
        for socket in [on_path, on_name] {
            let mut text = [0; 16];
            let n = socket.recv(&mut text).unwrap();
            assert_eq!(&text[..n], b"READY=1");
        }
    }

    #[test]
    fn nobody_at_the_socket_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nobody");
        assert_eq!(
            send(path.as_os_str().as_bytes(), b"READY=1").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn signals_have_gos_names() {
        assert_eq!((Stop::Terminate.name(), Stop::Terminate.number()), ("terminated", Some(15)));
        assert_eq!((Stop::Interrupt.name(), Stop::Interrupt.number()), ("interrupt", Some(2)));
    }
}
