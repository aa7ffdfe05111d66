//! When leases run out: never before their time by the clock of the member that counts it.

use std::collections::BTreeMap;

use stanchion_lease::Stored;

use super::{Check, hold};

/// What one start of a member may do to leases, by its own clock.
#[derive(Debug, Default)]
pub struct LeaseClock {
    /// The earliest time at which each lease may be offered for revocation, in milliseconds.
    earliest: BTreeMap<i64, u64>,
}

impl LeaseClock {
    /// The member begins to count: every lease has its whole TTL again, or the rest that was checkpointed, and at most
    /// `extend_ms` more. `left` tells the seconds that the member gives a lease.
    ///
    /// # Errors
    /// It gives one more.
    pub fn promoted(
        &mut self,
        member: u64,
        (now_ms, extend_ms): (u64, u64),
        leases: &[Stored],
        left: impl Fn(i64) -> Option<i64>,
    ) -> Check {
        self.earliest.clear();
        for lease in leases {
            let seconds =
                if lease.remaining_seconds > 0 { lease.remaining_seconds } else { lease.ttl_seconds };
            let (given, most) = (left(lease.id), seconds + extend_ms.div_ceil(1000).cast_signed());
            hold!(
                given.is_some_and(|given| given <= most),
                "member {member:x}, now primary, gives lease {:x} {given:?} s, at most {most} are left of it",
                lease.id
            );
            self.earliest.insert(lease.id, now_ms + seconds.cast_unsigned() * 1000);
        }
        Ok(())
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
