//! The other questions of peers: members, versions, leases, hashes.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use stanchion_api::{etcdserverpb as pb, leasepb};

use super::reply;
use crate::client::{Body, collect};
use crate::handler::{Endpoints, HashError, LeaseError, MemberInfo, PromoteError};
use crate::identity::CLUSTER_ID;
use crate::transport::Transport;

/// Largest request body.
const BODY_LIMIT: usize = 64 << 10;
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";

/// Answers a request whose method has been checked, except that of promotion.
pub(super) async fn answer(
    transport: &Transport,
    endpoints: &dyn Endpoints,
    path: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let identity = transport.identity();
    match path {
        "/version" => json(&endpoints.version(), ""),
        "/members" => reply::of_cluster(json(&endpoints.members(), "\n"), identity),
        "/downgrade/enabled" => reply::of_cluster(downgrade_enabled(endpoints).await, identity),
        "/members/hashkv" => {
            let own = identity.cluster_header();
            if request.headers().get(CLUSTER_ID).is_some_and(|cluster| cluster != own) {
                return reply::error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
            }
            let response = hash_kv(endpoints, request).await;
            let answered = response.status() == StatusCode::OK;
            if answered { reply::of_cluster(response, identity) } else { response }
        }
        "/leases" => renew_lease(endpoints, request).await,
        "/leases/internal" => lease_time_to_live(endpoints, request).await,
        _ => match path.strip_prefix("/members/promote/") {
            Some(_) if request.method() != Method::POST => reply::not_allowed(Some("POST")),
            Some(id) => reply::of_cluster(promote(endpoints, id, request.headers()).await, identity),
            None => reply::not_found(),
        },
    }
}

fn json(value: &impl serde::Serialize, end: &str) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(text) => reply::with_type(StatusCode::OK, JSON, text + end),
        Err(error) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn downgrade_enabled(endpoints: &dyn Endpoints) -> Response<Body> {
    match endpoints.downgrade_enabled().await {
        Ok(enabled) => reply::with_type(StatusCode::OK, "text/plain", enabled.to_string()),
        Err(why) => {
            reply::error(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed linearized read: {why}"))
        }
    }
}

async fn promote(endpoints: &dyn Endpoints, id: &str, headers: &HeaderMap) -> Response<Body> {
    let Ok(number) = id.parse::<u64>() else {
        let text = format!("member {id} not found in cluster");
        return reply::error(StatusCode::NOT_FOUND, &text);
    };
    let token = headers.get(header::AUTHORIZATION).and_then(|token| token.to_str().ok()).map(str::to_owned);
    match endpoints.promote(number, token).await {
        Ok(members) => json(&members, "\n"),
        Err(error @ PromoteError::NotFound) => reply::error(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error @ (PromoteError::NotALearner | PromoteError::NotReady)) => {
            reply::error(StatusCode::PRECONDITION_FAILED, &error.to_string())
        }
        Err(PromoteError::Timeout | PromoteError::Other(_)) => {
            let body = r#"{"message":"Internal Server Error"}"#;
            reply::with_type(StatusCode::INTERNAL_SERVER_ERROR, JSON, body)
        }
    }
}

#[derive(serde::Deserialize)]
struct HashRequest {
    #[serde(default)]
    revision: i64,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct HashAnswer {
    pub(crate) header: HashHeader,
    pub(crate) hash: u32,
    #[serde(default)]
    pub(crate) compact_revision: i64,
    #[serde(default)]
    pub(crate) hash_revision: i64,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct HashHeader {
    #[serde(default)]
    pub(crate) revision: i64,
}

async fn hash_kv(endpoints: &dyn Endpoints, request: Request<Incoming>) -> Response<Body> {
    let Ok(body) = collect(request.into_body(), BODY_LIMIT).await else {
        return reply::error(StatusCode::BAD_REQUEST, "error reading body");
    };
    let Ok(asked) = serde_json::from_slice::<HashRequest>(&body) else {
        return reply::error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    match endpoints.hash_kv(asked.revision).await {
        Ok(hash) => json(
            &HashAnswer {
                header: HashHeader { revision: hash.header_revision },
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.hash_revision,
            },
            "",
        ),
        Err(error @ (HashError::Compacted | HashError::Future)) => {
            reply::error(StatusCode::BAD_REQUEST, &error.to_string())
        }
        Err(error) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Reads and decodes the body of a question about a lease.
async fn lease_question<M: prost::Message + Default>(
    request: Request<Incoming>,
) -> Result<M, Response<Body>> {
    let body = match collect(request.into_body(), BODY_LIMIT).await {
        Ok(body) => body,
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            return Err(reply::error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"));
        }
        Err(_) => return Err(reply::error(StatusCode::BAD_REQUEST, "error reading body")),
    };
    M::decode(body).map_err(|_| reply::error(StatusCode::BAD_REQUEST, "error unmarshalling request"))
}

fn protobuf(message: &impl prost::Message) -> Response<Body> {
    reply::with_type(StatusCode::OK, PROTOBUF, Bytes::from(message.encode_to_vec()))
}

async fn renew_lease(endpoints: &dyn Endpoints, request: Request<Incoming>) -> Response<Body> {
    let asked = match lease_question::<pb::LeaseKeepAliveRequest>(request).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    match endpoints.renew_lease(asked.id).await {
        Ok(ttl) => protobuf(&pb::LeaseKeepAliveResponse { header: None, id: asked.id, ttl }),
        Err(error @ LeaseError::NotPrimary) => reply::error(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error) => lease_error(&error),
    }
}

async fn lease_time_to_live(endpoints: &dyn Endpoints, request: Request<Incoming>) -> Response<Body> {
    let asked = match lease_question::<leasepb::LeaseInternalRequest>(request).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let Some(question) = asked.lease_time_to_live_request else {
        return reply::error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    match endpoints.lease_time_to_live(question).await {
        Ok(mut found) => {
            found.header = Some(pb::ResponseHeader::default());
            protobuf(&leasepb::LeaseInternalResponse { lease_time_to_live_response: Some(found) })
        }
        Err(error) => lease_error(&error),
    }
}

fn lease_error(error: &LeaseError) -> Response<Body> {
    let status = match error {
        LeaseError::NotFound => StatusCode::NOT_FOUND,
        LeaseError::Behind => StatusCode::REQUEST_TIMEOUT,
        LeaseError::NotPrimary | LeaseError::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    reply::error(status, &error.to_string())
}

/// `/members` as an answer to others of this crate.
pub(crate) fn parse_members(body: &[u8]) -> serde_json::Result<Vec<MemberInfo>> {
    serde_json::from_slice(body)
}
