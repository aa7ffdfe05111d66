//! Who belongs to the cluster: ids, members, and the rules of changing them.
//!
//! Plain values: what is stored and what is sent is decided by the callers.

mod cluster;
mod id;
mod member;
mod v2;

pub use cluster::{Change, ChangeError, Cluster};
pub use id::{RequestIds, added_member_id, bootstrap_member_id, cluster_id};
pub use member::{ChangeContext, Member};
pub use v2::{from_v2_json, to_v2_json};

#[cfg(test)]
mod tests;
