//! One member's deterministic core.
//!
//! What lives here: what a member decides. What may not: threads, clocks, sockets and system calls; time,
//! randomness, disk and network are arguments or outputs.

pub mod apply;
pub mod boot;
pub mod change;
pub mod consensus;
pub mod corruption;
pub mod force;
pub mod history;
pub mod journal;
pub mod membership;
#[cfg(feature = "mutants")]
pub mod mutant;
pub mod older;
mod reads;
mod release;
pub mod snapshot;
mod stall;
pub mod version;

pub use reads::{Granted, Round};
pub use release::{Release, ReleasePolicy};
