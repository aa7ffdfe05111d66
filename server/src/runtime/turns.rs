//! Who steps raft: its own thread, or whoever brings an input while raft has nothing else to do. Waking another thread
//! takes longer than the step itself, and a client who is alone waits for each wake-up in turn. Nobody waits for a lock
//! here but the raft thread, and nobody holds one over a disk sync.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, Sender};
use parking_lot::Mutex;
use stanchion_replica::consensus::{ApplyWork, ConsensusError};

use super::applier::ApplierLoop;
use super::raft_loop::{RaftLoop, ToRaft};
use super::{EndsWithIt, fatal};

/// Entries that may be applied outside the applier's thread at once. More of them means that there is enough to do for
/// two threads, and that another sync is wanted soon.
const ENTRIES_ASIDE: usize = 4;

/// Raft, and the two ways to step it.
pub(super) struct Turns {
    raft: Mutex<RaftLoop>,
    to_raft: Sender<ToRaft>,
    applier: Arc<Mutex<ApplierLoop>>,
}

impl Turns {
    pub(super) fn new(raft: RaftLoop, to_raft: Sender<ToRaft>, applier: Arc<Mutex<ApplierLoop>>) -> Turns {
        Turns { raft: Mutex::new(raft), to_raft, applier }
    }

    /// The raft thread.
    pub(super) fn run(&self) {
        let inbox = self.raft.lock().inbox();
        if let Err(error) = self.turns(&inbox) {
            fatal("raft", &error);
        }
    }

    fn turns(&self, inbox: &Receiver<ToRaft>) -> Result<(), ConsensusError> {
        self.raft.lock().start()?;
        loop {
            let mut raft = self.raft.lock();
            if !raft.turn()? {
                return Ok(());
            }
            let next_tick = raft.next_tick();
            drop(raft);
            await_input(inbox, next_tick);
        }
    }

    /// Steps raft with `input` here and now if it has nothing else to do; else its thread will.
    pub(super) fn offer(&self, input: ToRaft) {
        self.step(input, |raft, works| raft.hand_to_applier(works));
    }

    /// As [`offer`](Self::offer); what that commits is applied here, too, if it is little and the applier is idle.
    pub(super) fn offer_and_apply(&self, input: ToRaft) {
        let mut here = None;
        self.step(input, |raft, works| {
            let entries: usize = works.iter().map(|work| work.entries().len()).sum();
            let idle = (1..=ENTRIES_ASIDE).contains(&entries).then(|| self.applier.try_lock()).flatten();
            // Under raft's lock, so that nothing can be handed out before this; the applier's keeps what comes later back.
            match idle.filter(|applier| applier.is_idle()) {
                Some(applier) => here = Some((applier, works)),
                None => raft.hand_to_applier(works),
            }
        });
        if let Some((mut applier, works)) = here {
            let _guard = EndsWithIt;
            for work in works {
                // While the applier is held, so that raft hears of batches in their order.
                applier.apply(work, |applied| self.offer(applied));
            }
        }
    }

    fn step<'a>(&'a self, input: ToRaft, place: impl FnOnce(&mut RaftLoop, Vec<ApplyWork>) + 'a) {
        let _guard = EndsWithIt;
        // What has come before must be taken in before.
        let Some(mut raft) = self.raft.try_lock().filter(|raft| raft.is_idle()) else {
            // A thread that is gone means that the member stops: waiters run into their timeout.
            let _ = self.to_raft.send(input);
            return;
        };
        match raft.turn_with(input) {
            Ok(works) => place(&mut raft, works),
            Err(error) => fatal("raft", &error),
        }
    }
}

/// Blocks until something is in the inbox or it is time. It stays in there: what is taken out without the owner's lock
/// could be overtaken by what comes later.
pub(super) fn await_input<T>(inbox: &Receiver<T>, until: Instant) {
    let mut select = Select::new();
    select.recv(inbox);
    // Whether it is time or not is seen afterwards.
    let _ = select.ready_deadline(until);
}
