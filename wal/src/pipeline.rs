//! Preparing the next segment file ahead of time, so that a cut need not wait for its space.
//!
//! Prepared files are `0.tmp` and `1.tmp` in turn: locked, at their full length, all zeros. Readers pass them over.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use stanchion_disk::{Disk, File, OpenOptions};

use crate::dir;
use crate::error::{Error, Result};
use crate::open::Options;

/// Who prepares the next segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prepare {
    /// A thread that the log owns; it sleeps until a segment was used up.
    #[default]
    Background,
    /// Whoever calls [`Wal::prepare_next`](crate::Wal::prepare_next), or else the cut itself. No thread is started,
    /// and every operation on the disk happens inside a call: for tests and simulations.
    OnDemand,
}

/// A segment file that has no name yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// Hands out prepared files.
#[derive(Debug)]
pub(crate) struct Pipeline {
    maker: Maker,
    ready: Option<Prepared>,
    worker: Option<Worker>,
}

/// Makes the files; two numbers take turns, so that one can be prepared while the other waits for its name.
#[derive(Clone, Debug)]
struct Maker {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    count: u64,
}

impl Maker {
    fn make(&mut self) -> Result<Prepared> {
        let path = self.dir.join(format!("{}.tmp", self.count % 2));
        // Synced step by step: one long sync would hold up those of the log that is being written meanwhile.
        let zeros = Zeros { len: u64::MAX, step: FILL_STEP };
        let result = make_segment(&*self.disk, &path, self.options, zeros);
        match result {
            Ok(file) => {
                self.count += 1;
                Ok(Prepared { path, file })
            }
            Err(error) => {
                // What was allocated is given back; that nothing could be allocated is the error that counts.
                let _ = self.disk.remove_file(&path);
                Err(error)
            }
        }
    }
}

/// Zeros are written in steps of this many bytes in the background.
const FILL_STEP: usize = 1 << 20;

/// How much of a segment is filled with zeros if its options ask for that, and after how many bytes that is synced. The
/// rest is reserved space: it reads as zeros too, but the first sync of what is written there takes longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zeros {
    pub(crate) len: u64,
    pub(crate) step: usize,
}

impl Zeros {
    /// For the first segment of a new log, for which somebody waits.
    pub(crate) const FIRST: Zeros = Zeros { len: 8 << 20, step: 8 << 20 };
}

/// Creates an empty, locked file of a segment's size.
pub(crate) fn make_segment(
    disk: &dyn Disk,
    path: &Path,
    options: Options,
    zeros: Zeros,
) -> Result<Arc<dyn File>> {
    // A leftover of a crash may hold old records: they must not show behind the new ones.
    let file = dir::open_locked(disk, path, OpenOptions::create().truncate())?;
    file.allocate(0, options.segment_size).map_err(|e| Error::io("preallocate", path, e))?;
    if options.zero_fill {
        fill(&*file, options.segment_size.min(zeros.len), zeros.step)
            .map_err(|e| Error::io("preallocate", path, e))?;
    }
    Ok(file)
}

/// Bytes that are written at once. Linux caches what one write brings as one folio, and charges the whole folio, with the
/// time to walk it, to each later sync of any byte of it. So no more than a page.
const PIECE: usize = 4096;

/// Writes zeros, so that the file system takes the space for written.
fn fill(file: &dyn File, len: u64, step: usize) -> io::Result<()> {
    let mut offset = 0;
    while offset < len {
        let end = len.min(offset + step as u64);
        while offset < end {
            let piece = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
            file.write_all_at(&[0; PIECE][..piece], offset)?;
            offset += piece as u64;
        }
        file.sync_data()?;
    }
    Ok(())
}

/// The thread's ends of the two channels; closing the first one ends it.
#[derive(Debug)]
struct Worker {
    orders: Option<Sender<()>>,
    results: Receiver<Result<Prepared>>,
    /// An order was sent and its result not taken yet.
    ordered: bool,
    thread: Option<JoinHandle<()>>,
}

impl Pipeline {
    /// Removes what a crash left. Nothing is prepared yet: most logs that are opened never fill a segment.
    pub(crate) fn start(disk: Arc<dyn Disk>, dir: PathBuf, options: Options) -> Result<Self> {
        let names = disk.list(&dir).map_err(|e| Error::io("list", &dir, e))?;
        for name in names.iter().filter(|name| crate::name::is_prepared(name)) {
            let path = dir.join(name);
            disk.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        let maker = Maker { disk, dir, options, count: 0 };
        let worker = match options.prepare {
            Prepare::OnDemand => None,
            Prepare::Background => Some(Worker::spawn(maker.clone())?),
        };
        Ok(Self { maker, ready: None, worker })
    }

    /// Makes sure that a file is ready.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        if self.ready.is_none() {
            self.ready = Some(match &mut self.worker {
                Some(worker) => worker.take()?,
                None => self.maker.make()?,
            });
        }
        Ok(())
    }

    /// The ready file, or one made now.
    pub(crate) fn take(&mut self) -> Result<Prepared> {
        self.prepare()?;
        match self.ready.take() {
            Some(prepared) => Ok(prepared),
            None => unreachable!("prepare() leaves a file ready"),
        }
    }

    /// Takes a file back that was not used after all.
    pub(crate) fn put_back(&mut self, prepared: Prepared) {
        self.ready = Some(prepared);
    }

    /// Removes a file that cannot be used.
    pub(crate) fn discard(&self, prepared: &Prepared) {
        // A leftover does no harm: it is cut to nothing when its number comes round again.
        let _ = self.maker.disk.remove_file(&prepared.path);
    }

    /// Has the next file prepared in the background, unless it is or is on order.
    pub(crate) fn order_next(&mut self) {
        if self.ready.is_none()
            && let Some(worker) = &mut self.worker
        {
            worker.order();
        }
    }

    /// Ends the thread and removes the file that was prepared for nothing.
    pub(crate) fn close(mut self) -> Result<()> {
        if let Some(worker) = &mut self.worker
            && worker.ordered
            && let Ok(prepared) = worker.take_result()
        {
            self.ready = Some(prepared);
        }
        if let Some(prepared) = self.ready.take() {
            let remove = self.maker.disk.remove_file(&prepared.path);
            remove.map_err(|e| Error::io("remove", &prepared.path, e))?;
        }
        Ok(())
    }
}

impl Worker {
    fn spawn(mut maker: Maker) -> Result<Self> {
        let (orders, inbox) = channel::<()>();
        let (outbox, results) = channel();
        let dir = maker.dir.clone();
        let run = move || {
            while inbox.recv().is_ok() {
                if outbox.send(maker.make()).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("wal-prepare".to_owned())
            .spawn(run)
            .map_err(|e| Error::io("start the thread that prepares segments of", &dir, e))?;
        Ok(Self { orders: Some(orders), results, ordered: false, thread: Some(thread) })
    }

    fn order(&mut self) {
        if let Some(orders) = &self.orders
            && !self.ordered
        {
            self.ordered = orders.send(()).is_ok();
        }
    }

    /// Waits for the file on order, or orders it now (the last attempt may have failed).
    fn take(&mut self) -> Result<Prepared> {
        if self.ordered
            && let Ok(prepared) = self.take_result()
        {
            return Ok(prepared);
        }
        // Ordered now, or anew: an attempt that failed a while ago says nothing about the space there is today.
        self.order();
        self.take_result()
    }

    fn take_result(&mut self) -> Result<Prepared> {
        self.ordered = false;
        match self.results.recv() {
            Ok(result) => result,
            Err(_) => unreachable!("the preparing thread ends only when its orders do"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook; there is nobody to pass it on to.
            let _ = thread.join();
        }
    }
}
