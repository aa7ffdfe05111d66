//! Members over loopback in one process, and raw bytes against the peer port.

mod codec;
mod exchange;
mod harness;
mod kept;
mod log;
mod port;
mod snapshots;
