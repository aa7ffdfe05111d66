//! Refusals that every member reaches alike, and failures after which a member must stop.

/// A committed request that was refused. The entry counts, nothing in the store changed (but see
/// [`NoSpace`](Refusal::NoSpace)), and whoever waits for it is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A put that keeps the value or the lease of its key found no such key.
    #[error("key not found")]
    KeyNotFound,
    /// A request without a key, which a front door should not have let through.
    #[error("key is not provided")]
    EmptyKey,
    /// The lease does not exist.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The lease exists already.
    #[error("lease already exists")]
    LeaseExists,
    /// The TTL is above the maximum.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// The revision is below (for a compaction: at or below) the compact revision.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision has not been written yet.
    #[error("required revision is a future revision")]
    Future,
    /// The quota is used up. If the alarm was raised before, nothing was done; if this very request found the file
    /// over its quota, it took effect and the alarm is about to be raised.
    #[error("database space exceeded")]
    NoSpace,
    /// A member's data is known to be corrupt.
    #[error("corrupt cluster")]
    Corrupt,
    /// A membership change that does not fit.
    #[error(transparent)]
    Membership(#[from] crate::membership::ChangeError),
    /// The payload is no request that this version knows.
    #[error("entry of unknown content: {what}")]
    Unknown {
        /// What was found.
        what: String,
    },
}

/// A failure of the member's own storage: nothing more may be applied or acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The store failed.
    #[error("entry {index} cannot be applied: {source}")]
    Store {
        /// Index of the entry.
        index: u64,
        /// What the store says.
        source: stanchion_mvcc::Error,
    },
    /// The stored state cannot be loaded.
    #[error("the stored state cannot be loaded: {what}")]
    Load {
        /// What is wrong.
        what: String,
    },
}

/// Either kind, inside the apply functions.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Store(stanchion_mvcc::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<stanchion_mvcc::Error> for Failure {
    fn from(error: stanchion_mvcc::Error) -> Self {
        use stanchion_mvcc::Error;
        Failure::Refused(match error {
            Error::Future { .. } => Refusal::Future,
            Error::Compacted { .. } => Refusal::Compacted,
            Error::KeyNotFound { .. } => Refusal::KeyNotFound,
            Error::EmptyKey => Refusal::EmptyKey,
            other => return Failure::Store(other),
        })
    }
}

impl From<stanchion_lease::Error> for Failure {
    fn from(error: stanchion_lease::Error) -> Self {
        use stanchion_lease::Error;
        Failure::Refused(match error {
            Error::Exists { .. } => Refusal::LeaseExists,
            Error::NotFound { .. } | Error::ZeroId => Refusal::LeaseNotFound,
            Error::TtlTooLarge { .. } => Refusal::LeaseTtlTooLarge,
        })
    }
}

impl From<prost::DecodeError> for Failure {
    fn from(error: prost::DecodeError) -> Self {
        Failure::Refused(Refusal::Unknown { what: error.to_string() })
    }
}
