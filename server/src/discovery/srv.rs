//! DNS SRV discovery: `_etcd-server-ssl._tcp.DOMAIN` and `_etcd-server._tcp.DOMAIN` name the founders.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use stanchion_peer::PeerUrl;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The domain.
    pub domain: &'a str,
    /// What `--discovery-srv-name` adds to the services' names; may be empty.
    pub service_suffix: &'a str,
    /// The name of the member that asks.
    pub name: &'a str,
    /// Its advertised peer URLs.
    pub advertised: &'a [String],
}

/// Why the founders are not known.
#[derive(Debug, thiserror::Error)]
pub enum SrvError {
    /// The resolver has no configuration.
    #[error("the DNS resolver cannot be set up: {0}")]
    Resolver(#[source] NetError),
    /// One of our own URLs leads nowhere.
    #[error("the advertised peer URL {url} cannot be resolved: {source}")]
    Advertised {
        /// The URL.
        url: String,
        /// Why.
        source: NetError,
    },
    /// No service has a usable record.
    #[error("error setting up initial cluster: {}", .0.join("; "))]
    NoRecords(Vec<String>),
    /// This member is not among them.
    #[error("error setting up initial cluster: cannot find local etcd member {name:?} in SRV records")]
    NotAmong {
        /// Its name.
        name: String,
    },
}

/// The resolver that the system's configuration describes.
///
/// # Errors
/// [`SrvError::Resolver`].
pub fn system_resolver() -> Result<TokioResolver, SrvError> {
    TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(SrvError::Resolver)
}

/// `name=url` of every founder. The own one is known by its address and gets the own name, the others are numbered: names
/// of others mean nothing.
///
/// # Errors
/// [`SrvError`].
pub async fn find(resolver: &TokioResolver, wanted: &Wanted<'_>) -> Result<Vec<String>, SrvError> {
    let mut own = BTreeMap::new();
    for url in wanted.advertised {
        let failed = |source| SrvError::Advertised { url: url.clone(), source };
        // Unix sockets have no records.
        if let Ok(parsed) = url.parse::<PeerUrl>()
            && let Some((host, port)) = host_and_port(&parsed.authority())
        {
            own.insert(address(resolver, host, port).await.map_err(failed)?, url.as_str());
        }
    }
    let suffix = match wanted.service_suffix {
        "" => String::new(),
        suffix => format!("-{suffix}"),
    };
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let service = format!("{service}{suffix}");
        match of_service(resolver, wanted, &service, scheme, &own).await {
            Ok(entries) => found.extend(entries),
            Err(error) => errors.push(format!("error querying DNS SRV records for _{service} {error}")),
        }
    }
    if found.is_empty() {
        return Err(SrvError::NoRecords(errors));
    }
    for error in errors {
        tracing::warn!(error, "failed to resolve during SRV discovery");
    }
    let own_entry = format!("{}=", wanted.name);
    if !found.iter().any(|entry| entry.starts_with(&own_entry)) {
        return Err(SrvError::NotAmong { name: wanted.name.to_owned() });
    }
    Ok(found)
}

/// The founders that one service names.
async fn of_service(
    resolver: &TokioResolver,
    wanted: &Wanted<'_>,
    service: &str,
    scheme: &str,
    own: &BTreeMap<SocketAddr, &str>,
) -> Result<Vec<String>, String> {
    let name = format!("_{service}._tcp.{}.", wanted.domain.trim_end_matches('.'));
    let answer = resolver.lookup(name, RecordType::SRV).await.map_err(|error| error.to_string())?;
    let mut records: Vec<_> = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((srv.priority, srv.target.to_ascii(), srv.port)),
            _ => None,
        })
        .collect();
    // Servers turn their answers round; everybody should number the others alike.
    records.sort();
    let (mut entries, mut unusable) = (Vec::new(), None);
    let mut number = 0;
    for (_, target, port) in records {
        let address = match address(resolver, &target, port).await {
            Ok(address) => address,
            Err(error) => {
                unusable = Some(format!("{target}: {error}"));
                continue;
            }
        };
        let host = target.trim_end_matches('.');
        let url = format!("{scheme}://{host}:{port}");
        match own.get(&address) {
            Some(expected) if !expected.starts_with(&format!("{scheme}://")) => {
                unusable = Some(format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {expected}"
                ));
            }
            Some(_) => entries.push(format!("{}={url}", wanted.name)),
            None => {
                entries.push(format!("{number}={url}"));
                number += 1;
            }
        }
    }
    match unusable {
        Some(error) if entries.is_empty() => Err(error),
        Some(error) => {
            tracing::warn!(service, error, "an SRV record cannot be used");
            Ok(entries)
        }
        None => Ok(entries),
    }
}

fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

/// The first address of a host, v4 before v6, as Go's resolver prefers it.
async fn address(resolver: &TokioResolver, host: &str, port: u16) -> Result<SocketAddr, NetError> {
    let found = resolver.lookup_ip(host).await?;
    let ip = found.iter().min_by_key(|ip| (ip.is_ipv6(), *ip));
    ip.map(|ip| SocketAddr::new(ip, port)).ok_or_else(|| NetError::from("the host has no address"))
}
