//! The log from outside: through its public API, on real and simulated disks.

mod committer;
mod crash;
mod damage;
mod random;
mod roundtrip;
