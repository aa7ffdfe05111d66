//! Questions to other members that are not raft's: who is in the cluster, which release runs, leases, hashes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use prost::Message as _;
use stanchion_api::{etcdserverpb as pb, leasepb};
use tokio::time::timeout;

use crate::client::{Connection, Waits, Whole, full, read_whole, timed_out};
use crate::handler::{HashKv, MemberInfo, VersionInfo};
use crate::identity::CLUSTER_ID;
use crate::idle::Idle;
use crate::serve::{HashAnswer, parse_members};
use crate::url::{PeerUrl, PeerUrlError};

/// Largest answer in bytes; the keys of a lease can be many.
const ANSWER_LIMIT: usize = 100 << 20;

/// The one question that changes something each time it is asked.
const PROMOTE: &str = "/members/promote/";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL cannot be dialled.
    #[error(transparent)]
    Url(#[from] PeerUrlError),
    /// The member was not reached, or not in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The member refuses.
    #[error("refused with {status}: {text}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The reason, cut after 256 bytes.
        text: String,
    },
    /// The answer is not what was asked for.
    #[error("the answer to {path} cannot be read: {what}")]
    Garbled {
        /// What was asked.
        path: &'static str,
        /// What is wrong.
        what: String,
    },
}

/// Asks other members, with a limit on the time of each question. Clones share their idle connections.
#[derive(Clone, Debug)]
pub struct Asker {
    limit: Duration,
    idle: Arc<Idle>,
}

impl Asker {
    /// Questions take `limit` at most, dialling included.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, idle: Arc::default() }
    }

    /// The same with another limit.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, idle: self.idle.clone() }
    }

    /// The members that the one at `url` knows, and its cluster's id.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn members(&self, url: &str) -> Result<(u64, Vec<MemberInfo>), AskError> {
        const PATH: &str = "/members";
        let whole = self.ask(url, Method::GET, PATH, PATH, None, HeaderMap::new()).await?;
        let cluster = whole.headers.get(CLUSTER_ID).and_then(|id| id.to_str().ok());
        let cluster = cluster.and_then(|id| u64::from_str_radix(id, 16).ok());
        let cluster = cluster.ok_or(AskError::Garbled { path: PATH, what: "no cluster ID".to_owned() })?;
        let members =
            parse_members(&whole.body).map_err(|e| AskError::Garbled { path: PATH, what: e.to_string() })?;
        Ok((cluster, members))
    }

    /// The versions of the member at `url`.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn version(&self, url: &str) -> Result<VersionInfo, AskError> {
        const PATH: &str = "/version";
        let whole = self.ask(url, Method::GET, PATH, PATH, None, HeaderMap::new()).await?;
        serde_json::from_slice(&whole.body).map_err(|e| AskError::Garbled { path: PATH, what: e.to_string() })
    }

    /// Whether a downgrade is under way.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn downgrade_enabled(&self, url: &str) -> Result<bool, AskError> {
        const PATH: &str = "/downgrade/enabled";
        let whole = self.ask(url, Method::GET, PATH, PATH, None, HeaderMap::new()).await?;
        whole.text().parse().map_err(|_| AskError::Garbled { path: PATH, what: whole.text() })
    }

    /// Renews a lease at the leader; its granted TTL in seconds. An unknown lease is a refusal with 404.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn renew_lease(&self, url: &str, lease_id: i64) -> Result<i64, AskError> {
        const PATH: &str = "/leases";
        let request = pb::LeaseKeepAliveRequest { id: lease_id };
        let whole = self.ask_protobuf(url, PATH, &request).await?;
        let answer = pb::LeaseKeepAliveResponse::decode(whole.body)
            .map_err(|e| AskError::Garbled { path: PATH, what: e.to_string() })?;
        if answer.id == lease_id {
            Ok(answer.ttl)
        } else {
            Err(AskError::Garbled { path: PATH, what: format!("it is about lease {:x}", answer.id) })
        }
    }

    /// Looks a lease up at the leader. An unknown lease is a refusal with 404.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn lease_time_to_live(
        &self,
        url: &str,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, AskError> {
        const PATH: &str = "/leases/internal";
        let request = leasepb::LeaseInternalRequest { lease_time_to_live_request: Some(request) };
        let whole = self.ask_protobuf(url, PATH, &request).await?;
        let answer = leasepb::LeaseInternalResponse::decode(whole.body)
            .map_err(|e| AskError::Garbled { path: PATH, what: e.to_string() })?;
        let found = answer.lease_time_to_live_response;
        found.ok_or(AskError::Garbled { path: PATH, what: "it is empty".to_owned() })
    }

    /// Promotes a learner at the leader; all members afterwards.
    ///
    /// # Errors
    /// [`AskError`]; the refusals' texts are those of [`PromoteError`](crate::PromoteError).
    pub async fn promote(
        &self,
        url: &str,
        member_id: u64,
        token: Option<&str>,
    ) -> Result<Vec<MemberInfo>, AskError> {
        const PATH: &str = PROMOTE;
        let mut headers = HeaderMap::new();
        if let Some(token) = token.and_then(|token| HeaderValue::from_str(token).ok()) {
            headers.insert(http::header::AUTHORIZATION, token);
        }
        let path = format!("{PATH}{member_id}");
        let whole = self.ask(url, Method::POST, PATH, &path, Some(Bytes::new()), headers).await?;
        parse_members(&whole.body).map_err(|e| AskError::Garbled { path: PATH, what: e.to_string() })
    }

    /// The hash of a member's keys up to `revision`; 0 is its current one.
    ///
    /// # Errors
    /// [`AskError`]; the refusals' texts are those of [`HashError`](crate::HashError).
    pub async fn hash_kv(&self, url: &str, cluster_id: u64, revision: i64) -> Result<HashKv, AskError> {
        const PATH: &str = "/members/hashkv";
        let mut headers = HeaderMap::new();
        if let Ok(cluster) = HeaderValue::from_str(&format!("{cluster_id:x}")) {
            headers.insert(CLUSTER_ID, cluster);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from(format!("{{\"revision\":{revision}}}"));
        let whole = self.ask(url, Method::GET, PATH, PATH, Some(body), headers).await?;
        let answer: HashAnswer = serde_json::from_slice(&whole.body)
            .map_err(|e| AskError::Garbled { path: PATH, what: e.to_string() })?;
        Ok(HashKv {
            header_revision: answer.header.revision,
            hash: answer.hash,
            compact_revision: answer.compact_revision,
            hash_revision: answer.hash_revision,
        })
    }

    async fn ask_protobuf(
        &self,
        url: &str,
        path: &'static str,
        message: &impl prost::Message,
    ) -> Result<Whole, AskError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/protobuf"));
        self.ask(url, Method::POST, path, path, Some(message.encode_to_vec().into()), headers).await
    }

    /// `kind` names the question in errors, `path` is asked.
    async fn ask(
        &self,
        url: &str,
        method: Method,
        kind: &'static str,
        path: &str,
        body: Option<Bytes>,
        headers: HeaderMap,
    ) -> Result<Whole, AskError> {
        let question = Question { method, path, headers, body: body.unwrap_or_default() };
        let asked = timeout(self.limit, self.ask_somehow(url, kind, &question)).await;
        let whole = asked.map_err(|_| timed_out(kind))??;
        if whole.status == StatusCode::OK {
            Ok(whole)
        } else {
            Err(AskError::Refused { status: whole.status, text: whole.text() })
        }
    }
    /// On a connection that is there, or on a new one. The other end may just have closed what was kept: then the question
    /// is put again, unless it could be taken for a second one.
    async fn ask_somehow(
        &self,
        url: &str,
        kind: &'static str,
        question: &Question<'_>,
    ) -> Result<Whole, AskError> {
        if kind != PROMOTE
            && let Some(kept) = self.idle.take(url)
            && let Ok(whole) = self.ask_on(kept, url, question).await
        {
            return Ok(whole);
        }
        let target: PeerUrl = url.parse()?;
        let waits = Waits { dial: self.limit, write: self.limit };
        let connection = Connection::open(&target, waits).await?;
        Ok(self.ask_on(connection, url, question).await?)
    }

    async fn ask_on(
        &self,
        mut connection: Connection,
        url: &str,
        question: &Question<'_>,
    ) -> io::Result<Whole> {
        let Question { method, path, headers, body } = question;
        let response = connection.send(method.clone(), path, headers.clone(), full(body.clone())).await?;
        let whole = read_whole(response, ANSWER_LIMIT).await?;
        self.idle.put(url, connection);
        Ok(whole)
    }
}

/// What is asked.
struct Question<'a> {
    method: Method,
    path: &'a str,
    headers: HeaderMap,
    body: Bytes,
}
