//! v3 discovery: founders meet in a registry, which is another etcd cluster. Each writes its own entry and waits until as
//! many are there as the operator has said beforehand; those that came first are the founders.

use std::time::Duration;

use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::auth_client::AuthClient;
use stanchion_api::etcdserverpb::kv_client::KvClient;
use stanchion_api::etcdserverpb::watch_client::WatchClient;
use stanchion_api::mvccpb;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// The first pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(256);

/// Where the registry is, and which entry in it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Client URLs of the registry.
    pub endpoints: Vec<String>,
    /// The name of the cluster in the registry, used once.
    pub token: String,
    /// Longest wait for a connection.
    pub dial_timeout: Duration,
    /// Longest wait for an answer.
    pub request_timeout: Duration,
    /// Period and patience of pings.
    pub keepalive: (Duration, Duration),
    /// Name and password, if the registry asks for them.
    pub user: Option<(String, String)>,
}

/// Why a member does not become a founder.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A URL is none.
    #[error("discovery: the endpoint {endpoint:?} is no URL: {source}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The operator has not said how many founders there are.
    #[error("discovery: size key not found")]
    SizeNotFound,
    /// What the operator has said is no number above 0.
    #[error("discovery: size key is bad")]
    BadSize,
    /// Enough others came first.
    #[error("discovery: cluster is full")]
    Full,
}

/// One founder as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Founder {
    key: Vec<u8>,
    entry: String,
    since: i64,
}

impl Founder {
    fn of(pair: &mvccpb::KeyValue) -> Founder {
        Founder {
            key: pair.key.to_vec(),
            entry: String::from_utf8_lossy(&pair.value).into_owned(),
            since: pair.create_revision,
        }
    }
}

/// Who has come so far.
#[derive(Clone, Debug)]
struct Gathering {
    size: usize,
    /// By the order in which they came.
    founders: Vec<Founder>,
    revision: i64,
}

impl Gathering {
    /// A member is one of the first `size`, or still can be.
    fn has_room_for(&self, key: &[u8]) -> bool {
        self.founders.len() < self.size || self.founders[..self.size].iter().any(|f| f.key == key)
    }

    fn add(&mut self, founder: Founder) {
        if !self.founders.iter().any(|known| known.key == founder.key) {
            self.founders.push(founder);
        }
    }

    fn is_complete(&self) -> bool {
        self.founders.len() >= self.size
    }

    fn initial_cluster(&self) -> String {
        let first = self.founders.iter().take(self.size);
        first.map(|founder| founder.entry.as_str()).collect::<Vec<_>>().join(",")
    }
}

/// What a question ended with.
enum Trouble {
    /// Nobody answers, or not in time: the question is asked again.
    Passing(Status),
    /// It cannot become better.
    Lasting(RegistryError),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Trouble {
        Trouble::Passing(status)
    }
}

/// Registers this member and waits for the others; the list of founders as `--initial-cluster` would give it.
///
/// # Errors
/// [`RegistryError`]. A registry that does not answer is asked again, for ever.
pub async fn join(discovery: &Discovery, member_id: u64, own: &str) -> Result<String, RegistryError> {
    let registry = Registry::new(discovery)?;
    let key = format!("{}{member_id:x}", registry.members).into_bytes();
    registry.persist("checking the cluster", async || registry.check(&key).await).await?;
    registry.persist("registering this member", async || registry.register(&key, own).await).await?;
    tracing::info!("register member itself successfully");
    let list = registry.persist("waiting for the others", async || registry.wait(&key).await).await?;
    tracing::info!(initial_cluster = list, "discovery joined cluster successfully");
    Ok(list)
}

struct Registry<'a> {
    channel: Channel,
    discovery: &'a Discovery,
    size: String,
    members: String,
}

impl Registry<'_> {
    fn new(discovery: &Discovery) -> Result<Registry<'_>, RegistryError> {
        let mut endpoints = Vec::new();
        for endpoint in &discovery.endpoints {
            // A host and port alone is what etcd's client takes too.
            let url = if endpoint.contains("://") { endpoint.clone() } else { format!("http://{endpoint}") };
            let parsed = Endpoint::from_shared(url)
                .map_err(|source| RegistryError::Endpoint { endpoint: endpoint.clone(), source })?;
            let (every, patience) = discovery.keepalive;
            endpoints.push(
                parsed
                    .connect_timeout(discovery.dial_timeout)
                    .http2_keep_alive_interval(every)
                    .keep_alive_timeout(patience),
            );
        }
        let root = format!("/_etcd/registry/{}/", discovery.token);
        Ok(Registry {
            channel: Channel::balance_list(endpoints.into_iter()),
            discovery,
            size: format!("{root}_config/size"),
            members: format!("{root}members/"),
        })
    }

    /// Asks until there is an answer, with pauses that grow.
    async fn persist<T>(
        &self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Result<T, Trouble>,
    ) -> Result<T, RegistryError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(status)) => {
                    tracing::warn!(error = %status, ?pause, "failed {what}; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// A request with the caller's token, if the registry wants one.
    async fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some((name, password)) = &self.discovery.user {
            let asked = pb::AuthenticateRequest { name: name.clone(), password: password.clone() };
            let answer = self.in_time(AuthClient::new(self.channel.clone()).authenticate(asked)).await?;
            let token: MetadataValue<_> =
                answer.into_inner().token.parse().map_err(|_| Status::internal("the token is no text"))?;
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let answered = tokio::time::timeout(self.discovery.request_timeout, answer).await;
        answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("the discovery service did not answer")))
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        let request = self.request(request).await?;
        Ok(self.in_time(KvClient::new(self.channel.clone()).range(request)).await?.into_inner())
    }

    async fn gathering(&self) -> Result<Gathering, Trouble> {
        let asked = pb::RangeRequest { key: self.size.clone().into(), ..Default::default() };
        let found = self.range(asked).await?;
        let size = found.kvs.first().ok_or(Trouble::Lasting(RegistryError::SizeNotFound))?;
        let size = std::str::from_utf8(&size.value).ok().and_then(|text| text.parse::<usize>().ok());
        let size = size.filter(|size| *size > 0).ok_or(Trouble::Lasting(RegistryError::BadSize))?;
        let asked = pb::RangeRequest {
            key: self.members.clone().into(),
            range_end: end_of(&self.members).into(),
            ..Default::default()
        };
        let found = self.range(asked).await?;
        let mut founders: Vec<Founder> = found.kvs.iter().map(Founder::of).collect();
        founders.sort_by_key(|founder| founder.since);
        Ok(Gathering { size, founders, revision: found.header.map_or(0, |header| header.revision) })
    }

    async fn check(&self, key: &[u8]) -> Result<Gathering, Trouble> {
        let gathering = self.gathering().await?;
        if gathering.has_room_for(key) { Ok(gathering) } else { Err(Trouble::Lasting(RegistryError::Full)) }
    }

    async fn register(&self, key: &[u8], own: &str) -> Result<(), Trouble> {
        let put =
            pb::PutRequest { key: key.to_vec().into(), value: own.to_owned().into(), ..Default::default() };
        let request = self.request(put).await?;
        self.in_time(KvClient::new(self.channel.clone()).put(request)).await?;
        Ok(())
    }

    /// Follows the registry from what is there until the founders are complete.
    async fn wait(&self, key: &[u8]) -> Result<String, Trouble> {
        let mut gathering = self.check(key).await?;
        if gathering.is_complete() {
            return Ok(gathering.initial_cluster());
        }
        let create = pb::WatchCreateRequest {
            key: self.members.clone().into(),
            range_end: end_of(&self.members).into(),
            start_revision: gathering.revision + 1,
            ..Default::default()
        };
        let create = pb::watch_request::RequestUnion::CreateRequest(create);
        let first = tokio_stream::once(pb::WatchRequest { request_union: Some(create) });
        let requests = tokio_stream::StreamExt::chain(first, tokio_stream::pending());
        let request = self.request(requests).await?;
        let mut events = WatchClient::new(self.channel.clone()).watch(request).await?.into_inner();
        while !gathering.is_complete() {
            let response = events.message().await?;
            let response = response.filter(|response| !response.canceled);
            let response = response.ok_or_else(|| Status::unavailable("the watch has ended"))?;
            for pair in response.events.iter().filter_map(|event| event.kv.as_ref()) {
                tracing::info!(peer = %String::from_utf8_lossy(&pair.value), "found peer from discovery service");
                gathering.add(Founder::of(pair));
            }
        }
        Ok(gathering.initial_cluster())
    }
}

/// The end of all keys that begin with `prefix`, whose last byte is a slash.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founder(n: u8) -> Founder {
        Founder { key: vec![n], entry: format!("m{n}=http://h{n}:1"), since: i64::from(n) }
    }

    #[test]
    fn who_comes_first_founds_and_the_rest_is_too_late() {
        let mut gathering = Gathering { size: 2, founders: vec![founder(1)], revision: 5 };
        assert!(gathering.has_room_for(&[2]) && !gathering.is_complete());
        gathering.add(founder(1));
        assert!(!gathering.is_complete(), "an entry that is written again is the same");
        gathering.add(founder(2));
        gathering.add(founder(3));
        assert!(gathering.is_complete());
        assert!(gathering.has_room_for(&[2]) && !gathering.has_room_for(&[3]));
        assert_eq!(gathering.initial_cluster(), "m1=http://h1:1,m2=http://h2:1");
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_of_it() {
        assert_eq!(end_of("a/"), b"a0");
    }
}
