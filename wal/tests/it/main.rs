//! The log from outside: through its public API, on real and simulated disks.

mod bad_input;
mod committer;
mod crash;
mod damage;
mod dump;
mod edits;
mod random;
mod roundtrip;
mod stale;
