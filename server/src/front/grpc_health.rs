//! gRPC's standard health service: one service without a name, which serves as soon as the port does. Leader loss and
//! alarms are no business of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as _;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::HealthService;

use super::door::Call;
use super::{Front, Outbound, Raw};
use crate::member::Encoded;
use crate::refusal::Refusal;

/// A request for the health of all services.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct HealthListRequest {}

/// The health of all services by name.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthListResponse {
    /// The status of each service.
    #[prost(btree_map = "string, message", tag = "1")]
    pub statuses: BTreeMap<String, HealthCheckResponse>,
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn service(front: &Front) -> HealthService {
    HealthService::from_health_reporter(front.health.clone())
}

pub(super) async fn check(
    front: Arc<Front>,
    _: Call,
    request: Raw<HealthCheckRequest>,
) -> Result<Encoded<HealthCheckResponse>, Refusal> {
    match service(&front).check(Request::new(request.message)).await {
        Ok(answer) => Ok(answer.into_inner().into()),
        Err(_) => Err(Refusal::fixed(Code::NotFound, "unknown service")),
    }
}

pub(super) async fn list(
    front: Arc<Front>,
    _: Call,
    _: Raw<HealthListRequest>,
) -> Result<Encoded<HealthListResponse>, Refusal> {
    let all = Request::new(HealthCheckRequest::default());
    let status = service(&front).check(all).await.map_err(Refusal::unknown)?;
    Ok(HealthListResponse { statuses: BTreeMap::from([(String::new(), status.into_inner())]) }.into())
}

/// The status now and each later one; of a service that nobody knows, that it is unknown and then nothing.
pub(super) async fn watch(
    front: Arc<Front>,
    _: Call,
    request: Raw<HealthCheckRequest>,
) -> Result<Outbound<HealthCheckResponse>, Refusal> {
    match service(&front).watch(Request::new(request.message)).await {
        Ok(stream) => Ok(Box::pin(stream.into_inner().map(|answer| answer.map(Encoded::from)))),
        Err(_) => {
            let first = tokio_stream::once(Ok(answer(ServingStatus::ServiceUnknown).into()));
            Ok(Box::pin(first.chain(tokio_stream::pending())))
        }
    }
}
