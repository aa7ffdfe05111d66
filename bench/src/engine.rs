//! Runs a workload: threads, clients, closed and open loop, warm-up, the measured window and its edges. What an operation
//! does is not known here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::arrival::{Arrivals, Schedule, Spread};
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::keys::seeded;
use crate::proc::{Edge, Watched};
use crate::record::Recorder;
use crate::wire::Connection;

/// Between the moment when all threads are ready and the first operation.
const LEAD: Duration = Duration::from_millis(20);
/// How often the waiting thread looks whether the run was cut short.
const LOOK: Duration = Duration::from_millis(5);

/// What a workload is to the engine.
#[allow(async_fn_in_trait, reason = "clients stay on the thread that made them")]
pub(crate) trait Workload: Send + Sync + 'static {
    /// What belongs to one client.
    type Client: 'static;

    /// The kinds of operations whose latencies are kept apart.
    fn kinds(&self) -> Vec<&'static str>;

    /// Makes what must be there before the first operation.
    async fn prepare(&self, cluster: &Cluster) -> Result<(), Failure>;

    /// What goes on beside the clients of one thread until the run ends; it starts before the first operation. The
    /// default is nothing.
    async fn beside(&self, _thread: &Rc<Thread>) -> Result<(), Failure> {
        Ok(())
    }

    /// A client on `connection`.
    async fn client(&self, thread: &Thread, connection: &Connection) -> Result<Self::Client, Failure>;

    /// One operation that was due at `due`; which kind it was.
    async fn operate(
        &self,
        thread: &Thread,
        client: &mut Self::Client,
        due: Instant,
    ) -> Result<usize, Failure>;

    /// Figures of the workload's own, by name, once all threads have ended.
    fn figures(&self, _recorder: &Recorder, _seconds: f64) -> Vec<(String, f64)> {
        Vec::new()
    }
}

/// How a workload is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    pub(crate) clients: usize,
    /// Arrivals a second in an open loop; a closed loop without.
    pub(crate) rate: Option<(f64, Spread)>,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// Operations after which the run ends, warm-up included.
    pub(crate) operations: Option<u64>,
    /// Longest wait for answers after the end.
    pub(crate) drain: Duration,
    pub(crate) seed: u64,
    pub(crate) servers: Vec<Watched>,
}

/// What a run has shown.
pub(crate) struct Outcome {
    pub(crate) recorder: Recorder,
    /// Before connections, watchers and the like were there.
    pub(crate) before: Edge,
    /// When they were there, before the first operation.
    pub(crate) idle: Edge,
    pub(crate) first: Edge,
    pub(crate) last: Edge,
    /// Length of the measured window.
    pub(crate) seconds: f64,
    /// Operations that were due and have no latency: not begun or not answered in time.
    pub(crate) unanswered: u64,
    /// Why the run ended early.
    pub(crate) cut_short: Option<Failure>,
    pub(crate) figures: Vec<(String, f64)>,
}

/// One thread of clients.
pub(crate) struct Thread {
    pub(crate) number: usize,
    pub(crate) threads: usize,
    pub(crate) cluster: Cluster,
    pub(crate) connections: Vec<Connection>,
    pub(crate) recorder: RefCell<Recorder>,
    pub(crate) random: RefCell<Xoshiro256PlusPlus>,
    shared: Arc<Shared>,
    in_flight: Cell<u64>,
    clients: Cell<u64>,
}

impl Thread {
    /// A number that no other client of the run has.
    pub(crate) fn next_client(&self) -> u64 {
        let number = self.clients.replace(self.clients.get() + 1);
        number * self.threads as u64 + self.number as u64
    }

    /// Has the run been cut short?
    pub(crate) fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    /// Cuts the run short.
    pub(crate) fn stop(&self, failure: Failure) {
        self.shared.stop(failure);
    }
}

struct Shared {
    stopped: AtomicBool,
    failure: std::sync::Mutex<Option<Failure>>,
    operations_left: Option<AtomicU64>,
    /// Threads whose clients have not all ended.
    running: AtomicUsize,
}

impl Shared {
    fn stop(&self, failure: Failure) {
        let mut first = self.failure.lock().expect("no thread panics while it holds this");
        first.get_or_insert(failure);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Takes one of the operations that are allowed.
    fn may_begin(&self) -> bool {
        let Some(left) = &self.operations_left else { return true };
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Will no further operation begin?
    fn over(&self) -> bool {
        self.exhausted() || self.stopped.load(Ordering::Relaxed)
    }

    fn exhausted(&self) -> bool {
        self.operations_left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }

    /// Is there nothing to wait for?
    fn ended(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0 || self.stopped.load(Ordering::Relaxed)
    }
}

/// The moments of a run, fixed once all threads are ready.
#[derive(Clone, Copy)]
struct Moments {
    start: Instant,
    window_start: Instant,
    end: Instant,
}

/// Runs `workload`: figures if it got as far as its first operation, even when it ended early.
pub(crate) fn run<W: Workload>(cluster: &Cluster, plan: &Plan, workload: Arc<W>) -> Result<Outcome, Failure> {
    let shared = Arc::new(Shared {
        stopped: AtomicBool::new(false),
        failure: std::sync::Mutex::new(None),
        operations_left: plan.operations.map(AtomicU64::new),
        running: AtomicUsize::new(plan.threads),
    });
    let before = Edge::sample(&plan.servers)?;
    let (ready, all_ready) = mpsc::channel();
    let (go, gone) = watch::channel(None);
    let mut threads = Vec::new();
    for number in 0..plan.threads {
        let (cluster, plan, workload) = (cluster.clone(), plan.clone(), workload.clone());
        let (shared, ready, gone) = (shared.clone(), ready.clone(), gone.clone());
        threads.push(std::thread::spawn(move || {
            thread_of_clients(number, &cluster, &plan, workload, shared, &ready, gone)
        }));
    }
    drop(ready);
    for _ in 0..plan.threads {
        all_ready.recv().map_err(|_| Failure::Settings("a thread of clients ended".to_owned()))??;
    }
    let idle = Edge::sample(&plan.servers)?;
    let start = Instant::now() + LEAD;
    let moments =
        Moments { start, window_start: start + plan.warm_up, end: start + plan.warm_up + plan.duration };
    go.send_replace(Some(moments));

    wait_until(moments.window_start, &shared);
    // A server that died in the warm-up has left no figures, and a better reason than its missing process.
    let reason = |failure| {
        shared.failure.lock().expect("no thread panics while it holds this").take().unwrap_or(failure)
    };
    let first = Edge::sample(&plan.servers).map_err(reason)?;
    wait_until(moments.end, &shared);
    let stopped = Instant::now();
    let last = Edge::sample(&plan.servers);
    let mut recorder = Recorder::new(workload.kinds().len(), moments.window_start, moments.end);
    let mut unanswered = 0;
    for thread in threads {
        let (seen, without_answer) = thread.join().expect("a thread of clients does not panic")?;
        recorder.merge(&seen);
        unanswered += without_answer;
    }
    let cut_short = shared.failure.lock().expect("no thread holds this any more").take();
    // A server that died has no last sample; its figures are partial anyway.
    let last = match (last, &cut_short) {
        (Ok(last), _) => last,
        (Err(_), Some(_)) => Edge { at: stopped, ..first.clone() },
        (Err(failure), None) => return Err(failure),
    };
    let seconds = (stopped.min(moments.end).saturating_duration_since(moments.window_start)).as_secs_f64();
    let figures = workload.figures(&recorder, seconds);
    Ok(Outcome { recorder, before, idle, first, last, seconds, unanswered, cut_short, figures })
}

fn wait_until(moment: Instant, shared: &Shared) {
    while !shared.ended() {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// One thread with its runtime, connections and clients, from its start to its end.
fn thread_of_clients<W: Workload>(
    number: usize,
    cluster: &Cluster,
    plan: &Plan,
    workload: Arc<W>,
    shared: Arc<Shared>,
    ready: &mpsc::Sender<Result<(), Failure>>,
    mut go: watch::Receiver<Option<Moments>>,
) -> Result<(Recorder, u64), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("a runtime", &error))?;
    let local = LocalSet::new();
    let thread = local.block_on(&runtime, async {
        let set_up = set_up(number, cluster, plan, &*workload, shared).await;
        let (answer, set_up) = match set_up {
            Ok(set_up) => (Ok(()), Some(set_up)),
            Err(failure) => (Err(failure), None),
        };
        // Nobody listens after another thread has failed.
        let _ = ready.send(answer);
        let (thread, clients) = set_up?;
        let moments = *go.wait_for(Option::is_some).await.ok()?;
        let moments = moments.expect("waited for");
        *thread.recorder.borrow_mut() =
            Recorder::new(workload.kinds().len(), moments.window_start, moments.end);
        drive(&thread, clients, plan, workload, moments).await;
        Some(thread)
    });
    let Some(thread) = thread else {
        return Err(Failure::Settings("another thread could not start".to_owned()));
    };
    let seen = thread.recorder.replace(Recorder::new(0, Instant::now(), Instant::now()));
    let unanswered = thread.in_flight.get();
    Ok((seen, unanswered))
}

/// The part of `total` that thread `number` of `threads` takes.
pub(crate) fn share(total: usize, number: usize, threads: usize) -> usize {
    total / threads + usize::from(number < total % threads)
}

async fn set_up<W: Workload>(
    number: usize,
    cluster: &Cluster,
    plan: &Plan,
    workload: &W,
    shared: Arc<Shared>,
) -> Result<(Rc<Thread>, Vec<W::Client>), Failure> {
    let count = share(plan.connections, number, plan.threads).max(1);
    let mut connections = Vec::with_capacity(count);
    for at in 0..count {
        connections.push(cluster.connect(at * plan.threads + number).await?);
    }
    let now = Instant::now();
    let thread = Rc::new(Thread {
        number,
        threads: plan.threads,
        cluster: cluster.clone(),
        connections,
        recorder: RefCell::new(Recorder::new(workload.kinds().len(), now, now)),
        random: RefCell::new(seeded(plan.seed, number as u64)),
        shared,
        in_flight: Cell::new(0),
        clients: Cell::new(0),
    });
    workload.beside(&thread).await?;
    let mut clients = Vec::new();
    for at in 0..share(plan.clients, number, plan.threads) {
        clients.push(workload.client(&thread, &thread.connections[at % count]).await?);
    }
    Ok((thread, clients))
}

/// From the first operation to the last answer, or to the end of patience.
async fn drive<W: Workload>(
    thread: &Rc<Thread>,
    clients: Vec<W::Client>,
    plan: &Plan,
    workload: Arc<W>,
    moments: Moments,
) {
    tokio::time::sleep_until(moments.start.into()).await;
    let arrivals = Rc::new(Arrivals::default());
    let mut tasks = tokio::task::JoinSet::new();
    for client in clients {
        let (thread, workload) = (thread.clone(), workload.clone());
        match plan.rate {
            None => tasks.spawn_local(closed_loop(thread, workload, client, moments.end)),
            Some(_) => tasks.spawn_local(open_loop(thread, workload, client, arrivals.clone())),
        };
    }
    if let Some((rate, spread)) = plan.rate {
        let threads = plan.threads as f64;
        let random = seeded(plan.seed, u64::MAX - thread.number as u64);
        let schedule = Schedule::new(spread, rate / threads, thread.number as f64 / threads, random);
        let fed = arrivals.feed(schedule, moments.start, moments.end, || thread.shared.over()).await;
        if let Err(error) = fed {
            thread.stop(Failure::local("a timer", &error));
        }
    }
    let patience = (moments.end + plan.drain).into();
    let all_answered = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
    };
    let cut_short = async {
        while !thread.stopped() {
            tokio::time::sleep(LOOK).await;
        }
        // What was answered already may still be read.
        tokio::time::sleep(plan.drain.min(Duration::from_secs(1))).await;
    };
    tokio::select! {
        () = all_answered => {}
        () = cut_short => {}
        () = tokio::time::sleep_until(patience) => {}
    }
    if !thread.shared.exhausted() {
        thread.in_flight.update(|count| count + arrivals.left() as u64);
    }
    thread.shared.running.fetch_sub(1, Ordering::Relaxed);
    // What goes on beside, such as the watchers of other threads' puts, ends when nobody waits for it any more.
    while !thread.shared.ended() && Instant::now() < moments.end + plan.drain {
        tokio::time::sleep(LOOK).await;
    }
}

async fn closed_loop<W: Workload>(thread: Rc<Thread>, workload: Arc<W>, mut client: W::Client, end: Instant) {
    while !thread.stopped() {
        let due = Instant::now();
        if due >= end || !one(&thread, &*workload, &mut client, due).await {
            return;
        }
    }
}

async fn open_loop<W: Workload>(
    thread: Rc<Thread>,
    workload: Arc<W>,
    mut client: W::Client,
    arrivals: Rc<Arrivals>,
) {
    while let Some(due) = arrivals.take().await {
        if thread.stopped() || !one(&thread, &*workload, &mut client, due).await {
            return;
        }
    }
}

/// One operation and its place in the record; whether the client goes on.
async fn one<W: Workload>(thread: &Thread, workload: &W, client: &mut W::Client, due: Instant) -> bool {
    if !thread.shared.may_begin() {
        return false;
    }
    thread.in_flight.update(|count| count + 1);
    let done = workload.operate(thread, client, due).await;
    let latency = due.elapsed();
    thread.in_flight.update(|count| count - 1);
    match done {
        Ok(kind) => thread.recorder.borrow_mut().took(kind, due, latency),
        Err(failure) if failure.ends_the_run() => {
            thread.recorder.borrow_mut().failed(due, &failure);
            thread.stop(failure);
            return false;
        }
        Err(failure) => thread.recorder.borrow_mut().failed(due, &failure),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up() {
        for (total, threads) in [(1, 1), (10, 3), (2, 4), (1000, 7)] {
            assert_eq!((0..threads).map(|number| share(total, number, threads)).sum::<usize>(), total);
        }
    }
}
