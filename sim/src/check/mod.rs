//! What must hold, always. Each check returns in words what it saw when it does not.
//!
//! `ledger`: the one history that the cluster agreed on, and what each entry of it must do, by a model that shares no
//! code with the store. `clients`: what clients were told, against that history and real time. `raft`: elections.
//! `watch`: what watchers were told. `leases`: when leases ran out. `locks`: who held what.

pub(crate) mod clients;
mod elections;
mod leases;
mod ledger;
mod locks;
mod model;
mod watch;

pub use clients::Clients;
pub use elections::Elections;
pub use leases::LeaseClock;
pub use ledger::Ledger;
pub use locks::Locks;
pub use model::Model;
pub use watch::WatchState;

/// What a check says: nothing, or what is wrong.
pub type Check = Result<(), String>;

/// Returns from a check with what is wrong, unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}
pub(crate) use hold;
