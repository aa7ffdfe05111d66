//! What measures a server: the load generator behind the `load` binary, and the side-by-side runs behind `compare`.
//!
//! The engine (arrivals, clients, histograms, report) knows no workload, and no workload knows how often it is asked or
//! what becomes of its latencies. Nothing here depends on our server: any etcd v3 endpoint can be measured.

mod arrival;
mod cluster;
pub mod compare;
mod echo;
mod engine;
mod error;
mod keys;
pub mod load;
mod proc;
mod record;
mod report;
mod wire;
mod workloads;

pub use error::Failure;
pub use report::{Ceiling, KindReport, Report, ServerReport};
