//! One rule, one test: each looks at a single node (`Solo`) or a few (`crate::cluster`). `raft/tests/README.md` says which
//! behaviour is shown where; what takes a conversation is told by a script in `raft/tests/scenarios`.
#![allow(unreachable_pub, reason = "parts of one test module")]

mod commits;
mod elections;
mod flow;
mod logs;
mod members;
mod proposals;
mod readies;
mod reads;
mod restarts;
mod snapshots;
pub mod solo;
mod terms;
mod timers;
mod transfers;
