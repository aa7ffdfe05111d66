//! The log from outside: through its public API, on real and simulated disks.

mod bad_input;
mod committer;
mod crash;
mod damage;
mod random;
mod roundtrip;
