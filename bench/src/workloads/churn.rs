//! Churn: a connection for each operation.

use std::time::Instant;

use stanchion_api::etcdserverpb::RangeRequest;

use super::range::Summary;
use super::{Common, Data, DataArgs};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::wire::{Connection, Method};

/// Flags of `load churn`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// Each operation connects, reads a key and closes.
pub(crate) struct Churn {
    data: Data,
}

impl ChurnArgs {
    pub(crate) fn workload(&self, common: &Common) -> Churn {
        Churn { data: self.data.data(common) }
    }
}

impl Workload for Churn {
    /// The number of its next connection.
    type Client = usize;

    fn kinds(&self) -> Vec<&'static str> {
        vec!["connect and get", "+ connect"]
    }

    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure> {
        cluster.fill(&self.data.keys, &self.data.values).await.map(|_| ())
    }

    async fn client(&self, thread: &Thread, _connection: &Connection) -> Result<usize, Failure> {
        Ok(thread.next_client() as usize)
    }

    async fn operate(&self, thread: &Thread, client: &mut usize, due: Instant) -> Result<usize, Failure> {
        let connection = thread.cluster.connect(*client).await?;
        *client += 1;
        thread.recorder.borrow_mut().took(1, due, due.elapsed());
        let (key, _) = self.data.draw(thread);
        let question = RangeRequest { key, ..Default::default() };
        connection.unary::<Summary>(Method::Range, &question).await?;
        Ok(0)
    }
}
