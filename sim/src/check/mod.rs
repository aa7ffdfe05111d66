//! What must hold, always. Each check returns in words what it saw when it does not.
//!
//! `ledger`: the one history that the cluster agreed on, and what each entry of it must do, by a model that shares no
//! code with the store. `clients`: what clients were told, against that history and real time. `elections`: leaders of
//! terms. `watch`: what watchers were told. `leases`: when leases ran out. `holders`: who held which lock and led which
//! election of clients; `observer`: what was seen of it.

pub(crate) mod clients;
mod elections;
mod holders;
mod leases;
mod ledger;
mod model;
mod observer;
mod watch;

pub use clients::Clients;
pub use elections::Elections;
pub use holders::{Holder, Holders};
pub use leases::LeaseClock;
pub use ledger::Ledger;
pub use model::{Change, Model};
pub use observer::Observed;
pub use watch::WatchState;
pub(crate) use watch::change;

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
