//! The state machine: which leases exist, which keys hang on them, when they run out.
//!
//! What only the primary does in the background (promotion, expiry batches, checkpoints) is in `schedule`.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::deadlines::Deadlines;
use crate::schedule::Queues;
use crate::{Error, RenewError};

/// A lease's id, chosen by the client or made by [`Lessor::fresh_id`]. Any `i64` but zero.
pub type LeaseId = i64;

/// The longest TTL that can be asked for, in seconds (etcd's limit: larger ones overflow its clock).
pub const MAX_TTL_SECONDS: i64 = 9_000_000_000;

/// Choices that hold for the life of a [`Lessor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Shorter TTLs are raised to this. etcd: `(3 * election_ticks / 2)` ticks, rounded up to seconds; 2 by default.
    pub min_ttl_seconds: i64,
    /// How long an offered lease may stay alive before it is offered again. etcd: its request timeout.
    pub retry_ms: u64,
    /// How often the remaining time of long leases is offered as a checkpoint; `None`: never (etcd's default).
    pub checkpoint_interval_ms: Option<u64>,
}

impl Default for Config {
    /// etcd's defaults with an election timeout of one second.
    fn default() -> Self {
        Config { min_ttl_seconds: 2, retry_ms: 7_000, checkpoint_interval_ms: None }
    }
}

/// A lease as it is stored: what must survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The lease's id.
    pub id: LeaseId,
    /// The granted TTL, in seconds.
    pub ttl_seconds: i64,
    /// The last checkpoint of the remaining time, in seconds; zero without one.
    pub remaining_seconds: i64,
}

/// How [`Lessor::renew`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The deadline is now a full TTL away.
    Renewed {
        /// The granted TTL, in seconds.
        ttl_seconds: i64,
    },
    /// A checkpoint of the remaining time is in force. Commit a checkpoint of zero first, then renew again: otherwise
    /// the next primary would take up the old remaining time and expire a lease that was renewed.
    ClearCheckpoint,
}

/// What [`Lessor::time_to_live`] tells about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeToLive {
    /// The TTL it was granted with, in seconds.
    pub granted_seconds: i64,
    /// Whole seconds left, rounded down; zero or less while it waits to be revoked. On a lessor that is not primary
    /// nothing runs out, and this is `i64::MAX`.
    pub remaining_seconds: i64,
}

/// A deadline that never comes: what every lease has on a lessor that is not primary.
const NEVER: u64 = u64::MAX;

/// One lease: 56 bytes without keys.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    pub(crate) ttl_seconds: i64,
    /// The checkpoint in force; zero without one. Invariant: `0 <= remaining_seconds`.
    pub(crate) remaining_seconds: i64,
    /// When it runs out. Invariant: `NEVER` exactly while the lessor is not primary.
    pub(crate) deadline_ms: u64,
    /// Ordered, since a revoke deletes them in ascending order. Empty it owns no memory.
    keys: BTreeSet<Arc<[u8]>>,
}

impl Lease {
    /// The time that a fresh primary gives: the checkpointed rest if there is one, else the whole TTL.
    pub(crate) fn full_ms(&self) -> u64 {
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::CheckpointIgnored) {
            return (self.ttl_seconds as u64).saturating_mul(1000);
        }
        let seconds = if self.remaining_seconds > 0 { self.remaining_seconds } else { self.ttl_seconds };
        (seconds as u64).saturating_mul(1000)
    }
}

/// The leases of one member.
///
/// Three kinds of methods: *changes* that every member applies in the same order ([`grant`](Self::grant),
/// [`revoke`](Self::revoke), [`attach`](Self::attach), [`detach`](Self::detach), [`checkpoint`](Self::checkpoint));
/// *the primary's* ([`promote`](Self::promote), [`demote`](Self::demote), [`renew`](Self::renew),
/// [`handle_tick`](Self::handle_tick) and the `take_*` that drain what a tick found); and *getters*.
///
/// Times are milliseconds on any clock that does not go back; TTLs are seconds, as clients see them.
#[derive(Debug)]
pub struct Lessor {
    pub(crate) config: Config,
    /// Leases by slot; free slots are `None` and listed in `free`.
    pub(crate) slots: Vec<Option<Lease>>,
    free: Vec<u32>,
    /// Only looked up, never iterated: its order is not part of any output.
    by_id: HashMap<LeaseId, u32>,
    /// Which lease a key hangs on. Invariant: `by_key[k] == l` exactly if `l.keys` holds `k`.
    by_key: HashMap<Arc<[u8]>, LeaseId>,
    pub(crate) primary: bool,
    /// When each lease is to be offered for revocation. Invariant: empty while not primary.
    pub(crate) expiries: Deadlines,
    /// When each long lease is to be checkpointed. Invariant: empty while not primary.
    pub(crate) checkpoints: Deadlines,
    pub(crate) queues: Queues,
}

impl Lessor {
    /// A lessor without leases, not primary.
    pub fn new(config: Config) -> Lessor {
        Lessor {
            config,
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            primary: false,
            expiries: Deadlines::default(),
            checkpoints: Deadlines::default(),
            queues: Queues::default(),
        }
    }

    /// A lessor with the leases that were stored, not primary. TTLs below the minimum are raised to it. Keys are
    /// [attached](Self::attach) afterwards, as the store finds them.
    ///
    /// # Errors
    /// [`Error::Exists`] if an id comes twice, [`Error::ZeroId`] for id zero.
    pub fn recover(config: Config, stored: impl IntoIterator<Item = Stored>) -> Result<Lessor, Error> {
        let mut lessor = Lessor::new(config);
        for lease in stored {
            lessor.insert(lease)?;
        }
        Ok(lessor)
    }

    /// Adds a lease and returns what is to be stored. The TTL is raised to the minimum if it is below, also if it is
    /// zero or negative.
    ///
    /// # Errors
    /// [`Error::ZeroId`], [`Error::Exists`], [`Error::TtlTooLarge`].
    pub fn grant(&mut self, now_ms: u64, id: LeaseId, ttl_seconds: i64) -> Result<Stored, Error> {
        if ttl_seconds > MAX_TTL_SECONDS {
            return Err(Error::TtlTooLarge { ttl_seconds });
        }
        let (slot, stored) = self.insert(Stored { id, ttl_seconds, remaining_seconds: 0 })?;
        if self.primary {
            self.refresh(slot, now_ms);
        }
        Ok(stored)
    }

    /// Removes a lease and returns its keys in ascending order, which the caller deletes in one revision together with
    /// the stored lease.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn revoke(&mut self, id: LeaseId) -> Result<Vec<Arc<[u8]>>, Error> {
        let slot = self.by_id.remove(&id).ok_or(Error::NotFound { id })?;
        self.expiries.remove(slot);
        self.checkpoints.remove(slot);
        self.free.push(slot);
        let lease = self.slots[slot as usize].take().expect("a slot named by an id holds a lease");
        let keys: Vec<Arc<[u8]>> = lease.keys.into_iter().collect();
        for key in &keys {
            self.by_key.remove(key);
        }
        Ok(keys)
    }

    /// Hangs `key` on a lease, taking it from the lease that it was on.
    ///
    /// # Errors
    /// [`Error::NotFound`]; the key then stays where it was.
    pub fn attach(&mut self, id: LeaseId, key: &[u8]) -> Result<(), Error> {
        if !self.by_id.contains_key(&id) {
            return Err(Error::NotFound { id });
        }
        if self.lease_of(key) == Some(id) {
            return Ok(());
        }
        self.detach(key);
        let key: Arc<[u8]> = key.into();
        let lease = self.get_mut(id).expect("looked up above");
        lease.keys.insert(key.clone());
        self.by_key.insert(key, id);
        Ok(())
    }

    /// Takes `key` off its lease; returns that lease, or `None` if it was on none.
    pub fn detach(&mut self, key: &[u8]) -> Option<LeaseId> {
        let id = self.by_key.remove(key)?;
        self.get_mut(id).expect("a key's lease exists").keys.remove(key);
        Some(id)
    }

    /// Sets the remaining time that the next promotion gives and returns what is to be stored; zero goes back to the
    /// whole TTL. Negative values count as zero.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn checkpoint(&mut self, now_ms: u64, id: LeaseId, remaining_seconds: i64) -> Result<Stored, Error> {
        let slot = self.slot(id).ok_or(Error::NotFound { id })?;
        let lease = self.lease_mut(slot);
        lease.remaining_seconds = remaining_seconds.max(0);
        let stored =
            Stored { id, ttl_seconds: lease.ttl_seconds, remaining_seconds: lease.remaining_seconds };
        if self.primary {
            self.schedule_checkpoint(slot, now_ms);
        }
        Ok(stored)
    }

    /// Puts the deadline a whole TTL away.
    ///
    /// # Errors
    /// [`RenewError::NotPrimary`], [`RenewError::NotFound`], and [`RenewError::Expired`] once the deadline has passed.
    pub fn renew(&mut self, now_ms: u64, id: LeaseId) -> Result<Renewal, RenewError> {
        if !self.primary {
            return Err(RenewError::NotPrimary);
        }
        let slot = self.slot(id).ok_or(RenewError::NotFound { id })?;
        let lease = self.lease(slot);
        if lease.deadline_ms <= now_ms {
            return Err(RenewError::Expired { id, late_ms: now_ms - lease.deadline_ms });
        }
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::RenewalKeepsCheckpoint) {
            let ttl_seconds = lease.ttl_seconds;
            self.refresh(slot, now_ms);
            return Ok(Renewal::Renewed { ttl_seconds });
        }
        if lease.remaining_seconds > 0 {
            return Ok(Renewal::ClearCheckpoint);
        }
        let ttl_seconds = lease.ttl_seconds;
        self.refresh(slot, now_ms);
        Ok(Renewal::Renewed { ttl_seconds })
    }

    /// What is left of a lease; `None` if there is no such lease.
    pub fn time_to_live(&self, now_ms: u64, id: LeaseId) -> Option<TimeToLive> {
        let lease = self.lease(self.slot(id)?);
        let remaining_seconds = match lease.deadline_ms {
            NEVER => i64::MAX,
            at_ms if at_ms >= now_ms => ((at_ms - now_ms) / 1000) as i64,
            at_ms => -((now_ms - at_ms).div_ceil(1000) as i64),
        };
        Some(TimeToLive { granted_seconds: lease.ttl_seconds, remaining_seconds })
    }

    /// The keys on a lease, ascending; empty for an unknown lease.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &[u8]> {
        self.slot(id).into_iter().flat_map(|slot| &self.lease(slot).keys).map(|key| &**key)
    }

    /// The lease that `key` hangs on.
    pub fn lease_of(&self, key: &[u8]) -> Option<LeaseId> {
        self.by_key.get(key).copied()
    }

    /// Whether there is such a lease.
    pub fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// All ids, those with the least time left first (then the smallest id).
    pub fn list(&self) -> Vec<LeaseId> {
        let mut ids: Vec<(u64, LeaseId)> =
            self.slots.iter().flatten().map(|l| (l.deadline_ms, l.id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Every lease as it is stored, by id.
    pub fn stored(&self) -> Vec<Stored> {
        let leases = self.slots.iter().flatten();
        let mut all: Vec<Stored> = leases
            .map(|l| Stored { id: l.id, ttl_seconds: l.ttl_seconds, remaining_seconds: l.remaining_seconds })
            .collect();
        all.sort_unstable_by_key(|lease| lease.id);
        all
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether this lessor counts time.
    pub fn is_primary(&self) -> bool {
        self.primary
    }

    /// An id for a client that asked for none: positive and not in use. `random` is called until it gives one, which
    /// is once unless there are very many leases.
    pub fn fresh_id(&self, mut random: impl FnMut() -> u64) -> LeaseId {
        loop {
            let id = (random() & i64::MAX as u64) as LeaseId;
            if id != 0 && !self.contains(id) {
                return id;
            }
        }
    }

    fn insert(&mut self, mut stored: Stored) -> Result<(u32, Stored), Error> {
        let id = stored.id;
        if id == 0 {
            return Err(Error::ZeroId);
        }
        if self.by_id.contains_key(&id) {
            return Err(Error::Exists { id });
        }
        stored.ttl_seconds = stored.ttl_seconds.max(self.config.min_ttl_seconds);
        stored.remaining_seconds = stored.remaining_seconds.max(0);
        let Stored { ttl_seconds, remaining_seconds, .. } = stored;
        let lease =
            Some(Lease { id, ttl_seconds, remaining_seconds, deadline_ms: NEVER, keys: BTreeSet::new() });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = lease;
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 leases fit in memory");
                self.slots.push(lease);
                slot
            }
        };
        self.by_id.insert(id, slot);
        Ok((slot, stored))
    }

    /// Gives the lease at `slot` its full time from now on.
    fn refresh(&mut self, slot: u32, now_ms: u64) {
        let deadline_ms = now_ms.saturating_add(self.lease(slot).full_ms());
        self.set_deadline(slot, deadline_ms);
        self.schedule_checkpoint(slot, now_ms);
    }

    pub(crate) fn set_deadline(&mut self, slot: u32, deadline_ms: u64) {
        // One below "never": a lease of the primary always has a deadline, however far.
        let deadline_ms = deadline_ms.min(NEVER - 1);
        self.lease_mut(slot).deadline_ms = deadline_ms;
        self.expiries.set(slot, deadline_ms);
    }

    pub(crate) fn clear_deadlines(&mut self) {
        for lease in self.slots.iter_mut().flatten() {
            lease.deadline_ms = NEVER;
        }
        self.expiries.clear();
        self.checkpoints.clear();
    }

    pub(crate) fn lease(&self, slot: u32) -> &Lease {
        self.slots[slot as usize].as_ref().expect("a slot in use holds a lease")
    }

    fn lease_mut(&mut self, slot: u32) -> &mut Lease {
        self.slots[slot as usize].as_mut().expect("a slot in use holds a lease")
    }

    fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        let slot = self.slot(id)?;
        self.slots[slot as usize].as_mut()
    }

    fn slot(&self, id: LeaseId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }
}
