#![doc = include_str!("../README.md")]
//!
//! Messages are generated from `proto/`; nothing here decides anything. Rust names follow prost: `peerURLs` becomes
//! [`peer_ur_ls`](etcdserverpb::Member::peer_ur_ls), `ID` becomes `id`, `TTL` becomes `ttl`.

#[cfg(feature = "json")]
pub mod json;
pub mod raft_request;

/// Includes what the build script made of one package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, rustdoc::all, clippy::all, clippy::pedantic)]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
            #[cfg(feature = "json")]
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".serde.rs"));
        }
    };
}

package!(
    /// Stored users, roles and permissions.
    authpb
);
package!(
    /// The client API: KV, Watch, Lease, Cluster, Maintenance, Auth, and the payload of log entries.
    etcdserverpb
);
package!(
    /// Stored leases and forwarded lease lookups.
    leasepb
);
package!(
    /// Membership and cluster version as they travel through the log.
    membershippb
);
package!(
    /// Stored pairs and their events.
    mvccpb
);
package!(
    /// The Election service.
    v3electionpb
);
package!(
    /// The Lock service.
    v3lockpb
);
