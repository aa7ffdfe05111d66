//! The crate as its users see it. One binary; every module looks at one topic.

mod cluster;
mod elections;
mod hostile;
mod membership;
mod reads;
mod replication;
mod wire;
