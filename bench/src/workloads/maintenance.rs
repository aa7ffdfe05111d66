//! Compaction, defragmentation and snapshots beside a foreground of puts and reads, which should notice nothing.

use std::rc::Rc;
use std::time::{Duration, Instant};

use stanchion_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse, RangeRequest,
    SnapshotRequest,
};

use super::Common;
use super::mixed::{Mixed, MixedArgs};
use super::range::{Reader, Summary};
use crate::cluster::Cluster;
use crate::engine::{Thread, Workload};
use crate::error::Failure;
use crate::wire::{Connection, Method};

/// The kind of the task; those before it are the foreground's.
const TASK: usize = 2;

/// What goes on beside the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// Drops the history up to now, and waits until it is gone from the file.
    Compaction,
    /// Gives free pages back.
    Defragmentation,
    /// Downloads the database.
    Snapshot,
}

/// Flags of `load maintenance`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MaintenanceArgs {
    #[command(flatten)]
    foreground: MixedArgs,
    /// What goes on beside the foreground
    #[arg(long, value_enum)]
    task: Task,
    /// Seconds from the end of one to the start of the next
    #[arg(long, default_value_t = 1.0)]
    every: f64,
}

/// Each operation is one of the foreground; the task goes on beside it, on a connection of its own.
pub(crate) struct Maintenance {
    foreground: Mixed,
    task: Task,
    every: Duration,
}

impl MaintenanceArgs {
    pub(crate) fn workload(&self, common: &Common) -> Result<Maintenance, Failure> {
        let every = Duration::try_from_secs_f64(self.every)
            .map_err(|error| Failure::Settings(format!("--every {}: {error}", self.every)))?;
        Ok(Maintenance { foreground: self.foreground.workload(common)?, task: self.task, every })
    }
}

/// Does the task once; the bytes that came.
async fn once(connection: &Connection, task: Task) -> Result<u64, Failure> {
    match task {
        Task::Compaction => {
            let newest = RangeRequest { key: bytes::Bytes::from_static(b"\0"), ..Default::default() };
            let header = connection.unary::<Summary>(Method::Range, &newest).await?.header;
            let revision = header.map_or(0, |header| header.revision);
            let question = CompactionRequest { revision, physical: true };
            match connection.unary::<CompactionResponse>(Method::Compact, &question).await {
                // Nothing was written since the last one.
                Err(Failure::Refused { message, .. }) if message.contains("has been compacted") => Ok(0),
                answer => answer.map(|_| 0),
            }
        }
        Task::Defragmentation => {
            let answer =
                connection.unary::<DefragmentResponse>(Method::Defragment, &DefragmentRequest {}).await;
            answer.map(|_| 0)
        }
        Task::Snapshot => {
            let mut stream = connection.stream(Method::Snapshot).await?;
            stream.send(&SnapshotRequest {}, true)?;
            let mut bytes = 0;
            while let Some(piece) = stream.next_bytes().await? {
                bytes += piece.len() as u64;
            }
            Ok(bytes)
        }
    }
}

async fn again_and_again(thread: Rc<Thread>, connection: Connection, task: Task, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let begun = Instant::now();
        match once(&connection, task).await {
            Ok(bytes) => {
                let mut recorder = thread.recorder.borrow_mut();
                recorder.took(TASK, begun, begun.elapsed());
                if task == Task::Snapshot {
                    recorder.add("bytes of snapshots", begun, bytes);
                }
            }
            Err(failure) => return thread.stop(failure),
        }
    }
}

impl Workload for Maintenance {
    type Client = Reader;

    fn kinds(&self) -> Vec<&'static str> {
        let task = match self.task {
            Task::Compaction => "+ compaction",
            Task::Defragmentation => "+ defragmentation",
            Task::Snapshot => "+ snapshot",
        };
        vec!["put", "range", task]
    }

    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure> {
        self.foreground.fill(cluster).await
    }

    async fn beside(&self, thread: &Rc<Thread>) -> Result<(), Failure> {
        if thread.number == 0 {
            let connection = thread.cluster.connect(0).await?;
            tokio::task::spawn_local(again_and_again(thread.clone(), connection, self.task, self.every));
        }
        Ok(())
    }

    async fn client(&self, _thread: &Thread, connection: &Connection) -> Result<Reader, Failure> {
        Ok(Reader::new(connection))
    }

    async fn operate(&self, thread: &Thread, client: &mut Reader, _due: Instant) -> Result<usize, Failure> {
        self.foreground.one(thread, client).await
    }
}
