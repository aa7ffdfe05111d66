//! Reads: of one key, of many, by pages, by counting; of now and of the past.

use std::cell::Cell;
use std::time::Instant;

use bytes::Bytes;
use stanchion_api::etcdserverpb::{RangeRequest, ResponseHeader};

use super::{Common, Data, DataArgs, wrong_answer};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::keys::below;
use crate::wire::{Connection, Method};

/// What a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// One key.
    Point,
    /// A range that holds exactly --limit keys.
    Span,
    /// The first --limit keys of a range without end, from a key in the first tenth on.
    Page,
    /// The number of all keys.
    Count,
}

/// Flags of reads.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReadArgs {
    /// What a read asks for
    #[arg(long, value_enum, default_value_t = Shape::Point)]
    shape: Shape,
    /// Keys in a span or a page
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Ask for keys without values
    #[arg(long)]
    keys_only: bool,
    /// Let the member answer by itself, without asking the others
    #[arg(long)]
    serializable: bool,
    /// Read at a revision that lies up to this many before the newest
    #[arg(long, default_value_t = 0)]
    back: u64,
}

/// Flags of `load range`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RangeArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// Each operation reads once.
pub(crate) struct Range {
    data: Data,
    read: ReadArgs,
}

/// What is looked at of an answer. The pairs are not decoded: the client shares the cores with the server.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Summary {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
    #[prost(int64, tag = "4")]
    pub(super) count: i64,
}

impl RangeArgs {
    pub(crate) fn workload(&self, common: &Common) -> Result<Range, Failure> {
        let data = self.data.data(common);
        self.read.check(&data)?;
        Ok(Range { data, read: self.read.clone() })
    }
}

impl ReadArgs {
    pub(super) fn check(&self, data: &Data) -> Result<(), Failure> {
        if self.shape == Shape::Span && u64::from(self.limit) > data.keys.count() {
            let keys = data.keys.count();
            return Err(Failure::Settings(format!(
                "a span of {} keys among {keys}: there are no such",
                self.limit
            )));
        }
        Ok(())
    }

    /// The request, and how many keys it has to find if that is known.
    fn request(&self, thread: &Thread, data: &Data) -> (RangeRequest, Option<u64>) {
        let random = &mut thread.random.borrow_mut();
        let limit = u64::from(self.limit);
        let count = data.keys.count();
        let (key, range_end, limit, found) = match self.shape {
            Shape::Point => (data.keys.at(data.keys.choose(random)), Bytes::new(), 0, 1),
            Shape::Span => {
                let from = below(random, count - limit + 1);
                (data.keys.at(from), data.keys.at(from + limit), 0, limit)
            }
            Shape::Page => {
                let from = below(random, (count / 10).max(1));
                (data.keys.at(from), Bytes::from_static(&[0]), i64::from(self.limit), count - from)
            }
            Shape::Count => (data.keys.at(0), data.keys.end(), 0, count),
        };
        let request = RangeRequest {
            key,
            range_end,
            limit,
            keys_only: self.keys_only,
            count_only: self.shape == Shape::Count,
            serializable: self.serializable,
            ..Default::default()
        };
        // Behind the keys without end there may be others of the same run.
        (request, (self.shape != Shape::Page).then_some(found))
    }
}

/// A reader; it knows the newest revision that it was told.
pub(crate) struct Reader {
    pub(super) connection: Connection,
    newest: Cell<i64>,
}

impl Reader {
    pub(super) fn new(connection: &Connection) -> Reader {
        Reader { connection: connection.clone(), newest: Cell::new(0) }
    }

    /// Reads once.
    pub(super) async fn read(&self, thread: &Thread, data: &Data, args: &ReadArgs) -> Result<(), Failure> {
        let (mut request, found) = args.request(thread, data);
        if args.back > 0 {
            let back = below(&mut thread.random.borrow_mut(), args.back + 1);
            request.revision = self.newest.get().saturating_sub_unsigned(back).max(0);
        }
        let answer: Summary = self.connection.unary(Method::Range, &request).await?;
        self.newest.set(answer.header.map_or(0, |header| header.revision));
        match found {
            // The past may hold fewer.
            Some(found) if args.back == 0 && u64::try_from(answer.count) != Ok(found) => {
                Err(wrong_answer(thread, format!("found {} keys where {found} were put", answer.count)))
            }
            _ => Ok(()),
        }
    }
}

impl Workload for Range {
    type Client = Reader;

    fn kinds(&self) -> Vec<&'static str> {
        vec!["range"]
    }

    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure> {
        cluster.fill(&self.data.keys, &self.data.values).await.map(|_| ())
    }

    async fn client(&self, _thread: &Thread, connection: &Connection) -> Result<Reader, Failure> {
        Ok(Reader::new(connection))
    }

    async fn operate(&self, thread: &Thread, client: &mut Reader, _due: Instant) -> Result<usize, Failure> {
        client.read(thread, &self.data, &self.read).await?;
        Ok(0)
    }
}
