//! A server that does nothing: etcd's KV service on tonic, with answers made of nothing. Its rate and its CPU are what the
//! machine, the kernel and gRPC leave to any server, measured with the same client.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use stanchion_api::etcdserverpb::kv_server::{Kv, KvServer};
use stanchion_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use stanchion_api::mvccpb::KeyValue;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::error::Failure;

/// The name of the subcommand that serves.
pub(crate) const SUBCOMMAND: &str = "echo-server";

/// Answers at once.
struct Echo {
    value: Bytes,
}

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: 1, member_id: 1, revision: 1, raft_term: 1 })
}

#[tonic::async_trait]
impl Kv for Echo {
    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let key = request.into_inner().key;
        let kv = KeyValue { key, value: self.value.clone(), version: 1, ..Default::default() };
        Ok(Response::new(RangeResponse { header: header(), kvs: vec![kv], count: 1, ..Default::default() }))
    }

    async fn put(&self, _request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(PutResponse { header: header(), ..Default::default() }))
    }

    async fn delete_range(
        &self,
        _request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("an echo deletes nothing"))
    }

    async fn txn(&self, _request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Ok(Response::new(TxnResponse { header: header(), succeeded: true, ..Default::default() }))
    }

    async fn compact(
        &self,
        _request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::unimplemented("an echo has no history"))
    }

    async fn range_stream(
        &self,
        _request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("an echo has no keys"))
    }
}

/// Serves on a free port with one thread until the process is ended; the first line of `out` is the address.
pub(crate) fn serve(value_size: usize, out: &mut impl std::io::Write) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::local("the echo server", &error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        writeln!(out, "{}", listener.local_addr().map_err(failed)?).map_err(failed)?;
        out.flush().map_err(failed)?;
        tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(KvServer::new(Echo { value: Bytes::from(vec![b'e'; value_size]) }))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .map_err(|error| Failure::Local { what: "the echo server".to_owned(), reason: error.to_string() })
    })
}

/// An echo server in a process of its own, so that its CPU time can be told from the client's; it ends with this.
pub(crate) struct EchoProcess {
    child: Child,
    pub(crate) endpoint: String,
}

impl EchoProcess {
    pub(crate) fn start(value_size: usize) -> Result<EchoProcess, Failure> {
        let failed = |error: std::io::Error| Failure::local("starting the echo server", &error);
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg(SUBCOMMAND)
            .arg(format!("--value-size={value_size}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line);
        let echo = EchoProcess { child, endpoint: line.trim().to_owned() };
        read.map_err(failed)?;
        if echo.endpoint.is_empty() {
            return Err(Failure::Local {
                what: "the echo server".to_owned(),
                reason: "it did not start".to_owned(),
            });
        }
        Ok(echo)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
