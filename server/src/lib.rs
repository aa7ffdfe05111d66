//! A stanchion member: configuration, threads, gRPC, HTTP and JSON around `stanchion-replica`.
//!
//! What lives here: everything that knows threads, sockets, wall clocks and tokio. What may not: decisions about
//! data; those are the replica's.

pub mod auto_compaction;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod front;
pub mod lifecycle;
pub mod listeners;
pub mod logging;
pub mod member;
pub mod metrics;
pub mod peers;
pub mod refusal;
pub mod runtime;
pub mod serve;
