//! The real binary: how it starts and ends, and what it shows of itself.

mod lifecycle;
mod log;
mod maintenance;
mod metrics;
mod process;
mod versions;
