//! Puts and reads at any ratio.

use std::time::Instant;

use super::put::put;
use super::range::{ReadArgs, Reader};
use super::{Common, Data, DataArgs};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::keys::unit;
use crate::wire::Connection;

/// The kinds, by their place.
const PUT: usize = 0;
const RANGE: usize = 1;

/// Flags of `load mixed`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MixedArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// Share of reads, from 0 to 1
    #[arg(long, default_value_t = 0.9, value_parser = share)]
    reads: f64,
}

/// Each operation is a put or a read.
pub(crate) struct Mixed {
    data: Data,
    read: ReadArgs,
    reads: f64,
}

impl MixedArgs {
    pub(crate) fn workload(&self, common: &Common) -> Result<Mixed, Failure> {
        let data = self.data.data(common);
        self.read.check(&data)?;
        Ok(Mixed { data, read: self.read.clone(), reads: self.reads })
    }
}

impl Mixed {
    /// One put or read; which.
    pub(super) async fn one(&self, thread: &Thread, client: &Reader) -> Result<usize, Failure> {
        let reads = unit(&mut thread.random.borrow_mut()) < self.reads;
        if reads {
            client.read(thread, &self.data, &self.read).await?;
            return Ok(RANGE);
        }
        put(thread, &client.connection, &self.data).await?;
        Ok(PUT)
    }

    /// Puts all keys.
    pub(super) async fn fill(&self, cluster: &Cluster) -> Result<(), Failure> {
        cluster.fill(&self.data.keys, &self.data.values).await.map(|_| ())
    }
}

impl Workload for Mixed {
    type Client = Reader;

    fn kinds(&self) -> Vec<&'static str> {
        vec!["put", "range"]
    }

    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure> {
        self.fill(cluster).await
    }

    async fn client(&self, _thread: &Thread, connection: &Connection) -> Result<Reader, Failure> {
        Ok(Reader::new(connection))
    }

    async fn operate(&self, thread: &Thread, client: &mut Reader, _due: Instant) -> Result<usize, Failure> {
        self.one(thread, client).await
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(share) => Err(format!("{share} is not a share: it wants 0 to 1")),
        Err(error) => Err(format!("{error}")),
    }
}
