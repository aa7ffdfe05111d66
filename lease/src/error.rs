//! What can go wrong with a lease, with the facts in it.

use crate::{LeaseId, MAX_TTL_SECONDS};

/// A refused change. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The id is taken.
    #[error("lease {id:#x} already exists")]
    Exists {
        /// The id that was asked for.
        id: LeaseId,
    },
    /// No such lease.
    #[error("lease {id:#x} not found")]
    NotFound {
        /// The id that was asked for.
        id: LeaseId,
    },
    /// The TTL is above [`MAX_TTL_SECONDS`].
    #[error("lease TTL of {ttl_seconds} s is above the maximum of {MAX_TTL_SECONDS} s")]
    TtlTooLarge {
        /// The TTL that was asked for, in seconds.
        ttl_seconds: i64,
    },
    /// Zero is not an id: it is how clients ask for a fresh one (see [`crate::Lessor::fresh_id`]).
    #[error("lease id 0 cannot be granted")]
    ZeroId,
}

/// Why a lease was not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// Only the primary counts time; ask the leader.
    #[error("not a primary lessor")]
    NotPrimary,
    /// No such lease, or it was revoked.
    #[error("lease {id:#x} not found")]
    NotFound {
        /// The id that was asked for.
        id: LeaseId,
    },
    /// The lease ran out and its revoke is under way: ask again when it is gone or the primary has changed. It must
    /// not be reported as renewed.
    #[error("lease {id:#x} ran out {late_ms} ms ago and is being revoked")]
    Expired {
        /// The id that was asked for.
        id: LeaseId,
        /// How long ago the deadline passed, in milliseconds.
        late_ms: u64,
    },
}
