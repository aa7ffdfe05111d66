//! When leases run out: never before their time by the clock of the member that counts it.

use std::collections::BTreeMap;

use super::{Check, hold};

/// What one start of a member may do to leases, by its own clock.
#[derive(Debug, Default)]
pub struct LeaseClock {
    /// The earliest time at which each lease may be offered for revocation, in milliseconds.
    earliest: BTreeMap<i64, u64>,
}

impl LeaseClock {
    /// The member begins to count: every lease has its whole TTL again.
    pub fn promoted(&mut self, now_ms: u64, leases: impl Iterator<Item = (i64, i64)>) {
        self.earliest = leases.map(|(id, ttl)| (id, now_ms + ttl.cast_unsigned() * 1000)).collect();
    }

    /// The member counts no longer.
    pub fn demoted(&mut self) {
        self.earliest.clear();
    }

    /// A lease was granted or renewed while the member counts.
    pub fn renewed(&mut self, now_ms: u64, id: i64, ttl: i64) {
        self.earliest.insert(id, now_ms + ttl.cast_unsigned() * 1000);
    }

    /// The member holds a lease to have run out.
    ///
    /// # Errors
    /// It has not.
    pub fn expired(&self, member: u64, now_ms: u64, id: i64) -> Check {
        let earliest = self.earliest.get(&id).copied();
        hold!(
            earliest.is_some_and(|earliest| earliest <= now_ms),
            "member {member:x} lets lease {id:x} run out at {now_ms} ms by its clock, not before {earliest:?}"
        );
        Ok(())
    }
}
