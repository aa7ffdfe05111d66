//! Opening the doors: every configured URL becomes a listening socket, before the data directory is touched.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use stanchion_peer::{PeerListener, PeerUrl};

use crate::config::{Config, Endpoint};
use crate::front::{Listener, Offer};

/// Connections that wait to be accepted; the kernel has a limit of its own.
const BACKLOG: i32 = 4096;

/// A door that is open.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub listener: Listener,
    /// What it serves.
    pub offer: Offer,
    /// Where it is: with the port that the system chose, if none was asked for.
    pub address: String,
}

/// Binds every URL for clients. Must be called within a tokio runtime.
///
/// # Errors
/// Which URL cannot be bound, why, and what to do.
pub fn bind(config: &Config) -> Result<Vec<Bound>> {
    let separate = !config.listen_client_http_urls.is_empty();
    let client = if separate { Offer::Grpc } else { Offer::Everything };
    let wanted = config.listen_client_urls.iter().map(|url| (url, client, "--listen-client-urls"));
    let http =
        config.listen_client_http_urls.iter().map(|url| (url, Offer::Http, "--listen-client-http-urls"));
    let metrics = config.listen_metrics_urls.iter().map(|url| (url, Offer::Metrics, "--listen-metrics-urls"));
    let mut bound = Vec::new();
    for (url, offer, flag) in wanted.chain(http).chain(metrics) {
        let (listener, address) =
            listen(config, url).with_context(|| format!("cannot listen on {url} ({flag})"))?;
        bound.push(Bound { listener, offer, address });
    }
    Ok(bound)
}

/// Binds every URL for peers. They come in without TLS: a URL that asks for it is refused rather than served in the
/// clear, and so is a member that could not be dialled. Must be called within a tokio runtime.
///
/// # Errors
/// As [`bind`].
pub fn bind_for_peers(config: &Config) -> Result<Vec<PeerListener>> {
    let members = config.initial_cluster.split(',').filter_map(|item| item.split_once('='));
    for (name, url) in members {
        let parsed: Result<PeerUrl, _> = url.trim().parse();
        parsed.with_context(|| format!("--initial-cluster names member {}", name.trim()))?;
    }
    let bind_one = |url: &Endpoint| -> Result<PeerListener> {
        let (listener, address) = listen(config, url)?;
        tracing::info!(address, "listening for peer traffic insecurely; this is strongly discouraged!");
        Ok(match listener {
            Listener::Tcp(listener) => PeerListener::Tcp(listener),
            Listener::Unix(listener) => PeerListener::Unix(listener),
        })
    };
    let bound = config
        .listen_peer_urls
        .iter()
        .map(|url| bind_one(url).with_context(|| format!("cannot listen on {url} (--listen-peer-urls)")));
    bound.collect()
}

fn listen(config: &Config, url: &Endpoint) -> Result<(Listener, String)> {
    if url.is_tls() {
        bail!("TLS is not built yet");
    }
    if let Some(path) = url.socket_path() {
        return Ok((Listener::Unix(unix(Path::new(&path))?), path));
    }
    let (host, port) = url.host_and_port().context("no host and port")?;
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let port: u16 = port.parse().context("the port is no number")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = (host, port).to_socket_addrs()?.next().context("the host has no address")?;
    let listener = tcp(config, address).map_err(explained)?;
    let address = listener.local_addr()?.to_string();
    Ok((Listener::Tcp(tokio::net::TcpListener::from_std(listener)?), address))
}

fn tcp(config: &Config, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // As Go does: a port whose last connections are still dying may be taken again.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(config.socket_reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket file that nobody answers on was left behind by a process that was killed, and makes way.
fn unix(path: &Path) -> Result<tokio::net::UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(explained(io::ErrorKind::AddrInUse.into()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(explained)?;
    listener.set_nonblocking(true)?;
    Ok(tokio::net::UnixListener::from_std(listener)?)
}

/// What the system says, and what to do about it.
fn explained(error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process serves there: stop it (is an etcd running?), or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not: choose a port above 1023, or grant the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: give one of its own, or 0.0.0.0"
        }
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}; {advice}")
}
