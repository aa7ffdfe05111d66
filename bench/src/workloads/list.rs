//! Large lists: everything under the prefix, in one answer or by pages at the revision of the first.

use std::cell::Cell;
use std::time::Instant;

use bytes::Bytes;
use stanchion_api::etcdserverpb::{RangeRequest, RangeResponse};

use super::{Common, Data, DataArgs, wrong_answer};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::wire::{Connection, Method};

/// Flags of `load list`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Keys in a page; 0 is everything in one answer
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(i64).range(0..))]
    page: i64,
}

/// Each operation reads all keys.
pub(crate) struct List {
    data: Data,
    page: i64,
}

impl ListArgs {
    pub(crate) fn workload(&self, common: &Common) -> List {
        List { data: self.data.data(common), page: self.page }
    }
}

/// Reads all keys by pages of `page`, all at the revision of the first; counts the bytes of the answers' values.
pub(super) async fn pages(
    thread: &Thread,
    connection: &Connection,
    data: &Data,
    page: i64,
    bytes: &Cell<u64>,
) -> Result<(), Failure> {
    let mut from = data.keys.at(0);
    let (mut revision, mut seen) = (0, 0);
    loop {
        let question = RangeRequest {
            key: from,
            range_end: data.keys.end(),
            limit: page,
            revision,
            ..Default::default()
        };
        let answer: RangeResponse = connection.unary(Method::Range, &question).await?;
        revision = match (revision, answer.header) {
            (0, Some(header)) => header.revision,
            (revision, _) => revision,
        };
        seen += answer.kvs.len() as u64;
        bytes.update(|bytes| bytes + answer.kvs.iter().map(|kv| kv.value.len() as u64).sum::<u64>());
        match answer.kvs.last().filter(|_| answer.more) {
            // The first key behind the last one.
            Some(last) => from = Bytes::from([&last.key[..], &[0]].concat()),
            None if seen == data.keys.count() => return Ok(()),
            None => {
                return Err(wrong_answer(
                    thread,
                    format!("a list of {seen} keys where {} were put", data.keys.count()),
                ));
            }
        }
    }
}

impl Workload for List {
    type Client = Connection;

    fn kinds(&self) -> Vec<&'static str> {
        vec!["list"]
    }

    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure> {
        cluster.fill(&self.data.keys, &self.data.values).await.map(|_| ())
    }

    async fn client(&self, _thread: &Thread, connection: &Connection) -> Result<Connection, Failure> {
        Ok(connection.clone())
    }

    async fn operate(
        &self,
        thread: &Thread,
        client: &mut Connection,
        due: Instant,
    ) -> Result<usize, Failure> {
        let bytes = Cell::new(0);
        pages(thread, client, &self.data, self.page, &bytes).await?;
        thread.recorder.borrow_mut().add("bytes of values", due, bytes.get());
        Ok(0)
    }
}
