//! gRPC: from a method's path to the function that serves it. Form and meaning of requests are checked elsewhere.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use stanchion_api::{etcdserverpb as pb, v3electionpb as el, v3lockpb as lk};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status};

use super::calls::{self, Payload, Route, ServeStream, ServeUnary};
use super::codec::RawCodec;
use super::message::{self, Answer};
use super::routes::{SERVICES, both_streams, server_streams, unary_methods};
use super::{
    Front, Inbound, Raw, auth, cluster, concurrency, downgrade, grpc_health, kv, lease, maintenance, watch,
};

type GrpcRequest = http::Request<Incoming>;
type GrpcResponse = http::Response<Answer>;

/// Serves one gRPC call.
pub(super) async fn serve(front: Arc<Front>, request: GrpcRequest) -> GrpcResponse {
    macro_rules! dispatch {
        ($args:tt; $($path:literal [$($route:literal)|+] $req:ty, $resp:ty, $learner:literal, $serve:expr;)*) => {
            dispatch_with!($args; $($path $req, $resp, $learner, $serve;)*)
        };
    }
    macro_rules! dispatch_with {
        (($how:ident); $($path:literal $req:ty, $resp:ty, $learner:literal, $serve:expr;)*) => {
            match request.uri().path() {
                $($path => {
                    let route = Route { path: $path, learner: $learner };
                    // Boxed: else every call would carry a future as large as the largest of them, and move it around.
                    return Box::pin($how::<$req, $resp>(front, request, route, |front, call, request| Box::pin($serve(front, call, request)))).await;
                })*
                _ => {}
            }
        };
    }
    unary_methods!(dispatch(unary));
    server_streams!(dispatch(server_stream));
    both_streams!(dispatch(both_stream));
    health_or_unknown(front, request).await
}

async fn health_or_unknown(front: Arc<Front>, request: GrpcRequest) -> GrpcResponse {
    let path = request.uri().path();
    let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') else {
        return refused(&Status::unimplemented(format!("malformed method name: {path:?}")));
    };
    if service == "grpc.health.v1.Health" {
        let route = |path| Route { path, learner: false };
        match method {
            "Check" => {
                let route = route("/grpc.health.v1.Health/Check");
                return unary(front, request, route, |front, call, request| {
                    Box::pin(grpc_health::check(front, call, request))
                })
                .await;
            }
            "List" => {
                let route = route("/grpc.health.v1.Health/List");
                return unary(front, request, route, |front, call, request| {
                    Box::pin(grpc_health::list(front, call, request))
                })
                .await;
            }
            "Watch" => {
                let route = route("/grpc.health.v1.Health/Watch");
                return server_stream(front, request, route, |front, call, request| {
                    Box::pin(grpc_health::watch(front, call, request))
                })
                .await;
            }
            _ => {}
        }
    }
    let text = if SERVICES.contains(&service) {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    };
    refused(&Status::unimplemented(text))
}

/// A call that ends with its headers.
fn refused(status: &Status) -> GrpcResponse {
    status.clone().into_http().map(Answer::Any)
}

fn grpc<Req: Payload, Resp: Payload>(front: &Front) -> Grpc<RawCodec<Req, Resp>> {
    Grpc::new(RawCodec::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(front.limits.max_message_bytes())
        .max_encoding_message_size(i32::MAX as usize)
}

async fn unary<Req: Payload, Resp: Payload>(
    front: Arc<Front>,
    request: GrpcRequest,
    route: Route,
    serve: ServeUnary<Req, Resp>,
) -> GrpcResponse {
    let limit = front.limits.max_message_bytes();
    let deadline = timeout_of(request.headers());
    let (head, body) = request.into_parts();
    let request = message::receive(body, &head.headers, limit).await.and_then(|bytes| {
        let decoded = Req::decode(bytes.clone());
        let message =
            decoded.map_err(|e| Status::internal(format!("grpc: error unmarshalling request: {e}")))?;
        Ok(Raw { message, bytes })
    });
    let answer = match request {
        Ok(request) => calls::unary(front, route, &head.headers, deadline, request, serve).await,
        Err(status) => Err(status),
    };
    match answer {
        Ok(answer) => message::answer(answer.into_bytes()),
        Err(status) => refused(&status),
    }
}

async fn server_stream<Req: Payload, Resp: Payload>(
    front: Arc<Front>,
    request: GrpcRequest,
    route: Route,
    serve: ServeStream<Raw<Req>, Resp>,
) -> GrpcResponse {
    let limit = front.limits.max_message_bytes();
    let mut grpc = grpc::<Req, Resp>(&front);
    let call = tower::service_fn(move |request: Request<Raw<Req>>| {
        let front = front.clone();
        async move {
            let (metadata, _, request) = request.into_parts();
            let metadata = metadata.into_headers();
            calls::server_stream(front, route, &metadata, request, serve).await.map(Response::new)
        }
    });
    too_large(grpc.server_streaming(call, request).await, limit).map(Answer::Any)
}

async fn both_stream<Req: Payload, Resp: Payload>(
    front: Arc<Front>,
    request: GrpcRequest,
    route: Route,
    serve: ServeStream<Inbound<Req>, Resp>,
) -> GrpcResponse {
    let mut grpc = grpc::<Req, Resp>(&front);
    let call = tower::service_fn(move |request: Request<tonic::Streaming<Raw<Req>>>| {
        let front = front.clone();
        async move {
            let (metadata, _, requests) = request.into_parts();
            let metadata = metadata.into_headers();
            calls::both_stream(front, route, &metadata, Box::pin(requests), serve).await.map(Response::new)
        }
    });
    grpc.streaming(call, request).await.map(Answer::Any)
}

/// The deadline that `grpc-timeout` sets; a malformed one counts as none.
fn timeout_of(headers: &http::HeaderMap) -> Option<Duration> {
    parse_timeout(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// An integer and its unit, one of H M S m u n.
pub(super) fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?.parse::<u64>().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number.checked_mul(3600)?),
        'M' => Duration::from_secs(number.checked_mul(60)?),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Says in gRPC's own words that a request was over the receive limit; tonic has other words and another code.
fn too_large(response: http::Response<Body>, limit: usize) -> http::Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let found = status.message().strip_prefix("Error, decoded message length too large: found ");
    match found.and_then(|rest| rest.split_once(' ')?.0.parse().ok()) {
        Some(size) if status.code() == Code::OutOfRange => message::too_large(size, limit).into_http(),
        _ => response,
    }
}
