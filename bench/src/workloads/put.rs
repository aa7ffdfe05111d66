//! Single puts.

use std::time::Instant;

use stanchion_api::etcdserverpb::{PutRequest, PutResponse};

use super::{Common, Data, DataArgs};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::keys::Order;
use crate::wire::{Connection, Method};

/// Flags of `load put`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// Each operation puts one key.
pub(crate) struct Put {
    data: Data,
}

impl PutArgs {
    pub(crate) fn workload(&self, common: &Common) -> Put {
        Put { data: self.data.data(common) }
    }
}

impl Put {
    /// Ten thousand keys in random order.
    pub(crate) fn of_size(common: &Common, value_size: usize) -> Put {
        let data = DataArgs { keys: 10_000, order: Order::Random, value_size };
        Put { data: data.data(common) }
    }
}

impl Workload for Put {
    type Client = Connection;

    fn kinds(&self) -> Vec<&'static str> {
        vec!["put"]
    }

    async fn prepare(&self, _cluster: &Cluster) -> Result<(), Failure> {
        Ok(())
    }

    async fn client(&self, _thread: &Thread, connection: &Connection) -> Result<Connection, Failure> {
        Ok(connection.clone())
    }

    async fn operate(
        &self,
        thread: &Thread,
        client: &mut Connection,
        _due: Instant,
    ) -> Result<usize, Failure> {
        put(thread, client, &self.data).await?;
        Ok(0)
    }
}

/// Puts the next key.
pub(super) async fn put(thread: &Thread, client: &Connection, data: &Data) -> Result<(), Failure> {
    let (key, value) = data.draw(thread);
    let question = PutRequest { key, value, ..Default::default() };
    client.unary::<PutResponse>(Method::Put, &question).await.map(|_| ())
}
