//! Transactions: one put, compare-and-swap, many operations.

use std::time::Instant;

use bytes::Bytes;
use stanchion_api::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest, TxnResponse, compare, request_op, response_op,
};

use super::{Common, Data, DataArgs};
use crate::cluster::{Cluster, put_operation};
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::wire::{Connection, Method};

/// The kinds, by their place.
const DONE: usize = 0;
const LOST: usize = 1;

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// One put, no comparison.
    Put,
    /// Puts if the key is as it was last seen, else reads it. Clients share keys if there are fewer keys than clients.
    Cas,
    /// As many puts and reads in turn as --txn-operations says.
    Multi,
}

/// Flags of `load txn`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TxnArgs {
    #[command(flatten)]
    data: DataArgs,
    /// What a transaction does
    #[arg(long, value_enum, default_value_t = Shape::Cas)]
    shape: Shape,
    /// Operations in a transaction of many, up to etcd's default limit
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=128))]
    txn_operations: u32,
}

/// Each operation is one transaction.
pub(crate) struct Txn {
    data: Data,
    args: TxnArgs,
}

impl TxnArgs {
    pub(crate) fn workload(&self, common: &Common) -> Txn {
        Txn { data: self.data.data(common), args: self.clone() }
    }
}

/// A client with a key of its own, and the revision at which it saw it last.
pub(crate) struct Swapper {
    connection: Connection,
    key: Bytes,
    mod_revision: i64,
}

impl Txn {
    /// One transaction of puts and reads on random keys.
    fn unconditional(&self, thread: &Thread) -> TxnRequest {
        let count = if self.args.shape == Shape::Put { 1 } else { self.args.txn_operations };
        let mut operations: Vec<RequestOp> = Vec::new();
        let mut put = Vec::new();
        for at in 0..count {
            let (key, value) = self.data.draw(thread);
            // A key may be put only once in a transaction.
            if at % 2 == 1 || put.contains(&key) {
                operations.push(get(key));
            } else {
                put.push(key.clone());
                operations.push(put_operation(key, value));
            }
        }
        TxnRequest { success: operations, ..Default::default() }
    }
}

/// A read as a part of a transaction.
pub(super) fn get(key: Bytes) -> RequestOp {
    let range = RangeRequest { key, ..Default::default() };
    RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

/// "The key was changed last at this revision"; 0 is "it is not there".
pub(super) fn unchanged_since(key: Bytes, mod_revision: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key,
        target_union: Some(compare::TargetUnion::ModRevision(mod_revision)),
        ..Default::default()
    }
}

/// Puts `value` if the key is still what it was at `mod_revision`: whether it was, and its revision now.
pub(super) async fn compare_and_swap(
    connection: &Connection,
    key: &Bytes,
    value: Bytes,
    mod_revision: i64,
) -> Result<(bool, i64), Failure> {
    let txn = TxnRequest {
        compare: vec![unchanged_since(key.clone(), mod_revision)],
        success: vec![put_operation(key.clone(), value)],
        failure: vec![get(key.clone())],
    };
    let answer: TxnResponse = connection.unary(Method::Txn, &txn).await?;
    if answer.succeeded {
        return Ok((true, answer.header.map_or(0, |header| header.revision)));
    }
    let found = answer.responses.into_iter().next().and_then(|response| response.response);
    let Some(response_op::Response::ResponseRange(range)) = found else {
        let what = "a lost transaction without the read that it holds".to_owned();
        return Err(Failure::Foreign { endpoint: connection.endpoint().to_owned(), what });
    };
    Ok((false, range.kvs.first().map_or(0, |kv| kv.mod_revision)))
}

impl Workload for Txn {
    type Client = Swapper;

    fn kinds(&self) -> Vec<&'static str> {
        vec!["txn", "txn, lost"]
    }

    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure> {
        cluster.fill(&self.data.keys, &self.data.values).await.map(|_| ())
    }

    async fn client(&self, thread: &Thread, connection: &Connection) -> Result<Swapper, Failure> {
        let place = thread.next_client() % self.data.keys.count();
        Ok(Swapper { connection: connection.clone(), key: self.data.keys.at(place), mod_revision: 0 })
    }

    async fn operate(&self, thread: &Thread, client: &mut Swapper, _due: Instant) -> Result<usize, Failure> {
        if self.args.shape != Shape::Cas {
            let txn = self.unconditional(thread);
            client.connection.unary::<TxnResponse>(Method::Txn, &txn).await?;
            return Ok(DONE);
        }
        let (_, value) = self.data.draw(thread);
        let swapped = compare_and_swap(&client.connection, &client.key, value, client.mod_revision).await?;
        client.mod_revision = swapped.1;
        Ok(if swapped.0 { DONE } else { LOST })
    }
}
