//! Leases: granting, keeping alive, and how late they expire.

use std::time::{Duration, Instant};

use stanchion_api::etcdserverpb::watch_request::RequestUnion;
use stanchion_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest,
    PutResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use stanchion_api::mvccpb::event::EventType;

use super::{Common, wrong_answer};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::wire::{Connection, Method, Stream};

/// What is done with leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// Grants one after the other, and leaves them.
    Grant,
    /// Each client keeps one lease alive on a stream of its own, as fast as answers come.
    KeepAlive,
    /// Grants a lease, puts a key under it and waits until the key is gone: how late is it?
    Expire,
}

/// Flags of `load lease`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LeaseArgs {
    /// What is done with leases
    #[arg(long, value_enum, default_value_t = Shape::KeepAlive)]
    shape: Shape,
    /// Seconds that a lease lives; those that expire are best short
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    ttl: i64,
}

/// Each operation is a grant, a keep-alive or a whole life.
pub(crate) struct Lease {
    args: LeaseArgs,
    prefix: String,
}

impl LeaseArgs {
    pub(crate) fn workload(&self, common: &Common) -> Lease {
        Lease { args: self.clone(), prefix: format!("{}lease/", common.prefix) }
    }
}

/// A client; it has a stream and a lease if it keeps one alive.
pub(crate) struct Holder {
    connection: Connection,
    kept: Option<(Stream, i64)>,
    number: u64,
    lives: u64,
}

/// Grants a lease: its id and the seconds that the server gave it.
pub(super) async fn grant(connection: &Connection, ttl: i64) -> Result<(i64, i64), Failure> {
    let question = LeaseGrantRequest { ttl, id: 0 };
    let answer: LeaseGrantResponse = connection.unary(Method::LeaseGrant, &question).await?;
    Ok((answer.id, answer.ttl))
}

impl Lease {
    /// From the grant to the deletion of its key; records how late that was.
    async fn life(&self, thread: &Thread, client: &mut Holder, due: Instant) -> Result<(), Failure> {
        client.lives += 1;
        let key = bytes::Bytes::from(format!("{}{:06}/{}", self.prefix, client.number, client.lives));
        let mut watch = client.connection.stream(Method::Watch).await?;
        let create = WatchCreateRequest { key: key.clone(), ..Default::default() };
        watch.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }, false)?;
        watch.next::<WatchResponse>().await?;
        let (lease, ttl) = grant(&client.connection, self.args.ttl).await?;
        let granted = Instant::now();
        let put = PutRequest { key, lease, ..Default::default() };
        client.connection.unary::<PutResponse>(Method::Put, &put).await?;
        while let Some(response) = watch.next::<WatchResponse>().await? {
            if response.events.iter().any(|event| event.r#type() == EventType::Delete) {
                let lived = granted.elapsed();
                let life = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
                // The clock starts a little before the grant's answer is here.
                if lived + Duration::from_millis(100) < life {
                    return Err(wrong_answer(thread, format!("a lease of {ttl} s was gone after {lived:?}")));
                }
                thread.recorder.borrow_mut().took(1, due, lived.saturating_sub(life));
                return Ok(());
            }
        }
        Err(wrong_answer(thread, "a watch ended before its key was deleted".to_owned()))
    }
}

impl Workload for Lease {
    type Client = Holder;

    fn kinds(&self) -> Vec<&'static str> {
        match self.args.shape {
            Shape::Grant => vec!["grant"],
            Shape::KeepAlive => vec!["keep-alive"],
            Shape::Expire => vec!["life", "+ too late by"],
        }
    }

    async fn prepare(&self, _cluster: &Cluster) -> Result<(), Failure> {
        Ok(())
    }

    async fn client(&self, thread: &Thread, connection: &Connection) -> Result<Holder, Failure> {
        let kept = match self.args.shape {
            Shape::KeepAlive => {
                let (id, _) = grant(connection, self.args.ttl).await?;
                Some((connection.stream(Method::LeaseKeepAlive).await?, id))
            }
            Shape::Grant | Shape::Expire => None,
        };
        Ok(Holder { connection: connection.clone(), kept, number: thread.next_client(), lives: 0 })
    }

    async fn operate(&self, thread: &Thread, client: &mut Holder, due: Instant) -> Result<usize, Failure> {
        match (&mut client.kept, self.args.shape) {
            (Some((stream, id)), _) => {
                stream.send(&LeaseKeepAliveRequest { id: *id }, false)?;
                let answer = stream.next::<LeaseKeepAliveResponse>().await?;
                if answer.is_none_or(|answer| answer.ttl <= 0) {
                    return Err(wrong_answer(
                        thread,
                        format!("lease {id:x} is gone although it was kept alive"),
                    ));
                }
            }
            (None, Shape::Expire) => self.life(thread, client, due).await?,
            (None, _) => drop(grant(&client.connection, self.args.ttl).await?),
        }
        Ok(0)
    }
}
